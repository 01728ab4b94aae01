/* SPDX-License-Identifier: Apache-2.0 */
/* What drctl.conf says about protections: [protection NAME] and [template NAME]. */
#include <string.h>

#include "metadata/config-private.h"
#include "metadata/selection.h"

#define QUIESCE_MIN_MS 1000
#define QUIESCE_MAX_MS (10 * 60 * 1000)

/* Of enum quiesce and of enum group_mode. */
static const char *const mode_names[] = {"off", "try", "require", NULL};

void protection_free(void *data)
{
    struct protection *protection = data;

    g_free(protection->name);
    g_free(protection->vapp);
    g_strfreev(protection->vms);
    g_strfreev(protection->patterns);
    g_strfreev(protection->exclude);
    g_free(protection->destination);
    calendar_free(protection->at);
    g_free(protection);
}

static bool check_entries(const struct reader *reader, const char *key, char *const *entries,
                          GError **error)
{
    const char *why;

    for (; entries && *entries; entries++)
        if (!selection_is_valid(*entries, &why))
            return keyfile_fail(reader->keyfile, reader->group, key, error, "'%s'%s%s", *entries,
                                g_str_has_prefix(why, "is") ? " " : ": ", why);
    return true;
}

/* Whole names stay in `vms`: for them nobody must be asked. */
static void split_patterns(struct protection *protection)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new(), patterns = g_ptr_array_new();

    for (char **entry = protection->vms; entry && *entry; entry++)
        g_ptr_array_add(selection_is_pattern(*entry) ? patterns : names, *entry);
    if (patterns->len == 0)
        return;
    g_ptr_array_add(names, NULL);
    g_ptr_array_add(patterns, NULL);
    g_free(protection->vms);
    protection->vms = (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
    protection->patterns = (char **)g_ptr_array_free(g_steal_pointer(&patterns), FALSE);
}

static bool read_subject(const struct reader *reader, struct protection *protection, GError **error)
{
    if (!keyfile_string(reader->keyfile, reader->group, "vapp", &protection->vapp, error) ||
        !keyfile_list(reader->keyfile, reader->group, "vms", &protection->vms, error))
        return false;
    if (protection->vapp && protection->vms)
        return keyfile_fail(reader->keyfile, reader->group, "vms", error,
                            "stands beside vapp: give one of the two");
    if (!protection->vapp && !protection->vms)
        return keyfile_fail(reader->keyfile, reader->group, "vapp", error,
                            "is missing, as is vms: give one of the two");
    if (protection->vapp && !name_is_safe(protection->vapp))
        return keyfile_fail(reader->keyfile, reader->group, "vapp", error,
                            "'%s' is not the name of a vApp: use letters, digits, '.', '_' and '-'",
                            protection->vapp);
    if (!check_entries(reader, "vms", protection->vms, error))
        return false;
    split_patterns(protection);
    return true;
}

/* What a template can say, too. What is not there stays as it is. */
static bool read_settings(const struct reader *reader, struct protection *protection,
                          GError **error)
{
    unsigned quiesce = protection->quiesce, group = protection->group;
    int64_t timeout_ms = INT64_C(1000) * protection->quiesce_timeout_s;
    int64_t compression = protection->compression;

    if (!keyfile_list(reader->keyfile, reader->group, "exclude", &protection->exclude, error) ||
        !check_entries(reader, "exclude", protection->exclude, error) ||
        !keyfile_string(reader->keyfile, reader->group, "destination", &protection->destination,
                        error) ||
        !keyfile_word(reader->keyfile, reader->group, "quiesce", mode_names, &quiesce, error) ||
        !keyfile_duration(reader->keyfile, reader->group, "quiesce-timeout", QUIESCE_MIN_MS,
                          QUIESCE_MAX_MS, &timeout_ms, error) ||
        !keyfile_word(reader->keyfile, reader->group, "group", mode_names, &group, error) ||
        !keyfile_number(reader->keyfile, reader->group, "compression", 1, 19, &compression,
                        error) ||
        !config_read_keep(reader, &protection->keep, error) ||
        !config_read_schedule(reader, protection, error))
        return false;
    protection->quiesce = (enum quiesce)quiesce;
    protection->quiesce_timeout_s = (unsigned)((timeout_ms + 999) / 1000);
    protection->group = (enum group_mode)group;
    protection->compression = (int)compression;
    return true;
}

static struct protection *protection_new(const char *name)
{
    struct protection *protection = g_new0(struct protection, 1);

    protection->name = g_strdup(name);
    protection->quiesce = QUIESCE_TRY;
    protection->quiesce_timeout_s = 10;
    protection->compression = 1;
    return protection;
}

#define SETTING_KEYS                                                                               \
    "exclude", "destination", "quiesce", "quiesce-timeout", "group", "compression", "keep", "rpo", \
        "at", NULL

/* Also one that nobody is like must be right. */
bool config_read_template(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {SETTING_KEYS};
    struct protection *scratch = protection_new(reader->name);
    bool ok = keyfile_check_keys(reader->keyfile, reader->group, keys, error) &&
              read_settings(reader, scratch, error);

    protection_free(scratch);
    return ok;
}

static bool read_like(const struct reader *reader, struct protection *protection, GError **error)
{
    g_autofree char *name = NULL, *group = NULL;
    struct reader template = *reader;

    if (!keyfile_string(reader->keyfile, reader->group, "like", &name, error))
        return false;
    if (!name)
        return true;
    group = g_strdup_printf("template %s", name);
    if (!g_strv_contains((const char *const *)keyfile_groups(reader->keyfile), group))
        return keyfile_fail(reader->keyfile, reader->group, "like", error,
                            "there is no [template %s]", name);
    template.group = group;
    return read_settings(&template, protection, error);
}

bool config_read_protection(const struct reader *reader, GError **error)
{
    static const char *const keys[] = {"vapp", "vms", "like", SETTING_KEYS};
    struct protection *protection = protection_new(reader->name);

    g_ptr_array_add(reader->config->protections, protection);
    if (!keyfile_check_keys(reader->keyfile, reader->group, keys, error) ||
        !read_subject(reader, protection, error))
        return false;
    protection->group = protection->vapp ? GROUP_TRY : GROUP_OFF;
    if (!read_like(reader, protection, error) || !read_settings(reader, protection, error))
        return false;
    return protection_is_open(protection) ||
           !keyfile_has(reader->keyfile, reader->group, "exclude") ||
           keyfile_fail(reader->keyfile, reader->group, "exclude", error,
                        "there is no pattern and no tag in vms of which anything could be left "
                        "out: name in vms what is meant");
}
