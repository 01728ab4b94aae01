/* SPDX-License-Identifier: Apache-2.0 */
/* Recovery points of a VM that moves, live, to another host of the pool: two real libvirtds that
 * share the images. */
#include "tests/capture-lab.h"

static char *other_dir, *other_uri; /* of the other host */

static void hosts_start(void)
{
    session_start();
    other_dir = unit_dir();
    other_uri = g_strchomp(run((const char *const[]){SESSION, "up", other_dir, NULL}));
}

static void hosts_stop(void)
{
    RUN(SESSION, "down", other_dir);
    g_free(other_uri);
    g_free(other_dir);
    session_stop();
}

static void swap_hosts(void)
{
    char *dir = session_dir, *uri = session_uri;

    session_dir = other_dir;
    session_uri = other_uri;
    other_dir = dir;
    other_uri = uri;
}

/* Everybody who asks for the session means the other host from now on. */
static void migrate(struct lab *lab)
{
    g_autofree char *name = g_strdup(domain_name(lab->domain));
    g_autofree char *channel = g_strdup_printf("unix://%s/images/migration", other_dir);
    g_autoptr(GError) error = NULL;

    VIRSH("migrate", name, "--desturi", other_uri, "--migrateuri", channel, "--live",
          "--persistent", "--undefinesource", "--unsafe");
    domain_free(lab->domain);
    host_free(lab->host);
    swap_hosts();
    lab->host = session_open();
    lab->domain = host_domain(lab->host, name, &error);
    unit_ok(lab->domain != NULL, error);
}

START_TEST(a_vm_that_migrated_goes_on_as_an_increment)
{
    AUTO(lab) lab = lab_new("moves", "raw");

    guest_io(lab, 0, "write -P 1 0 4M");
    AUTO(manifest) before = take_point(lab);

    guest_io(lab, 0, "write -P 2 0 64k");
    /* Of a paused guest QEMU does not load the bitmaps there. */
    VIRSH("resume", "moves");
    migrate(lab);
    ck_assert_uint_eq(count_checkpoints(lab), 0);
    guest_io(lab, 0, "write -P 3 64k 64k");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    ck_assert_uint_eq(manifest_disk(after, "vda")->changed_bytes, 128 << 10);
    ck_assert_ptr_null(strstr(after->reason, "vda"));
    ck_assert_uint_eq(count_checkpoints(lab), 1);
    migrate(lab);
    guest_io(lab, 0, "write -P 4 0 64k");
    AUTO(manifest) back = take_true_point(lab);

    ck_assert_str_eq(back->base, after->point);
    ck_assert_uint_eq(manifest_disk(back, "vda")->changed_bytes, 64 << 10);
    assert_point_is_true(lab, after->point);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("migration");
    TCase *tcase = tcase_create("migration");

    if (!is_installed("libvirtd") || !is_installed("virsh")) {
        puts("1..0 # SKIP libvirtd or virsh is not installed");
        return EXIT_SUCCESS;
    }
    become_ordinary_user();
    tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
    tcase_add_unchecked_fixture(tcase, hosts_start, hosts_stop);
    tcase_add_test(tcase, a_vm_that_migrated_goes_on_as_an_increment);
    suite_add_tcase(suite, tcase);
    return unit_run_suite(suite);
}
