/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery of VMs of which no point is whole: the base that a clone and its template share is damaged,
 * and there is no other. Real points, a real libvirtd, guests that read their disks.
 */
#include "tests/recovery-shop.h"

#include <fcntl.h>

#define CLUSTER ((uint64_t)64 << 10)

/* A template and a clone of it, whose only point stands on the template's first. */
struct family {
    struct lab *lab;
    struct lost_guest *template, *clone;
};

static struct family family_new(const char *name)
{
    struct family family = {.lab = lab_open(name)};
    g_autofree char *template = g_strconcat(name, "-tpl", NULL);
    g_autofree char *clone = g_strconcat(name, "-vm", NULL);

    family.template = lost_guest(family.lab, template, "");
    family.clone = lost_clone(family.lab, clone, family.template);
    return family;
}

static struct family booting_family(const char *name)
{
    guests_boot = true;
    return family_new(name);
}

static void family_clear(struct family *family)
{
    lost_guest_free(family->template);
    lost_guest_free(family->clone);
    if (family->lab)
        lab_free(family->lab);
}
#define AUTO_FAMILY __attribute__((cleanup(family_clear))) struct family

static char *dir_of(const struct family *family, const struct lost_guest *guest, unsigned point)
{
    return store_point_dir(family->lab->config->store, guest->uuid, guest->points[point]);
}

/* Note that clusters FIRST to FIRST + COUNT - 1 of vda are gone from the base of both. The bytes stay: as with
 * clusters that are stored as they are, nothing but the note tells. */
static void damage_base(const struct family *family, uint64_t first, uint64_t count,
                        bool unreadable)
{
    g_autofree char *dir = dir_of(family, family->template, 0);
    AUTO(damage) damage = damage_new();
    struct damaged_file *file = damage_add(damage, "vda.qcow2", "a bit was turned");
    g_autoptr(GError) error = NULL;

    damaged_file_add(file, first, count);
    file->unreadable = unreadable;
    unit_ok(damage_save(dir, damage, &error), error);
}

static struct failover_plan *accepting(const struct lab *lab, const char *name)
{
    g_autoptr(GError) error = NULL;
    struct failover_request request = {.name = name, .accept_damage = true};
    struct failover_plan *plan = failover_plan_make(&lab->site, &request, &error);

    unit_ok(plan != NULL, error);
    return plan;
}

static void execute(const struct lab *lab, const struct failover_plan *plan)
{
    struct failover_result result = {0};
    g_autoptr(GError) error = NULL;

    unit_ok(failover_execute(&lab->site, plan, NULL, NULL, &result, &error), error);
    failover_result_clear(&result);
}

/* What qemu-io says of COMMAND with the image at PATH, which may be in use. */
static char *io(const char *path, const char *command)
{
    return run((const char *const[]){"sh", "-c",
                                     "qemu-io -U -r -f qcow2 -c \"$1\" \"$2\" 2>&1 || :", "sh",
                                     command, path, NULL});
}

/* Does the image at PATH have PATTERN in COUNT clusters from FIRST? */
static bool has(const char *path, unsigned pattern, uint64_t first, uint64_t count)
{
    g_autofree char *command =
        g_strdup_printf("read -P %u %" G_GUINT64_FORMAT "k %" G_GUINT64_FORMAT "k", pattern,
                        64 * first, 64 * count);
    g_autofree char *output = io(path, command);

    return strstr(output, "ops; ") && !strstr(output, "verification failed");
}

/* Is every read of any part of CLUSTER an error? */
static bool is_error(const char *path, uint64_t cluster)
{
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *command = g_strdup_printf("read %" G_GUINT64_FORMAT " 512",
                                                   (cluster + 1) * CLUSTER - (i ? CLUSTER : 512));
        g_autofree char *output = io(path, command);

        if (!strstr(output, "Input/output error"))
            return false;
    }
    return true;
}

static char *vda_of(const struct lab *lab, const char *name)
{
    return domain_text(lab, name, "devices/disk[target/@dev='vda']/source/@file");
}

/* --- Failover -------------------------------------------------------------------------------- */

START_TEST(a_plan_says_what_is_lost_and_blocks_until_that_is_accepted)
{
    AUTO_FAMILY family = family_new("ask");
    const struct failover_vm *vm;

    damage_base(&family, 3, 2, false);
    AUTO(failover_plan) plan = plan_of(family.lab, "ask-vm");
    vm = planned(plan, 0);
    ck_assert(vm->blocked && !vm->accepts_damage);
    ck_assert_str_eq(vm->point, family.clone->points[1]);
    ck_assert_uint_eq(vm->lost->len, 1);
    ck_assert_uint_eq(lost_disk_bytes(vm->lost->pdata[0]), 2 * CLUSTER);
    ck_assert(has_finding(vm, "disk vda has lost 128 KiB (2 clusters) at 0x30000+0x20000"));
    ck_assert(has_finding(vm, family.template->points[0]));
    ck_assert(has_finding(vm, "a bit was turned"));
    ck_assert_ptr_nonnull(strstr(vm->findings->pdata[vm->findings->len - 1], "--accept-damage"));
    ck_assert_ptr_nonnull(strstr(vm->findings->pdata[vm->findings->len - 1], "drctl heal ask-vm"));
    g_clear_pointer(&plan, failover_plan_free);

    plan = accepting(family.lab, "ask-vm");
    vm = planned(plan, 0);
    ck_assert(!vm->blocked && vm->accepts_damage);
    ck_assert(has_finding(vm, "disk vda has lost 128 KiB"));
}
END_TEST

START_TEST(a_vm_starts_with_what_is_left_and_errors_for_what_is_not)
{
    AUTO_FAMILY family = family_new("start");
    g_autofree char *vda = NULL, *layer = NULL, *below = NULL, *base = NULL, *part = NULL;
    g_autofree char *point = dir_of(&family, family.clone, 1);

    damage_base(&family, 3, 2, false);
    AUTO(failover_plan) plan = accepting(family.lab, "start-vm");
    execute(family.lab, plan);
    vda = vda_of(family.lab, "start-vm");
    ck_assert(has(vda, 17, 0, 3) && has(vda, 17, 5, 11) && has(vda, 34, 16, 16));
    ck_assert(is_error(vda, 3) && is_error(vda, 4));
    /* The guest writes over it, in parts that are smaller than a cluster. */
    guest_write("start-vm", "write -P 51 196k 4k");
    guest_write("start-vm", "flush");
    part = io(vda, "read -P 51 196k 4k");
    ck_assert_msg(strstr(part, "ops; ") && !strstr(part, "verification failed"), "%s", part);
    ck_assert(is_error(vda, 3) && is_error(vda, 4));
    guest_write("start-vm", "write -P 51 192k 64k");
    guest_write("start-vm", "flush");
    ck_assert(has(vda, 51, 3, 1));
    assert_points_untouched(family.lab, family.template);
    layer = domain_text(family.lab, "start-vm",
                        "devices/disk[target/@dev='vda']/backingStore/source/@file");
    ck_assert(g_str_has_suffix(layer, "/vda.lost.qcow2"));
    below = domain_text(family.lab, "start-vm",
                        "devices/disk[target/@dev='vda']/backingStore/backingStore/source/@file");
    ck_assert(g_str_has_prefix(below, point));
    /* Of vdb nothing is lost. */
    base = domain_text(family.lab, "start-vm",
                       "devices/disk[target/@dev='vdb']/backingStore/source/@file");
    ck_assert(g_str_has_prefix(base, point));
}
END_TEST

START_TEST(journal_and_result_name_what_was_lost)
{
    AUTO_FAMILY family = family_new("jour");
    json_auto_t *runs = NULL, *record = NULL;
    json_t *result, *lost, *ranges;
    g_autoptr(GError) error = NULL;

    damage_base(&family, 3, 2, false);
    AUTO(failover_plan) plan = accepting(family.lab, "jour-vm");
    execute(family.lab, plan);
    runs = run_list(family.lab->catalog, &error);
    record = run_show(family.lab->catalog, json_get_string(json_array_get(runs, 0), "run"), &error);
    unit_ok(record != NULL && json_need_object(record, "result", &result, &error), error);
    unit_ok(
        json_need_array(json_array_get(json_object_get(result, "vms"), 0), "lost", &lost, &error),
        error);
    ck_assert_uint_eq(json_array_size(lost), 1);
    ck_assert_str_eq(json_get_string(json_array_get(lost, 0), "disk"), "vda");
    ck_assert_int_eq(json_integer_value(json_object_get(json_array_get(lost, 0), "bytes")),
                     2 * CLUSTER);
    ranges = json_object_get(json_array_get(lost, 0), "ranges");
    ck_assert_uint_eq(json_array_size(ranges), 1);
    ck_assert_int_eq(json_integer_value(json_array_get(json_array_get(ranges, 0), 0)), 3 * CLUSTER);
}
END_TEST

START_TEST(a_whole_point_is_taken_whatever_is_accepted)
{
    AUTO_FAMILY family = family_new("whole");
    g_autofree char *newest = dir_of(&family, family.template, 1);
    AUTO(damage) damage = damage_new();
    const struct failover_vm *vm;
    g_autoptr(GError) error = NULL;

    damaged_file_add(damage_add(damage, "vda.qcow2", "a test"), 16, 1);
    unit_ok(damage_save(newest, damage, &error), error);
    AUTO(failover_plan) plan = accepting(family.lab, "whole-tpl");
    vm = planned(plan, 0);
    ck_assert_str_eq(vm->point, family.template->points[0]);
    ck_assert(!vm->accepts_damage && vm->lost->len == 0);
}
END_TEST

START_TEST(what_nobody_can_tell_cannot_be_accepted)
{
    AUTO_FAMILY family = family_new("bound");
    g_autofree char *dir = dir_of(&family, family.template, 0);
    AUTO(damage) damage = damage_new();
    struct damaged_file *file = damage_add(damage, "vda.qcow2", "a test");
    g_autoptr(GError) error = NULL;

    damaged_file_add(file, 0, 256);
    file->unreadable = true;
    damage_add(damage, "vda.digests", "a test");
    unit_ok(damage_save(dir, damage, &error), error);
    AUTO(failover_plan) plan = accepting(family.lab, "bound-vm");
    ck_assert(planned(plan, 0)->blocked);
    ck_assert_uint_eq(planned(plan, 0)->lost->len, 0);
    ck_assert(has_finding(planned(plan, 0), "none of its 1 points is complete"));
}
END_TEST

START_TEST(what_qemu_cannot_open_is_copied_as_far_as_it_is_there)
{
    AUTO_FAMILY family = family_new("tables");
    g_autofree char *dir = dir_of(&family, family.template, 0);
    g_autofree char *image = g_build_filename(dir, "vda.qcow2", NULL);
    g_autofree char *of = g_strconcat("of=", image, NULL);
    g_autofree char *vda = NULL, *layer = NULL;

    /* The header goes, and what is noted beside it. */
    RUN("dd", "if=/dev/zero", of, "bs=512", "count=1", "conv=notrunc", "status=none");
    damage_base(&family, 3, 2, true);
    AUTO(failover_plan) plan = accepting(family.lab, "tables-vm");
    ck_assert(!planned(plan, 0)->blocked);
    ck_assert(has_finding(planned(plan, 0), "is copied first"));
    execute(family.lab, plan);
    vda = vda_of(family.lab, "tables-vm");
    ck_assert(has(vda, 17, 0, 3) && has(vda, 17, 5, 11) && has(vda, 34, 16, 16));
    ck_assert(is_error(vda, 3) && is_error(vda, 4));
    layer = domain_text(family.lab, "tables-vm",
                        "devices/disk[target/@dev='vda']/backingStore/source/@file");
    ck_assert(g_str_has_suffix(layer, "/vda.base.qcow2"));
}
END_TEST

/* --- A failover that was interrupted --------------------------------------------------------- */

/* In a process of its own; killed when it has made the overlays, or is done. */
static void fail_over_and_kill(const char *site, const char *vm)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct lab *lab = lab_open(site);
        struct failover_plan *plan = accepting(lab, vm);
        struct failover_result result = {0};

        failover_execute(&lab->site, plan, NULL, NULL, &result, NULL);
        _exit(0);
    }
    AUTO(lab) lab = lab_open(site);
    kill_when(pid, lab, "overlay", "done");
}

static bool forget_damage(const struct family *family)
{
    g_autofree char *dir = dir_of(family, family->template, 0);

    return damage_forget(dir, NULL);
}

START_TEST(an_interrupted_failover_keeps_to_what_was_accepted)
{
    AUTO_FAMILY family = family_new("intr");
    g_autofree char *vda = NULL;

    damage_base(&family, 3, 2, false);
    g_clear_pointer(&family.lab, lab_free);
    fail_over_and_kill("intr", "intr-vm");
    family.lab = lab_open("intr");
    g_autoptr(GError) error = NULL;

    /* Whether it is healed meanwhile or not: the layers are made. */
    ck_assert(forget_damage(&family));
    AUTO(failover_plan) plan = failover_plan_new(&family.lab->site, "intr-vm", &error);
    if (plan) {
        ck_assert_ptr_nonnull(plan->resumes);
        ck_assert(planned(plan, 0)->accepts_damage && !planned(plan, 0)->blocked);
        execute(family.lab, plan);
    }
    vda = vda_of(family.lab, "intr-vm");
    ck_assert(is_error(vda, 3) && is_error(vda, 4) && has(vda, 17, 5, 11));
}
END_TEST

START_TEST(more_damage_than_was_accepted_blocks_an_interrupted_failover)
{
    AUTO_FAMILY family = family_new("more");

    damage_base(&family, 3, 2, false);
    g_clear_pointer(&family.lab, lab_free);
    fail_over_and_kill("more", "more-vm");
    family.lab = lab_open("more");
    damage_base(&family, 3, 3, false);
    g_autoptr(GError) error = NULL;
    AUTO(failover_plan) plan = failover_plan_new(&family.lab->site, "more-vm", &error);

    if (!plan)
        return; /* it was over before it could be killed */
    ck_assert(planned(plan, 0)->blocked);
    ck_assert(has_finding(planned(plan, 0), "more of point"));
}
END_TEST

/* --- A guest that looks ---------------------------------------------------------------------- */

/* A boot sector. It reads sectors 384 (the first of cluster 3) and 640 (of cluster 5) of its disk by the BIOS,
 * and writes into sector 8: "DONE", and for both reads 1 if there was an error, and its number. */
static const uint8_t boot_code[] = {
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, /* xor ax, ax; segments; sp */
    0xbe, 0x50, 0x7c, 0xb4, 0x42, 0xcd, 0x13,            /* mov si, 7c50h; mov ah, 42h; int 13h */
    0x0f, 0x92, 0x06, 0x04, 0x80,                        /* setc [8004h] */
    0x88, 0x26, 0x05, 0x80,                              /* mov [8005h], ah */
    0xbe, 0x60, 0x7c, 0xb4, 0x42, 0xcd, 0x13,            /* mov si, 7c60h; mov ah, 42h; int 13h */
    0x0f, 0x92, 0x06, 0x06, 0x80,                        /* setc [8006h] */
    0x88, 0x26, 0x07, 0x80,                              /* mov [8007h], ah */
    0x66, 0xc7, 0x06, 0x00, 0x80, 'D',  'O',  'N',  'E', /* mov dword [8000h], "DONE" */
    0xbe, 0x70, 0x7c, 0xb8, 0x00, 0x43, 0xcd, 0x13,      /* mov si, 7c70h; mov ax, 4300h; int 13h */
    0xf4, 0xeb, 0xfd,                                    /* hlt; jmp to it */
};

static void put_packet(uint8_t *packet, uint16_t buffer, uint16_t sector)
{
    const uint8_t bytes[16] = {0x10,
                               0,
                               1,
                               0,
                               (uint8_t)buffer,
                               (uint8_t)(buffer >> 8),
                               0,
                               0,
                               (uint8_t)sector,
                               (uint8_t)(sector >> 8)};

    memcpy(packet, bytes, sizeof bytes);
}

static char *make_boot_sector(void)
{
    char *path = g_build_filename(session_dir, "images", "boot-sector", NULL);
    uint8_t sector[512] = {0};
    g_autoptr(GError) error = NULL;

    memcpy(sector, boot_code, sizeof boot_code);
    put_packet(sector + 0x50, 0x8200, 384);
    put_packet(sector + 0x60, 0x8400, 640);
    put_packet(sector + 0x70, 0x8000, 8);
    sector[510] = 0x55;
    sector[511] = 0xaa;
    unit_ok(file_write(path, sector, sizeof sector, 0644, &error), error);
    return path;
}

/* What the guest has written into sector 8, if it has. */
static bool read_report(const char *vda, unsigned report[4])
{
    g_autofree char *output = io(vda, "read -v 4k 16");

    return sscanf(output, "%*8x: 44 4f 4e 45 %x %x %x %x", &report[0], &report[1], &report[2],
                  &report[3]) == 4;
}

static void wait_for_report(const char *vm, const char *vda, unsigned report[4])
{
    int64_t deadline = time_monotonic_ms() + 45000;

    while (!read_report(vda, report)) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(100000);
        guest_write(vm, "flush");
    }
}

START_TEST(a_guest_that_reads_what_is_lost_is_told_so)
{
    AUTO_FAMILY family = booting_family("boot");
    g_autofree char *sector = make_boot_sector();
    g_autofree char *write = g_strdup_printf("write -s %s 0 512", sector);
    g_autofree char *vda = NULL;
    unsigned report[4];

    damage_base(&family, 3, 1, false);
    AUTO(failover_plan) plan = accepting(family.lab, "boot-vm");
    execute(family.lab, plan);
    vda = vda_of(family.lab, "boot-vm");
    guest_write("boot-vm", write);
    VIRSH("reset", "boot-vm");
    wait_for_report("boot-vm", vda, report);
    ck_assert_uint_eq(report[0], 1);
    ck_assert_uint_ne(report[1], 0);
    ck_assert_uint_eq(report[2], 0);
    ck_assert_uint_eq(report[3], 0);
    ck_assert_int_eq(state_of_guest(family.lab, "boot-vm"), DOMAIN_RUNNING);
}
END_TEST

/* --- And on ---------------------------------------------------------------------------------- */

static bool replicate(const struct lab *lab, const char *name, GError **error)
{
    AUTO(domain) domain = host_domain(lab->hosts->pdata[0], name, error);
    struct point_request request = {
        .domain = domain,
        .destination = lab->store,
        .catalog = lab->catalog,
        .site = "dr1",
        .run_dir = lab->config->run_dir,
        .scratch_dir = lab->config->scratch,
        .compression = 1,
    };
    struct point_result result = {0};
    bool done = domain && snapshot_take_point(&request, &result, error);

    point_result_clear(&result);
    return done;
}

START_TEST(what_is_lost_keeps_a_vm_from_being_replicated_until_it_is_written_anew)
{
    AUTO_FAMILY family = family_new("again");
    g_autofree char *vda = NULL;
    GError *error = NULL;

    damage_base(&family, 3, 2, false);
    AUTO(failover_plan) plan = accepting(family.lab, "again-vm");
    execute(family.lab, plan);
    g_clear_pointer(&plan, failover_plan_free);
    unit_fails(replicate(family.lab, "again-vm", &error), error, ERROR_HYPERVISOR,
               "DAMAGED POINTS");
    guest_write("again-vm", "write -P 51 192k 4k");
    guest_write("again-vm", "write -z 196k 60k");
    guest_write("again-vm", "write -z 256k 64k");
    unit_ok(replicate(family.lab, "again-vm", &error), error);
    /* The point of it is whole: it has afresh what its base lacks. */
    VIRSH("destroy", "again-vm");
    VIRSH("undefine", "again-vm", "--checkpoints-metadata");
    AUTO(failover_plan) next = plan_of(family.lab, "again-vm");
    ck_assert(!planned(next, 0)->blocked && planned(next, 0)->lost->len == 0);
    execute(family.lab, next);
    vda = vda_of(family.lab, "again-vm");
    ck_assert(has(vda, 17, 0, 3) && has(vda, 0, 4, 1) && has(vda, 17, 5, 11));
}
END_TEST

/* --- Restore --------------------------------------------------------------------------------- */

static bool restore(const struct lab *lab, const struct restore_request *request,
                    struct restore_result *result, GError **error)
{
    return restore_execute(&lab->site, request, result, error);
}

START_TEST(a_restore_refuses_what_is_not_whole_with_the_ways_out)
{
    AUTO_FAMILY family = family_new("refuse");
    struct restore_request request = {.vm = "refuse-vm", .as = "x"};
    struct restore_request by_point = {
        .vm = "refuse-vm", .point = family.clone->points[1], .as = "x"};
    struct restore_result result = {0};
    GError *error = NULL;

    damage_base(&family, 3, 2, false);
    unit_fails(restore(family.lab, &request, &result, &error), error, ERROR_INTEGRITY,
               "--accept-damage");
    unit_fails(restore(family.lab, &by_point, &result, &error), error, ERROR_INTEGRITY,
               "drctl heal refuse-vm");
    restore_result_clear(&result);
}
END_TEST

struct question {
    bool answer;
    char *text;
};

static bool ask(void *context, const char *point, const char *text, GError **error)
{
    struct question *question = context;

    g_free(question->text);
    question->text = g_strconcat(point, ": ", text, NULL);
    return question->answer || fail(error, ERROR_CANCELLED, "not confirmed");
}

START_TEST(whoever_restores_is_asked_with_all_that_is_lost)
{
    AUTO_FAMILY family = family_new("question");
    struct question question = {0};
    struct restore_request request = {
        .vm = "question-vm", .as = "answer-vm", .ask = ask, .context = &question};
    struct restore_result result = {0};
    GError *error = NULL;

    damage_base(&family, 3, 2, false);
    unit_fails(restore(family.lab, &request, &result, &error), error, ERROR_CANCELLED,
               "not confirmed");
    ck_assert_ptr_nonnull(strstr(question.text, family.clone->points[1]));
    ck_assert_ptr_nonnull(strstr(question.text, "disk vda has lost 128 KiB"));
    question.answer = true;
    unit_ok(restore(family.lab, &request, &result, &error), error);
    ck_assert_uint_eq(result.lost->len, 1);
    ck_assert(is_error(result.paths[0], 3) && has(result.paths[0], 17, 5, 11));
    restore_result_clear(&result);
    g_free(question.text);
}
END_TEST

START_TEST(plain_files_hold_what_is_left_and_say_what_is_not)
{
    AUTO_FAMILY family = family_new("plain");
    g_autofree char *dir = lab_path(family.lab, "out");
    g_autofree char *note = g_build_filename(dir, "LOST.json", NULL);
    g_autofree char *point = dir_of(&family, family.clone, 1);
    g_autofree char *vdb = g_build_filename(point, "vdb.qcow2", NULL);
    g_autofree char *text = NULL;
    struct restore_request request = {.vm = "plain-vm", .to_dir = dir, .accept_damage = true};
    struct restore_result result = {0};
    g_autoptr(GError) error = NULL;

    damage_base(&family, 3, 2, false);
    g_ptr_array_set_size(family.lab->hosts, 0);
    unit_ok(restore(family.lab, &request, &result, &error), error);
    ck_assert_uint_eq(result.lost->len, 1);
    ck_assert(has(result.paths[0], 17, 0, 3) && has(result.paths[0], 17, 5, 11) &&
              has(result.paths[0], 34, 16, 16) && has(result.paths[0], 0, 32, 224));
    ck_assert(is_error(result.paths[0], 3) && is_error(result.paths[0], 4));
    RUN("qemu-img", "check", "-q", result.paths[0]);
    RUN("qemu-img", "compare", "-q", result.paths[1], vdb);
    unit_ok(file_read(note, 1 << 20, &text, NULL, &error), error);
    ck_assert_ptr_nonnull(strstr(text, "196608"));
    ck_assert_uint_eq(g_strv_length(result.paths), 4);
    restore_result_clear(&result);
}
END_TEST

START_TEST(damage_that_is_not_noted_is_not_restored_beside_the_accepted)
{
    AUTO_FAMILY family = family_new("unnoted");
    g_autofree char *dir = lab_path(family.lab, "out");
    g_autofree char *point = dir_of(&family, family.template, 0);
    g_autofree char *image = g_build_filename(point, "vda.qcow2", NULL);
    struct restore_request request = {.vm = "unnoted-vm", .to_dir = dir, .accept_damage = true};
    struct restore_result result = {0};
    AUTO_FD fd = open(image, O_RDWR | O_CLOEXEC);
    GError *error = NULL;
    g_auto(GStrv) left = NULL;
    uint8_t byte;

    damage_base(&family, 3, 2, false);
    unit_ok(fd_read_at(fd, 65536 + 20, &byte, 1, image, &error), error);
    byte ^= 1;
    unit_ok(fd_write_at(fd, 65536 + 20, &byte, 1, image, &error), error);
    unit_fails(restore(family.lab, &request, &result, &error), error, ERROR_INTEGRITY,
               "drctl verify");
    unit_ok(left = dir_list(dir, &error), error);
    ck_assert_uint_eq(g_strv_length(left), 0);
    restore_result_clear(&result);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("damaged", a_plan_says_what_is_lost_and_blocks_until_that_is_accepted,
                       a_vm_starts_with_what_is_left_and_errors_for_what_is_not,
                       journal_and_result_name_what_was_lost,
                       a_whole_point_is_taken_whatever_is_accepted,
                       what_nobody_can_tell_cannot_be_accepted,
                       what_qemu_cannot_open_is_copied_as_far_as_it_is_there,
                       an_interrupted_failover_keeps_to_what_was_accepted,
                       more_damage_than_was_accepted_blocks_an_interrupted_failover,
                       a_guest_that_reads_what_is_lost_is_told_so,
                       what_is_lost_keeps_a_vm_from_being_replicated_until_it_is_written_anew,
                       a_restore_refuses_what_is_not_whole_with_the_ways_out,
                       whoever_restores_is_asked_with_all_that_is_lost,
                       plain_files_hold_what_is_left_and_say_what_is_not,
                       damage_that_is_not_noted_is_not_restored_beside_the_accepted);
}
