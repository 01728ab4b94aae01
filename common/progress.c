/* SPDX-License-Identifier: Apache-2.0 */
#include "common/progress.h"

void progress_note(struct progress *progress, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    if (!progress || !progress->note)
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    progress->note(progress, text);
}

void progress_bytes(struct progress *progress, const char *subject, uint64_t done, uint64_t total)
{
    if (progress && progress->bytes)
        progress->bytes(progress, subject, done, total);
}
