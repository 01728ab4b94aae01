/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/metadata.h"
#include "tests/unit.h"

#define SITE "[site]\nname = dc1\n[web]\n"

static struct config *parse(const char *web, GError **error)
{
    g_autofree char *text = g_strconcat(SITE, web, NULL);

    return config_parse(text, strlen(text), "/etc/drctl", error);
}

START_TEST(there_is_no_page_unless_it_is_wanted)
{
    GError *error = NULL;
    AUTO(config) config = parse("", &error);

    unit_ok(config, error);
    ck_assert_ptr_null(config->web.address);
    ck_assert(config->web.tls && !config->web.actions && !config->web.own_certificate);
    ck_assert_str_eq(config->web.certificate, "/etc/drctl/web-certificate.pem");
    ck_assert_str_eq(config->web.key, "/etc/drctl/web-key.pem");
    ck_assert_str_eq(config->web.token_file, "/etc/drctl/web-token");
    ck_assert_ptr_null(config->web.client_ca);
}
END_TEST

START_TEST(reads_every_key)
{
    GError *error = NULL;
    AUTO(config)
    config = parse("listen = [2001:db8::1]:443\ncertificate = a.pem\nkey = /b.pem\n"
                   "token-file = t\nclient-ca = ca.pem\nactions = yes\ntls = yes\n",
                   &error);

    unit_ok(config, error);
    ck_assert_str_eq(config->web.address, "2001:db8::1");
    ck_assert_uint_eq(config->web.port, 443);
    ck_assert(config->web.own_certificate && config->web.actions);
    ck_assert_str_eq(config->web.certificate, "/etc/drctl/a.pem");
    ck_assert_str_eq(config->web.key, "/b.pem");
    ck_assert_str_eq(config->web.token_file, "/etc/drctl/t");
    ck_assert_str_eq(config->web.client_ca, "/etc/drctl/ca.pem");
}
END_TEST

START_TEST(without_tls_nobody_else_can_come)
{
    static const char *const ours[] = {"127.0.0.1:80", "127.9.9.9:80", "[::1]:80"};
    static const char *const others[] = {"0.0.0.0:80",   "192.0.2.1:80",
                                         "[::]:80",      "[2001:db8::1]:80",
                                         "128.0.0.1:80", "[::ffff:192.0.2.1]:80"};

    for (unsigned i = 0; i < G_N_ELEMENTS(ours) + G_N_ELEMENTS(others); i++) {
        bool is_ours = i < G_N_ELEMENTS(ours);
        const char *address = is_ours ? ours[i] : others[i - G_N_ELEMENTS(ours)];
        g_autofree char *plain = g_strdup_printf("tls = no\nlisten = %s\n", address);
        g_autofree char *with_tls = g_strdup_printf("listen = %s\n", address);
        GError *error = NULL;
        AUTO(config) first = parse(plain, &error);

        if (is_ours)
            unit_ok(first, error);
        else
            unit_fails(first, error, ERROR_CONFIG, "they could read the token");
        AUTO(config) second = parse(with_tls, &error);

        unit_ok(second, error);
    }
}
END_TEST

START_TEST(refuses_what_is_wrong_and_names_the_key)
{
    static const struct {
        const char *text, *part;
    } wrong[] = {
        {"listen = localhost:8443\n", "[web] listen"},
        {"listen = 127.0.0.1\n", "is not ADDRESS:PORT"},
        {"listen = [::1]\n", "is not ADDRESS:PORT"},
        {"listen = 127.0.0.1:0\n", "is not ADDRESS:PORT"},
        {"listen = 127.0.0.1:70000\n", "is not ADDRESS:PORT"},
        {"listen = ::1:8443\n", "is not ADDRESS:PORT"},
        {"listen = me@127.0.0.1:8443\n", "is not ADDRESS:PORT"},
        {"listen = [fe80::1%eth0]:8443\n", "is not ADDRESS:PORT"},
        {"certificate = a.pem\n", "[web] key"},
        {"key = a.pem\n", "[web] certificate"},
        {"tls = no\nclient-ca = a.pem\n", "[web] client-ca"},
        {"actions = maybe\n", "[web] actions"},
        {"port = 1\n", "port"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        GError *error = NULL;
        AUTO(config) config = parse(wrong[i].text, &error);

        unit_fails(config, error, ERROR_CONFIG, wrong[i].part);
    }
}
END_TEST

int main(void)
{
    return UNIT_RUN("web-config", there_is_no_page_unless_it_is_wanted, reads_every_key,
                    without_tls_nobody_else_can_come, refuses_what_is_wrong_and_names_the_key);
}
