/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text in the key-file syntax that administrators know from systemd, read strictly: GKeyFile merges
 * groups of one name, lets the last of two equal keys win and drops keys with a locale; here all that
 * is refused. Comments are whole lines that start with '#'. Every error is ERROR_CONFIG and starts
 * with "WHAT: [group] key: ", or "WHAT: line N: " where there is no key to name.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/common.h"

struct keyfile;

/* WHAT is the name of the file for messages. */
struct keyfile *keyfile_parse(const char *text, size_t len, const char *what, GError **error);
void keyfile_free(struct keyfile *keyfile);
DEFINE_CLEANUP(keyfile)

/* Names of the groups in file order, NULL-terminated; borrowed. */
char **keyfile_groups(const struct keyfile *keyfile);
/* The keys of GROUP in file order, NULL-terminated; g_strfreev. */
char **keyfile_keys(const struct keyfile *keyfile, const char *group);
/* Are all keys of GROUP among KNOWN (NULL-terminated)? A key may have words of its own behind its name:
 * KNOWN says "limit WINDOW" for "limit mon..fri" and all of the kind. */
bool keyfile_check_keys(const struct keyfile *keyfile, const char *group, const char *const *known,
                        GError **error);
bool keyfile_has(const struct keyfile *keyfile, const char *group, const char *key);
/* ERROR_CONFIG "WHAT: [group] key: ..."; KEY may be NULL. */
bool keyfile_fail(const struct keyfile *keyfile, const char *group, const char *key, GError **error,
                  const char *format, ...) G_GNUC_PRINTF(5, 6);

/* The readers return false only for a wrong value. A key that is not there leaves *OUT as it is, so
 * that the default stands there before; a string or list replaces *OUT, which is freed. */
/* Not empty, no control characters, blanks around it removed. */
bool keyfile_string(const struct keyfile *keyfile, const char *group, const char *key, char **out,
                    GError **error);
/* Separated by ';', at least one, none twice; g_strfreev. */
bool keyfile_list(const struct keyfile *keyfile, const char *group, const char *key, char ***out,
                  GError **error);
/* The index of the value in WORDS (NULL-terminated). */
bool keyfile_word(const struct keyfile *keyfile, const char *group, const char *key,
                  const char *const *words, unsigned *out, GError **error);
/* yes or no. */
bool keyfile_switch(const struct keyfile *keyfile, const char *group, const char *key, bool *out,
                    GError **error);
bool keyfile_number(const struct keyfile *keyfile, const char *group, const char *key, int64_t min,
                    int64_t max, int64_t *out, GError **error);
/* duration_parse(), from MIN_MS to MAX_MS. */
bool keyfile_duration(const struct keyfile *keyfile, const char *group, const char *key,
                      int64_t min_ms, int64_t max_ms, int64_t *out_ms, GError **error);
