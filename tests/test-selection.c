/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <string.h>

#include "metadata/metadata.h"

#define SITE "[site]\nname = dc1\n"

static struct config *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *whole = g_strconcat(SITE, text, NULL);
    struct config *config = config_parse(whole, strlen(whole), "/etc/drctl", &error);

    unit_ok(config, error);
    return config;
}

START_TEST(names_stay_names_and_all_else_is_a_pattern)
{
    AUTO(config)
    config = parse("[protection web]\nvms = db; web-*; tag:prod; git server; a?\n"
                   "destination = local\n[protection one]\nvms = db2\n"
                   "destination = local\n");
    const struct protection *web = config->protections->pdata[0];
    const struct protection *one = config->protections->pdata[1];
    g_autofree char *names = g_strjoinv("|", web->vms);
    g_autofree char *patterns = g_strjoinv("|", web->patterns);

    ck_assert_str_eq(names, "db|git server");
    ck_assert_str_eq(patterns, "web-*|tag:prod|a?");
    ck_assert(protection_is_open(web));
    ck_assert(!protection_is_open(one));
    ck_assert_ptr_null(one->exclude);
}
END_TEST

START_TEST(patterns_and_tags_mean_what_is_not_excluded)
{
    AUTO(config)
    config = parse("[protection web]\nvms = web-*; tag:prod\n"
                   "exclude = web-test; tag:scratch\ndestination = local\n"
                   "[protection odd]\nvms = db[1]\ndestination = local\n");
    const struct protection *web = config->protections->pdata[0];
    const struct protection *odd = config->protections->pdata[1];
    char *prod[] = {(char *)"x", (char *)"prod", NULL};
    char *both[] = {(char *)"prod", (char *)"scratch", NULL};

    ck_assert(protection_selects(web, "web-1", NULL));
    ck_assert(protection_selects(web, "db", prod));
    ck_assert(!protection_selects(web, "db", NULL));
    ck_assert(!protection_selects(web, "prod", NULL));
    ck_assert(!protection_selects(web, "web-test", prod));
    ck_assert(!protection_selects(web, "web-1", both));
    ck_assert(!protection_selects(web, "my web-1", NULL));
    /* One that libvirt knows by such a name. */
    ck_assert(protection_selects(web, "web-*", NULL));
    ck_assert(protection_selects(odd, "db[1]", NULL));
    ck_assert(protection_selects(odd, "db1", NULL));
}
END_TEST

START_TEST(tags_are_the_words_of_the_element)
{
    g_auto(GStrv) none = tags_parse(NULL);
    g_auto(GStrv) broken = tags_parse("<tags>");
    g_auto(GStrv) tags =
        tags_parse("<drctl:tags xmlns:drctl='" TAGS_NAMESPACE "'> prod\n  web; x</drctl:tags>");
    g_autofree char *joined = g_strjoinv("|", tags);

    ck_assert_ptr_null(none[0]);
    ck_assert_ptr_null(broken[0]);
    ck_assert_str_eq(joined, "prod|web|x");
}
END_TEST

START_TEST(a_template_says_what_a_protection_does_not)
{
    AUTO(config)
    config = parse("[protection web]\nvms = web-*\nlike = t\nrpo = 15min\ncompression = 3\n"
                   "[protection shop]\nvapp = shop\nlike = t\n"
                   "[template t]\ndestination = local\nrpo = 1h\nkeep = daily=3\nexclude = web-9\n"
                   "quiesce = off\nquiesce-timeout = 3s\n");
    const struct protection *web = config->protections->pdata[0];
    const struct protection *shop = config->protections->pdata[1];

    ck_assert_str_eq(web->destination, "local");
    ck_assert_int_eq(web->rpo_ms, 15 * 60 * 1000);
    ck_assert_int_eq(web->compression, 3);
    ck_assert_uint_eq(web->keep.keep[RETENTION_DAILY], 3);
    ck_assert_int_eq(web->quiesce, QUIESCE_OFF);
    ck_assert_uint_eq(web->quiesce_timeout_s, 3);
    ck_assert_int_eq(web->group, GROUP_OFF);
    ck_assert(!protection_selects(web, "web-9", NULL));
    ck_assert_int_eq(shop->rpo_ms, 60 * 60 * 1000);
    ck_assert_int_eq(shop->compression, 1);
    ck_assert_int_eq(shop->group, GROUP_TRY);
}
END_TEST

START_TEST(a_protection_is_written_as_it_is_read)
{
    char *vms[] = {(char *)"web-*", (char *)"db", NULL};
    char *exclude[] = {(char *)"web-9", NULL};
    struct config_protection group = {.name = "web",
                                      .vms = vms,
                                      .exclude = exclude,
                                      .destination = "local",
                                      .rpo = "15min",
                                      .at = "mon..fri 02:00",
                                      .keep = "last=3"};
    g_autoptr(GError) error = NULL;
    g_autofree char *text = config_protection_text(&group, &error);

    unit_ok(text, error);
    ck_assert_str_eq(text,
                     "[protection web]\nvms = web-*; db\nexclude = web-9\n"
                     "destination = local\nrpo = 15min\nat = mon..fri 02:00\nkeep = last=3\n");
    vms[1] = (char *)"a;b";
    unit_fails(config_protection_text(&group, &error), error, ERROR_CONFIG, "'a;b' cannot be");
    vms[1] = (char *)"a\nkey = x";
    unit_fails(config_protection_text(&group, &error), error, ERROR_CONFIG, "cannot be written");
}
END_TEST

START_TEST(a_group_is_appended_and_nothing_else_changes)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "drctl.conf", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    AUTO(config) config = NULL;
    AUTO(config) after = NULL;

    unit_ok(file_write(path, SITE "# no end", strlen(SITE "# no end"), 0640, &error), error);
    config = config_load(dir, &error);
    unit_ok(config, error);
    after = config_with_group(config, "[protection p]\nvms = a\ndestination = local\n", &error);
    unit_ok(after, error);
    ck_assert_uint_eq(after->protections->len, 1);
    unit_fails(config_add_group(config, "[protection p]\nvms = a\ndestination = dr1\n", &error),
               error, ERROR_CONFIG, "there is no [remote dr1]");
    unit_ok(file_read(path, CONFIG_MAX_BYTES, &text, NULL, &error), error);
    ck_assert_str_eq(text, SITE "# no end");
    unit_ok(config_add_group(config, "[protection p]\nvms = a\ndestination = local\n", &error),
            error);
    g_clear_pointer(&text, g_free);
    unit_ok(file_read(path, CONFIG_MAX_BYTES, &text, NULL, &error), error);
    ck_assert_str_eq(text, SITE "# no end\n\n[protection p]\nvms = a\ndestination = local\n");
}
END_TEST

int main(void)
{
    return UNIT_RUN("selection", names_stay_names_and_all_else_is_a_pattern,
                    patterns_and_tags_mean_what_is_not_excluded, tags_are_the_words_of_the_element,
                    a_template_says_what_a_protection_does_not,
                    a_protection_is_written_as_it_is_read,
                    a_group_is_appended_and_nothing_else_changes);
}
