/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "metadata/keyfile.h"

struct keyfile {
    GKeyFile *file;
    char *what;
    char **groups;
};

/* Where the scan for duplicates is. */
struct scan {
    const char *what;
    GHashTable *seen; /* "group" or "group]key" -> line */
    char *group;
    unsigned line;
};

static void scan_clear(struct scan *scan)
{
    g_clear_pointer(&scan->seen, g_hash_table_unref);
    g_clear_pointer(&scan->group, g_free);
}
#define AUTO_SCAN __attribute__((cleanup(scan_clear))) struct scan

/* The line where NAME (taken) was seen before, or 0. */
static unsigned scan_enter(struct scan *scan, char *name)
{
    unsigned before = GPOINTER_TO_UINT(g_hash_table_lookup(scan->seen, name));

    g_hash_table_insert(scan->seen, name, GUINT_TO_POINTER(scan->line));
    return before;
}

static bool scan_group(struct scan *scan, char *line, GError **error)
{
    char *end = strchr(line, ']');
    unsigned before;

    if (!end || end[1] != '\0' || end == line + 1)
        return fail(error, ERROR_CONFIG, "%s: line %u: '%s' is not a [group]", scan->what,
                    scan->line, line);
    *end = '\0';
    g_free(scan->group);
    scan->group = g_strdup(line + 1);
    before = scan_enter(scan, g_strdup(scan->group));
    if (before)
        return fail(error, ERROR_CONFIG,
                    "%s: [%s]: is there twice, in lines %u and %u: each group once", scan->what,
                    scan->group, before, scan->line);
    return true;
}

#define WORD_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789-"

/* A word, perhaps with more of them behind: "limit mon..fri 08:00-18:00". */
static bool key_is_valid(const char *key)
{
    size_t word = strspn(key, WORD_CHARACTERS);
    const char *rest = key + word;

    return word > 0 && (*rest == '\0' ||
                        (*rest == ' ' && strspn(rest, WORD_CHARACTERS " .,:") == strlen(rest)));
}

static bool scan_key(struct scan *scan, char *line, GError **error)
{
    char *equals = strchr(line, '=');
    unsigned before;

    if (!equals || *line == ';')
        return fail(
            error, ERROR_CONFIG,
            "%s: line %u: '%s' is neither [group] nor key = value (a comment starts with #)",
            scan->what, scan->line, line);
    *equals = '\0';
    g_strchomp(line);
    if (!key_is_valid(line))
        return fail(error, ERROR_CONFIG,
                    "%s: line %u: '%s' is not a key: keys are words of a-z, 0-9 and -", scan->what,
                    scan->line, line);
    if (!scan->group)
        return fail(error, ERROR_CONFIG, "%s: line %u: %s stands before the first [group]",
                    scan->what, scan->line, line);
    before = scan_enter(scan, g_strdup_printf("%s]%s", scan->group, line));
    if (before)
        return fail(error, ERROR_CONFIG,
                    "%s: [%s] %s: is there twice, in lines %u and %u: each key once", scan->what,
                    scan->group, line, before, scan->line);
    return true;
}

/* Finds what GKeyFile accepts in silence. Its view of lines is the same as ours. */
static bool scan_text(const char *text, const char *what, GError **error)
{
    AUTO_SCAN scan = {.what = what};
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    scan.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (char **next = lines; *next; next++) {
        char *line = g_strstrip(*next);

        scan.line++;
        if (*line == '\0' || *line == '#')
            continue;
        if (!(*line == '[' ? scan_group : scan_key)(&scan, line, error))
            return false;
    }
    return true;
}

static bool check_utf8(const char *text, size_t len, const char *what, GError **error)
{
    const char *end;
    unsigned line = 1;

    if (g_utf8_validate_len(text, len, &end))
        return true;
    for (const char *at = text; at < end; at++)
        line += *at == '\n';
    return fail(error, ERROR_CONFIG, "%s: line %u: is not UTF-8 text", what, line);
}

struct keyfile *keyfile_parse(const char *text, size_t len, const char *what, GError **error)
{
    AUTO(keyfile) keyfile = g_new0(struct keyfile, 1);
    g_autoptr(GError) problem = NULL;
    g_autofree char *copy = NULL;

    if (!check_utf8(text, len, what, error))
        return NULL;
    copy = g_strndup(text, len);
    if (!scan_text(copy, what, error))
        return NULL;
    keyfile->what = g_strdup(what);
    keyfile->file = g_key_file_new();
    if (!g_key_file_load_from_data(keyfile->file, copy, len, G_KEY_FILE_NONE, &problem)) {
        fail(error, ERROR_CONFIG, "%s: %s", what, problem->message);
        return NULL;
    }
    keyfile->groups = g_key_file_get_groups(keyfile->file, NULL);
    return g_steal_pointer(&keyfile);
}

void keyfile_free(struct keyfile *keyfile)
{
    if (!keyfile)
        return;
    g_clear_pointer(&keyfile->file, g_key_file_unref);
    g_strfreev(keyfile->groups);
    g_free(keyfile->what);
    g_free(keyfile);
}

char **keyfile_groups(const struct keyfile *keyfile)
{
    return keyfile->groups;
}

bool keyfile_fail(const struct keyfile *keyfile, const char *group, const char *key, GError **error,
                  const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    return fail(error, ERROR_CONFIG, "%s: [%s]%s%s: %s", keyfile->what, group, key ? " " : "",
                key ? key : "", text);
}

bool keyfile_has(const struct keyfile *keyfile, const char *group, const char *key)
{
    return g_key_file_has_key(keyfile->file, group, key, NULL);
}

char **keyfile_keys(const struct keyfile *keyfile, const char *group)
{
    return g_key_file_get_keys(keyfile->file, group, NULL, NULL);
}

static bool is_known(const char *key, const char *const *known)
{
    const char *blank = strchr(key, ' ');

    for (; *known; known++)
        if (blank ? strncmp(*known, key, (size_t)(blank - key) + 1) == 0 : strcmp(*known, key) == 0)
            return true;
    return false;
}

bool keyfile_check_keys(const struct keyfile *keyfile, const char *group, const char *const *known,
                        GError **error)
{
    g_auto(GStrv) keys = keyfile_keys(keyfile, group);

    for (char **key = keys; key && *key; key++) {
        g_autofree char *list = NULL;

        if (is_known(*key, known))
            continue;
        list = g_strjoinv(", ", (char **)known);
        return keyfile_fail(keyfile, group, *key, error, "there is no such key; there are %s",
                            list);
    }
    return true;
}

static bool check_text(const struct keyfile *keyfile, const char *group, const char *key,
                       const char *text, GError **error)
{
    if (!*text)
        return keyfile_fail(keyfile, group, key, error,
                            "is empty: give a value or remove the line");
    for (const char *at = text; *at; at++)
        if (g_ascii_iscntrl(*at))
            return keyfile_fail(keyfile, group, key, error, "has a control character in it");
    return true;
}

bool keyfile_string(const struct keyfile *keyfile, const char *group, const char *key, char **out,
                    GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *text = NULL;

    if (!keyfile_has(keyfile, group, key))
        return true;
    /* With a wrong escape there are both a text and an error. */
    text = g_key_file_get_string(keyfile->file, group, key, &problem);
    if (problem)
        return keyfile_fail(keyfile, group, key, error,
                            "cannot be read: a backslash is written as two");
    if (!check_text(keyfile, group, key, g_strstrip(text), error))
        return false;
    g_free(*out);
    *out = g_steal_pointer(&text);
    return true;
}

bool keyfile_list(const struct keyfile *keyfile, const char *group, const char *key, char ***out,
                  GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_auto(GStrv) list = NULL;

    if (!keyfile_has(keyfile, group, key))
        return true;
    list = g_key_file_get_string_list(keyfile->file, group, key, NULL, &problem);
    if (problem)
        return keyfile_fail(keyfile, group, key, error,
                            "cannot be read: a backslash is written as two");
    if (!list || !list[0])
        return check_text(keyfile, group, key, "", error);
    for (char **item = list; *item; item++) {
        if (!check_text(keyfile, group, key, g_strstrip(*item), error))
            return false;
        for (char **other = list; other < item; other++)
            if (strcmp(*other, *item) == 0)
                return keyfile_fail(keyfile, group, key, error, "'%s' is there twice", *item);
    }
    g_strfreev(*out);
    *out = g_steal_pointer(&list);
    return true;
}

bool keyfile_word(const struct keyfile *keyfile, const char *group, const char *key,
                  const char *const *words, unsigned *out, GError **error)
{
    g_autofree char *text = NULL, *list = NULL;

    if (!keyfile_string(keyfile, group, key, &text, error))
        return false;
    if (!text)
        return true;
    for (unsigned i = 0; words[i]; i++) {
        if (strcmp(words[i], text) != 0)
            continue;
        *out = i;
        return true;
    }
    list = g_strjoinv(", ", (char **)words);
    return keyfile_fail(keyfile, group, key, error, "'%s' is not one of %s", text, list);
}

bool keyfile_switch(const struct keyfile *keyfile, const char *group, const char *key, bool *out,
                    GError **error)
{
    static const char *const words[] = {"no", "yes", NULL};
    unsigned word = *out;

    if (!keyfile_word(keyfile, group, key, words, &word, error))
        return false;
    *out = word == 1;
    return true;
}

bool keyfile_number(const struct keyfile *keyfile, const char *group, const char *key, int64_t min,
                    int64_t max, int64_t *out, GError **error)
{
    g_autofree char *text = NULL;
    int64_t value;

    if (!keyfile_string(keyfile, group, key, &text, error))
        return false;
    if (!text)
        return true;
    if (!g_ascii_string_to_signed(text, 10, min, max, &value, NULL))
        return keyfile_fail(keyfile, group, key, error,
                            "'%s' is not a whole number from %" PRId64 " to %" PRId64, text, min,
                            max);
    *out = value;
    return true;
}

bool keyfile_duration(const struct keyfile *keyfile, const char *group, const char *key,
                      int64_t min_ms, int64_t max_ms, int64_t *out_ms, GError **error)
{
    g_autofree char *text = NULL, *min = NULL, *max = NULL;
    int64_t value;

    if (!keyfile_string(keyfile, group, key, &text, error))
        return false;
    if (!text)
        return true;
    if (duration_parse(text, &value, NULL) && value >= min_ms && value <= max_ms) {
        *out_ms = value;
        return true;
    }
    min = duration_format((double)min_ms / 1000);
    max = duration_format((double)max_ms / 1000);
    return keyfile_fail(keyfile, group, key, error,
                        "'%s' is not a duration from %s to %s, such as 30s or 5min", text, min,
                        max);
}
