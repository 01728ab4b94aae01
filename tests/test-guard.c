/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest is never harmed by a point that is taken of it: a guest that really runs and writes as
 * fast as it can, and scratch space that is too small, on a file system of our own.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include "tests/capture-lab.h"

#define SMALL "/mnt" /* where our small file system is, for us and our children only */
#define SMALL_BYTES "167772160"
#define RESERVE_BYTES (UINT64_C(64) << 20)
#define DISK "256M"

/* --- a guest that writes ---------------------------------------------------------------------- */

/*
 * The boot sector of a guest whose whole work is to overwrite its disk from 1 MiB to 256 MiB, 32 KiB
 * at a time, again and again:
 *
 *         xor ax, ax; mov ds, ax; mov ss, ax; mov sp, 0x7c00; mov ax, 0x1000; mov es, ax
 *   next: mov eax, [lba]; mov es:[0], eax
 *         mov ax, 0x4300; mov dl, 0x80; lea si, [packet]; int 0x13
 *         add word [lba], 64; adc word [lba + 2], 0; cmp word [lba + 2], 8; jb next
 *         mov word [lba], 2048; mov word [lba + 2], 0; jmp next
 *   packet: db 16, 0; dw 64, 0, 0x1000
 *   lba:    dq 2048
 */
static const uint8_t writer[] = {
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xb8, 0x00, 0x10, 0x8e, 0xc0,
    0x66, 0xa1, 0x49, 0x7c, 0x26, 0x66, 0xa3, 0x00, 0x00, 0xb8, 0x00, 0x43, 0xb2, 0x80,
    0x8d, 0x36, 0x41, 0x7c, 0xcd, 0x13, 0x83, 0x06, 0x49, 0x7c, 0x40, 0x83, 0x16, 0x4b,
    0x7c, 0x00, 0x83, 0x3e, 0x4b, 0x7c, 0x08, 0x72, 0xdb, 0xc7, 0x06, 0x49, 0x7c, 0x00,
    0x08, 0xc7, 0x06, 0x4b, 0x7c, 0x00, 0x00, 0xeb, 0xcd, 0x10, 0x00, 0x40, 0x00, 0x00,
    0x00, 0x00, 0x10, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};

/* What happens while a point is taken of the guest; it is the progress of the point, too. */
struct siege {
    struct progress progress;
    struct lab *lab;
    bool fill;            /* leave no space at all */
    bool over;            /* the job has been ended */
    uint64_t least_bytes; /* that were free on the scratch file system meanwhile */
    int64_t ended_ms;     /* from when there was too little to when the job was over */
    int resumed;          /* how often the guest had to be resumed */
};

static struct lab *lab_of_writer(const char *name)
{
    struct lab *lab = lab_new(name, "qcow2");
    g_autofree char *boot = image_path("writer.boot");
    uint8_t sector[512] = {[510] = 0x55, [511] = 0xaa};
    g_autoptr(GError) error = NULL;

    memcpy(sector, writer, sizeof(writer));
    unit_ok(file_write(boot, sector, sizeof(sector), 0644, &error), error);
    VIRSH("blockresize", name, "vda", DISK);
    guest_io(lab, 0, "write -P 17 0 %s", DISK);
    guest_io(lab, 0, "write -s %s 0 512", boot);
    g_free(lab->scratch_dir);
    lab->scratch_dir = g_build_filename(SMALL, name, NULL);
    return lab;
}

static uint64_t free_space(void)
{
    uint64_t free_bytes, total;
    g_autoptr(GError) error = NULL;

    unit_ok(disk_space(SMALL, &free_bytes, &total, &error), error);
    return free_bytes;
}

/* But for LEFT bytes. The guest takes some of it meanwhile. */
static void fill_space(uint64_t left)
{
    AUTO_FD fd = open(SMALL "/filler", O_WRONLY | O_CREAT, 0600);
    uint64_t room;

    ck_assert_int_ge(fd, 0);
    while ((room = free_space()) > left)
        if (fallocate(fd, 0, lseek(fd, 0, SEEK_END), (off_t)(room - left)) < 0)
            ck_assert_int_eq(errno, ENOSPC);
}

static bool job_is_over(struct lab *lab)
{
    g_autofree char *xml = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(domain_backup_xml(lab->domain, &xml, &error), error);
    return xml == NULL;
}

/* The link stalls: nothing is read on until the job is over. */
static void stall(struct progress *progress, const char *subject, uint64_t done, uint64_t total)
{
    struct siege *siege = (struct siege *)progress;
    int64_t until = time_monotonic_ms() + UNIT_PATIENCE_MS, short_ms = 0;

    if (siege->over)
        return;
    if (siege->fill) {
        while (free_space() > (UINT64_C(140) << 20) && time_monotonic_ms() < until)
            g_usleep(1000);
        short_ms = time_monotonic_ms();
        fill_space(0);
    }
    while (!job_is_over(siege->lab) && time_monotonic_ms() < until) {
        uint64_t now = free_space();

        siege->least_bytes = MIN(siege->least_bytes, now);
        if (now < RESERVE_BYTES && !short_ms)
            short_ms = time_monotonic_ms();
    }
    siege->over = true;
    siege->ended_ms = time_monotonic_ms() - short_ms;
    unlink(SMALL "/filler");
}

static void count_resumed(struct progress *progress, const char *text)
{
    if (strstr(text, "resuming the VM"))
        g_atomic_int_inc(&((struct siege *)progress)->resumed);
}

static struct siege besiege(struct lab *lab, const char *message)
{
    struct siege siege = {
        .progress = {.note = count_resumed, .bytes = stall},
        .lab = lab,
        .fill = strstr(message, "paused") != NULL,
        .least_bytes = UINT64_MAX,
    };
    struct point_result result = {0};
    struct point_request request = request_of(lab);
    GError *error = NULL;

    request.progress = &siege.progress;
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_NO_SPACE, SMALL);
    ck_assert(siege.over);
    ck_assert_int_eq(state_of(lab->domain), DOMAIN_RUNNING);
    assert_nothing_is_left(lab);
    return siege;
}

/* It writes: its disk is not the same for long. */
static void assert_guest_writes(const struct lab *lab)
{
    g_autofree char *before = NULL;

    for (int64_t until = time_monotonic_ms() + UNIT_PATIENCE_MS;; g_usleep(10000)) {
        g_autofree char *now = VIRSH_OUTPUT("domblkstat", domain_name(lab->domain), "vda");

        if (before && strcmp(before, now) != 0)
            return;
        ck_assert_msg(time_monotonic_ms() < until, "the guest does not write");
        if (!before)
            before = g_steal_pointer(&now);
    }
}

/* --- tests ----------------------------------------------------------------------------------- */

START_TEST(a_job_is_given_up_before_its_guest_finds_no_space)
{
    AUTO(lab) lab = lab_of_writer("given-up");
    AUTO(manifest) before = take_true_point(lab);
    struct siege siege;

    /* However busy this machine is, it has soon written so much that the reserve begins, and needs four
     * seconds for that at least. */
    VIRSH("blkdeviotune", "given-up", "vda", "--total-bytes-sec", "16777216");
    VIRSH("resume", "given-up");
    assert_guest_writes(lab);
    fill_space(RESERVE_BYTES + (16 << 20));
    siege = besiege(lab, "was about to be full");
    printf("# %" G_GUINT64_FORMAT " KiB were left, over after %d ms\n", siege.least_bytes >> 10,
           (int)siege.ended_ms);
    ck_assert_int_eq(siege.resumed, 0);
    ck_assert_uint_gt(siege.least_bytes, 0);
    assert_guest_writes(lab);
    VIRSH("suspend", "given-up");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    assert_point_is_true(lab, before->point);
    ck_assert_uint_eq(count_checkpoints(lab), 1);
}
END_TEST

START_TEST(a_guest_that_was_paused_because_the_scratch_space_is_full_is_resumed_at_once)
{
    AUTO(lab) lab = lab_of_writer("resumed");
    AUTO(manifest) before = take_true_point(lab);
    struct siege siege = {0};

    VIRSH("resume", "resumed");
    assert_guest_writes(lab);
    /* The guard may be faster than the guest, and is where the machine is busy. */
    for (unsigned i = 0; i < 30 && siege.resumed == 0; i++)
        siege = besiege(lab, "paused");
    printf("# over after %d ms\n", (int)siege.ended_ms);
    ck_assert_int_eq(siege.resumed, 1);
    ck_assert_int_lt(siege.ended_ms, 5000);
    assert_guest_writes(lab);
    VIRSH("suspend", "resumed");
    AUTO(manifest) after = take_true_point(lab);

    ck_assert_str_eq(after->base, before->point);
    assert_point_is_true(lab, before->point);
}
END_TEST

START_TEST(no_point_begins_without_room_for_what_its_guest_overwrites)
{
    AUTO(lab) lab = lab_of_writer("no-room");
    struct point_request request = request_of(lab);
    struct point_result result = {0};
    GError *error = NULL;

    fill_space(0);
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_NO_SPACE,
               "set scratch in drctl.conf");
    assert_nothing_is_left(lab);
    ck_assert_uint_eq(count_checkpoints(lab), 0);
    unlink(SMALL "/filler");
    AUTO(manifest) manifest = take_true_point(lab);
}
END_TEST

/* Each has room by itself, 256 MiB / 100 and the reserve, but not both at the same time. */
START_TEST(vms_of_a_round_share_the_room)
{
    struct lab *labs[] = {lab_of_writer("shares"), lab_of_writer("as-well")};
    struct round_vm vms[2] = {{.request = request_of(labs[0])}, {.request = request_of(labs[1])}};

    fill_space(RESERVE_BYTES + (4 << 20));
    snapshot_take_round(vms, 2, GROUP_REQUIRE);
    ck_assert_ptr_nonnull(vms[0].error);
    unit_fails(vms[1].result.manifest != NULL, vms[1].error, ERROR_NO_SPACE,
               "the 2 points that are taken at the same time need 69.1");
    g_clear_error(&vms[0].error);
    snapshot_take_round(vms, 2, GROUP_TRY);
    for (unsigned i = 0; i < 2; i++) {
        unit_ok(vms[i].result.manifest, vms[i].error);
        ck_assert_ptr_null(vms[i].result.manifest->group);
        point_result_clear(&vms[i].result);
        assert_nothing_is_left(labs[i]);
        lab_free(labs[i]);
    }
    unlink(SMALL "/filler");
}
END_TEST

START_TEST(a_destination_that_is_full_is_told_before_anything_begins)
{
    AUTO(lab) lab = lab_new("full", "qcow2");
    g_autoptr(GError) error = NULL;
    struct point_request request = request_of(lab);
    struct point_result result = {0};

    unit_ok(store_create(SMALL "/store", "dr2", &error), error);
    AUTO(catalog) catalog = catalog_open(SMALL "/store", &error);

    unit_ok(catalog != NULL, error);
    AUTO(store) store = store_open_local(SMALL "/store", catalog, &snapshot_point_ops, &error);

    unit_ok(store != NULL, error);
    request.destination = store;
    fill_space(0);
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_NO_SPACE,
               "this point needs 512 KiB even if all data can be compressed");
    assert_nothing_is_left(lab);
    ck_assert_uint_eq(count_checkpoints(lab), 0);
}
END_TEST

/* --- the small file system -------------------------------------------------------------------- */

static bool write_text(const char *path, const char *text)
{
    AUTO_FD fd = open(path, O_WRONLY);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* Mounts of our own, which are gone with us; who is not root is it in a namespace of users. */
static bool own_mounts(void)
{
    g_autofree char *users = g_strdup_printf("%u %u 1", getuid(), getuid());
    g_autofree char *groups = g_strdup_printf("%u %u 1", getgid(), getgid());

    if (geteuid() == 0)
        return unshare(CLONE_NEWNS) == 0;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_text("/proc/self/uid_map", users) &&
           write_text("/proc/self/setgroups", "deny") && write_text("/proc/self/gid_map", groups);
}

static bool mount_small(void)
{
    return own_mounts() && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", SMALL, "tmpfs", 0, "mode=1777,size=" SMALL_BYTES) == 0;
}

int main(void)
{
    if (!mount_small()) {
        puts("1..0 # SKIP no file system can be mounted here");
        return EXIT_SUCCESS;
    }
    become_ordinary_user();
    return SESSION_RUN("guard", a_job_is_given_up_before_its_guest_finds_no_space,
                       a_guest_that_was_paused_because_the_scratch_space_is_full_is_resumed_at_once,
                       no_point_begins_without_room_for_what_its_guest_overwrites,
                       vms_of_a_round_share_the_room,
                       a_destination_that_is_full_is_told_before_anything_begins);
}
