/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of hosts and of ours: which ones are trusted, and what is told of those that are not. */
#include "tests/sshd.h"

START_TEST(an_unknown_host_key_is_refused)
{
    struct site site = site_new("");

    ck_assert_int_eq(unlink(site.remote.known_hosts), 0);
    site_open_fails(&site, ERROR_AUTH, "drctl site add dr1");
    write_text(site.remote.known_hosts, 0600,
               "other.example ssh-ed25519 "
               "AAAAC3NzaC1lZDI1NTE5AAAAIIiw2xZkXbQ0WmEhWo9oNnWeZ3hnxDc9Fcm+Q0jQ6y6P\n");
    site_open_fails(&site, ERROR_AUTH, "is not in");
    site_free(&site);
}
END_TEST

START_TEST(a_changed_host_key_is_refused)
{
    struct site site = site_new("");

    make_key(&site, "other", "ed25519");
    trust(&site, "other.pub");
    site_open_fails(&site, ERROR_AUTH, "somebody may be in between");
    /* Also when it is known by another type only. */
    make_key(&site, "ecdsa", "ecdsa");
    trust(&site, "ecdsa.pub");
    site_open_fails(&site, ERROR_AUTH, "somebody may be in between");
    site_free(&site);
}
END_TEST

START_TEST(a_host_is_recognised_by_any_of_its_keys)
{
    struct site site = site_new("");
    g_autofree char *extra = g_strdup_printf("HostKey %s/ecdsa\n", site.dir);
    AUTO(host_key) shown = NULL;
    AUTO(store) store = NULL;
    g_autoptr(GError) error = NULL;

    make_key(&site, "ecdsa", "ecdsa");
    sshd_stop(&site);
    sshd_configure(&site, extra);
    sshd_start(&site);
    unit_ok(shown = remote_host_key(&site.remote, &error), error);
    ck_assert_str_eq(shown->file, "/etc/ssh/ssh_host_ed25519_key.pub");
    trust(&site, "ecdsa.pub");
    store = site_open(&site);
    g_clear_pointer(&store, store_free);
    trust(&site, "host.pub");
    store = site_open(&site);
    g_clear_pointer(&store, store_free);
    site_free(&site);
}
END_TEST

START_TEST(the_host_key_is_shown_and_trusted)
{
    struct site site = site_new("");
    g_autofree char *key_path = in_dir(&site, "host.pub");
    const char *argv[] = {"ssh-keygen", "-lf", key_path, NULL};
    g_autofree char *listed = NULL;
    g_autofree char *known = NULL;
    AUTO(host_key) key = NULL;
    AUTO(store) store = NULL;
    g_autoptr(GError) error = NULL;

    write_text(site.remote.known_hosts, 0600, "# no line end");
    unit_ok(key = remote_host_key(&site.remote, &error), error);
    ck_assert_str_eq(key->type, "ssh-ed25519");
    unit_ok(process_run(argv, 30, &listed, &error), error);
    ck_assert_msg(strstr(listed, key->fingerprint) != NULL, "%s: %s", key->fingerprint, listed);
    site_open_fails(&site, ERROR_AUTH, key->fingerprint);
    unit_ok(remote_trust(&site.remote, key, &error), error);
    store = site_open(&site);
    g_clear_pointer(&store, store_free);
    known = read_text(site.remote.known_hosts);
    ck_assert(g_str_has_prefix(known, "# no line end\n[127.0.0.1]:"));
    site_free(&site);
}
END_TEST

START_TEST(the_file_of_a_host_key_is_told)
{
    struct site site = site_new("");
    g_autofree char *host = in_dir(&site, "host");
    AUTO(host_key) key = NULL;
    g_autoptr(GError) error = NULL;

    unlink(host);
    make_key(&site, "host", "ecdsa");
    sshd_stop(&site);
    sshd_start(&site);
    write_text(site.remote.known_hosts, 0600, "# nobody\n");
    unit_ok(key = remote_host_key(&site.remote, &error), error);
    ck_assert_str_eq(key->type, "ecdsa-sha2-nistp256");
    ck_assert_str_eq(key->file, "/etc/ssh/ssh_host_ecdsa_key.pub");
    site_open_fails(&site, ERROR_AUTH, key->file);
    site_free(&site);
}
END_TEST

START_TEST(a_refused_key_shows_the_line_that_lets_it_in)
{
    struct site site = site_new("");
    g_autofree char *path = in_dir(&site, "user.pub");
    g_autofree char *key = NULL;
    g_autofree char *line = NULL;

    make_key(&site, "stranger", "ed25519");
    g_free(site.remote.key);
    site.remote.key = in_dir(&site, "stranger");
    g_free(path);
    path = in_dir(&site, "stranger.pub");
    key = read_text(path);
    line = g_strdup_printf(
        "authorized_keys there: restrict,command=\"drctl serve --append-only\" %s", key);
    site_open_fails(&site, ERROR_AUTH, line);
    site_free(&site);
}
END_TEST

START_TEST(an_unusable_key_file_is_our_own_mistake)
{
    struct site site = site_new("");
    const char *encrypt[] = {"ssh-keygen",    "-q", "-p", "-P", "", "-N", "secret", "-f",
                             site.remote.key, NULL};
    g_autoptr(GError) error = NULL;

    unit_ok(process_run(encrypt, 30, NULL, &error), error);
    site_open_fails(&site, ERROR_CONFIG, "without a passphrase");
    write_text(site.remote.key, 0600, "nonsense\n");
    site_open_fails(&site, ERROR_CONFIG, "cannot use the key");
    ck_assert_int_eq(unlink(site.remote.key), 0);
    site_open_fails(&site, ERROR_CONFIG, "drctl init");
    site_free(&site);
}
END_TEST

int main(void)
{
    return UNIT_RUN("ssh-trust", an_unknown_host_key_is_refused, a_changed_host_key_is_refused,
                    a_host_is_recognised_by_any_of_its_keys, the_host_key_is_shown_and_trusted,
                    the_file_of_a_host_key_is_told, a_refused_key_shows_the_line_that_lets_it_in,
                    an_unusable_key_file_is_our_own_mistake);
}
