/* SPDX-License-Identifier: Apache-2.0 */
/* Reading drctl.conf: what its readers share. */
#pragma once

#include "metadata/config.h"
#include "metadata/keyfile.h"

/* One group being read. */
struct reader {
    const struct keyfile *keyfile;
    const char *group;
    const char *name; /* "dr1" of [remote dr1]; NULL for [site] */
    struct config *config;
};

/* BASE is what a relative path is relative to; NULL: it must be absolute. A key that is not there changes nothing. */
bool config_read_path(const struct reader *reader, const char *key, const char *base, char **out,
                      GError **error);
/* Which points stay, of a site or of a protection. */
bool config_read_keep(const struct reader *reader, struct retention *keep, GError **error);
/* [protection NAME], and [template NAME] for several of them */
bool config_read_protection(const struct reader *reader, GError **error);
bool config_read_template(const struct reader *reader, GError **error);
void protection_free(void *protection);
/* When a protection is due. */
bool config_read_schedule(const struct reader *reader, struct protection *protection,
                          GError **error);
/* [daemon] */
bool config_read_daemon(const struct reader *reader, GError **error);
/* [copy NAME] */
bool config_read_copy(const struct reader *reader, GError **error);
void copy_rule_free(void *rule);
/* [web] */
void web_config_init(struct web_config *web, const char *dir);
void web_config_clear(struct web_config *web);
bool config_read_web(const struct reader *reader, GError **error);
/* [alert NAME] */
bool config_read_alert(const struct reader *reader, GError **error);
void alert_free(void *alert);
