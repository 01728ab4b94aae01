/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/selection.h"

#include <fnmatch.h>
#include <string.h>

#include "metadata/manifest.h"

#define TAG_PREFIX "tag:"

static const char *tag_of(const char *entry)
{
    return g_str_has_prefix(entry, TAG_PREFIX) ? entry + strlen(TAG_PREFIX) : NULL;
}

bool selection_is_pattern(const char *entry)
{
    return tag_of(entry) || strpbrk(entry, "*?[");
}

/* A comma may be part of a VM's name, but "db, app" was meant as a list. */
bool selection_is_valid(const char *entry, const char **why)
{
    const char *tag = tag_of(entry);

    *why = NULL;
    if (tag && !name_is_safe(tag))
        *why = "is not a tag: use letters, digits, '.', '_' and '-'";
    else if (!vm_name_is_valid(entry))
        *why = "is not the name of a VM";
    else if (strstr(entry, ", ") || g_str_has_suffix(entry, ","))
        *why = "names are separated by ';'";
    return !*why;
}

bool protection_is_open(const struct protection *protection)
{
    return protection->patterns != NULL;
}

static bool any_tag(char *const *entries)
{
    for (; entries && *entries; entries++)
        if (tag_of(*entries))
            return true;
    return false;
}

bool protection_has_tags(const struct protection *protection)
{
    return any_tag(protection->patterns) || any_tag(protection->exclude);
}

/* A VM may be called as a pattern is written. */
static bool pattern_selects(const char *pattern, const char *name)
{
    return strcmp(pattern, name) == 0 || fnmatch(pattern, name, 0) == 0;
}

static bool any_selects(char *const *entries, const char *name, char *const *tags)
{
    for (; entries && *entries; entries++) {
        const char *tag = tag_of(*entries);

        if (tag ? tags && g_strv_contains((const char *const *)tags, tag)
                : pattern_selects(*entries, name))
            return true;
    }
    return false;
}

bool protection_selects(const struct protection *protection, const char *name, char *const *tags)
{
    return any_selects(protection->patterns, name, tags) &&
           !any_selects(protection->exclude, name, tags);
}

const struct protection *protection_that_selects(const struct config *config,
                                                 const char *destination, const char *name,
                                                 char *const *tags)
{
    for (unsigned i = 0; i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];

        if (g_str_equal(protection->destination, destination) &&
            protection_selects(protection, name, tags))
            return protection;
    }
    return NULL;
}

char *protection_patterns_text(const struct protection *protection)
{
    g_autofree char *patterns = g_strjoinv("; ", protection->patterns);
    g_autofree char *exclude = protection->exclude ? g_strjoinv("; ", protection->exclude) : NULL;

    return exclude ? g_strdup_printf("%s without %s", patterns, exclude)
                   : g_steal_pointer(&patterns);
}

char **tags_parse(const char *text)
{
    AUTO(xml) xml = text ? xml_parse(text, "tags", NULL) : NULL;
    g_autofree char *words = xml ? xml_string(xml_root(xml), "text()") : NULL;
    g_autoptr(GPtrArray) tags = g_ptr_array_new();
    g_auto(GStrv) split = g_strsplit_set(words ? words : "", " \t\r\n;,", -1);

    for (char **word = split; *word; word++)
        if (**word)
            g_ptr_array_add(tags, g_strdup(*word));
    g_ptr_array_add(tags, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&tags), FALSE);
}
