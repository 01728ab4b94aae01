/* SPDX-License-Identifier: Apache-2.0 */
/* What is put down of a VM that the guard watches. */
#include "tests/unit.h"

#include "metadata/metadata.h"

#define VM "11111111-2222-4333-8444-555555555555"

static struct guarded *read_one(const char *dir)
{
    g_autoptr(GError) error = NULL;
    struct guarded *guarded = NULL;

    unit_ok(guarded_read(dir, VM, &guarded, &error), error);
    return guarded;
}

static void put_text(const char *dir, const char *text)
{
    g_autofree char *folder = guarded_dir(dir);
    g_autofree char *path = g_build_filename(folder, VM, NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(folder, 0700, &error), error);
    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

START_TEST(a_vm_that_nobody_armed_is_not_guarded)
{
    g_autofree char *dir = unit_dir();

    ck_assert_ptr_null(read_one(dir));
}
END_TEST

START_TEST(arming_again_keeps_what_else_is_known)
{
    g_autofree char *dir = unit_dir();
    AUTO(guarded) fenced = NULL;
    AUTO(guarded) after = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(guarded_arm(dir, VM, "db", GUARD_KNOWN, &error), error);
    fenced = read_one(dir);
    fenced->fenced_ms = 1700000000123;
    fenced->autostart = true;
    unit_ok(guarded_write(dir, fenced, &error), error);
    unit_ok(guarded_arm(dir, VM, "db2", GUARD_STRICT, &error), error);
    after = read_one(dir);
    ck_assert_str_eq(after->vm, "db2");
    ck_assert_int_eq(after->mode, GUARD_STRICT);
    ck_assert_int_eq(after->fenced_ms, 1700000000123);
    ck_assert(after->autostart);
}
END_TEST

static void claim(const char *dir, struct owner *owner)
{
    g_autoptr(GPtrArray) owners = g_ptr_array_new();
    g_autoptr(GPtrArray) list = NULL;
    g_autoptr(GError) error = NULL;

    g_ptr_array_add(owners, owner);
    unit_ok(list = guarded_claim(dir, owners, GUARD_KNOWN, &error), error);
    ck_assert_uint_eq(list->len, 1);
}

START_TEST(a_claim_ends_a_fence_and_keeps_the_autostart_in_mind)
{
    g_autofree char *dir = unit_dir();
    AUTO(owner) owner = owner_new(VM, "db", "dc1", 3, NULL);
    AUTO(guarded) after = NULL;

    put_text(dir, "vm=db\nmode=known\nautostart=yes\nfenced=2026-11-20T22:15:00Z\n");
    claim(dir, owner);
    after = read_one(dir);
    ck_assert_int_eq(after->fenced_ms, 0);
    ck_assert_uint_eq(after->claimed_epoch, 3);
    ck_assert(after->autostart);
}
END_TEST

START_TEST(a_claim_counts_only_until_the_host_is_booted_again)
{
    g_autofree char *dir = unit_dir();
    AUTO(guarded) guarded = NULL;

    put_text(dir, "vm=db\nmode=known\nclaimed=3 another-boot\n");
    guarded = read_one(dir);
    ck_assert_uint_eq(guarded->claimed_epoch, 0);
}
END_TEST

/* A fence that was in it must not be forgotten by the next point that is taken. */
START_TEST(a_damaged_file_is_told_and_only_an_operator_replaces_it)
{
    static const char *const wrong[] = {"",
                                        "vm=db\n",
                                        "mode=known\n",
                                        "vm=db\nmode=kno\n",
                                        "vm=db\nmode=known\nfenced=now\n",
                                        "vm=db\nmode=known\nx\n",
                                        "vm=db\nmode=known\nfence=2026-11-20T22:15:00Z\n"};
    AUTO(owner) owner = owner_new(VM, "db", "dc1", 3, NULL);

    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *dir = unit_dir();
        g_autoptr(GPtrArray) all = NULL;
        struct guarded *guarded = NULL;
        g_autoptr(GError) error = NULL;

        put_text(dir, wrong[i]);
        unit_fails(guarded_read(dir, VM, &guarded, &error), error, ERROR_INTEGRITY, "damaged");
        unit_fails(guarded_arm(dir, VM, "db", GUARD_KNOWN, &error), error, ERROR_INTEGRITY,
                   "drctl fence --release");
        unit_ok(all = guarded_list(dir, &error), error);
        ck_assert_uint_eq(all->len, 1);
        claim(dir, owner);
        guarded = read_one(dir);
        ck_assert_uint_eq(guarded->claimed_epoch, 3);
        guarded_free(guarded);
    }
}
END_TEST

START_TEST(only_system_mode_has_hooks)
{
    ck_assert(guarded_uri_has_hooks("qemu:///system"));
    ck_assert(guarded_uri_has_hooks("qemu+ssh://root@10.77.0.2/system"));
    ck_assert(guarded_uri_has_hooks("qemu:///system?socket=/run/x"));
    ck_assert(!guarded_uri_has_hooks("qemu:///session"));
    ck_assert(!guarded_uri_has_hooks("qemu:///embed?root=/system"));
}
END_TEST

int main(void)
{
    return UNIT_RUN(
        "guarded", a_vm_that_nobody_armed_is_not_guarded, arming_again_keeps_what_else_is_known,
        a_claim_ends_a_fence_and_keeps_the_autostart_in_mind,
        a_claim_counts_only_until_the_host_is_booted_again,
        a_damaged_file_is_told_and_only_an_operator_replaces_it, only_system_mode_has_hooks);
}
