/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/finding.h"

struct findings *findings_new(void)
{
    struct findings *findings = g_new0(struct findings, 1);

    findings->remarks = g_ptr_array_new_with_free_func(g_free);
    findings->blockers = g_ptr_array_new_with_free_func(g_free);
    return findings;
}

void findings_free(struct findings *findings)
{
    if (!findings)
        return;
    g_ptr_array_unref(findings->remarks);
    g_ptr_array_unref(findings->blockers);
    g_free(findings);
}

void remark(struct findings *findings, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(findings->remarks, g_strdup_vprintf(format, args));
    va_end(args);
}

void block(struct findings *findings, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(findings->blockers, g_strdup_vprintf(format, args));
    va_end(args);
}

static void append(GPtrArray *list, const GPtrArray *texts)
{
    for (unsigned i = 0; i < texts->len; i++)
        g_ptr_array_add(list, g_strdup(texts->pdata[i]));
}

void findings_append(struct findings *findings, const struct findings *from)
{
    append(findings->remarks, from->remarks);
    append(findings->blockers, from->blockers);
}

GPtrArray *findings_list(const struct findings *findings, bool *blocked)
{
    GPtrArray *list = g_ptr_array_new_with_free_func(g_free);

    append(list, findings->remarks);
    append(list, findings->blockers);
    *blocked = findings->blockers->len > 0;
    return list;
}
