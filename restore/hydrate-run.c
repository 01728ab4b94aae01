/* SPDX-License-Identifier: Apache-2.0 */
/* Beginning and stopping pulls. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "restore/hydrate.h"
#include "restore/restore.h"

/* A pull that ends again and again without being done has a reason, which libvirt does not tell. */
#define BEGIN_MAX 3
/* One that has run for so long had another end: points are taken meanwhile (drctl/replication.c). */
#define LONG_RUN_MS (60 * 1000)
#define MEASURE_TIMEOUT_S 600
/* What stays free beside what is copied: the guests go on writing. */
#define RESERVE_MAX (UINT64_C(1) << 30)
#define RESERVE_SHARE 20

/* All disks of all VMs, looked at together: they share file systems and the rate. */
struct beginning {
    const struct site *site;
    GHashTable *promised; /* dev_t -> bytes that pulls which run, or begin now, will take there */
    unsigned n_pulls;     /* that run, or begin now */
    uint64_t rate;        /* of each; 0: no limit */
};

typedef void each_disk(struct beginning *beginning, const struct hydration *hydration,
                       struct hydrating_disk *disk);

static void for_each_disk(struct beginning *beginning, const GPtrArray *hydrations, each_disk *each)
{
    for (unsigned i = 0; i < hydrations->len; i++) {
        const struct hydration *hydration = hydrations->pdata[i];

        for (unsigned k = 0; k < hydration->disks->len; k++) {
            struct hydrating_disk *disk = hydration->disks->pdata[k];

            if (disk->point)
                each(beginning, hydration, disk);
        }
    }
}

static void say_why(struct hydrating_disk *disk, bool is_passing, char *why)
{
    g_free(disk->why);
    disk->why = why;
    disk->is_passing = is_passing;
}

/* ---- Room */

/* What an image will take when all is copied, by QEMU, which knows what zeros and holes become. */
static bool measure(const char *path, uint64_t *bytes, GError **error)
{
    const char *const argv[] = {"qemu-img", "measure",  "-U",   "-f", "qcow2", "-O",
                                "qcow2",    "--output", "json", path, NULL};
    g_autofree char *text = NULL;
    json_auto_t *json = NULL;

    if (!process_run(argv, MEASURE_TIMEOUT_S, &text, error))
        return false;
    json = json_parse(text, strlen(text), "the output of qemu-img", error);
    return json && json_need_u64(json, "required", bytes, error);
}

/* What is still to be written into the image, and to which file system. */
static bool bytes_to_come(const struct hydrating_disk *disk, uint64_t *bytes, uint64_t *device,
                          GError **error)
{
    uint64_t all;
    uint64_t has;
    struct stat st;

    if (stat(disk->path, &st) < 0)
        return fail_errno(error, errno, "cannot look at %s", disk->path);
    if (!measure(disk->path, &all, error))
        return false;
    has = (uint64_t)st.st_blocks * 512;
    *bytes = all > has ? all - has : 0;
    *device = st.st_dev;
    return true;
}

static uint64_t promised(const struct beginning *beginning, uint64_t device)
{
    const uint64_t *bytes = g_hash_table_lookup(beginning->promised, &device);

    return bytes ? *bytes : 0;
}

static void promise(struct beginning *beginning, uint64_t device, uint64_t bytes)
{
    uint64_t *key = g_new(uint64_t, 1), *sum = g_new(uint64_t, 1);

    *key = device;
    *sum = promised(beginning, device) + bytes;
    g_hash_table_insert(beginning->promised, key, sum);
}

/* Guests stop when the file system of their disks is full. */
static bool has_room(struct beginning *beginning, struct hydrating_disk *disk)
{
    uint64_t free_bytes, total_bytes, bytes, device;
    g_autoptr(GError) cause = NULL;
    g_autofree char *need = NULL;
    g_autofree char *have = NULL;

    if (!bytes_to_come(disk, &bytes, &device, &cause) ||
        !disk_space(disk->path, &free_bytes, &total_bytes, &cause)) {
        say_why(disk, false, g_strdup(cause->message));
        return false;
    }
    if (promised(beginning, device) + bytes + MIN(total_bytes / RESERVE_SHARE, RESERVE_MAX) <=
        free_bytes) {
        promise(beginning, device, bytes);
        return true;
    }
    need = bytes_format(promised(beginning, device) + bytes);
    have = bytes_format(free_bytes);
    say_why(disk, false,
            g_strdup_printf("there is no room: it takes %s, with what is being pulled already, and "
                            "%s are free beside %s, of which some must stay; make room there",
                            need, have, disk->path));
    return false;
}

/* ---- May it be pulled? */

/* NULL: nothing forbids it; g_free. */
static char *obstacle(const struct site *site, const struct hydration *hydration,
                      const struct hydrating_disk *disk)
{
    if (window_is_open(site->catalog, hydration->run))
        return g_strdup_printf("its failover (run %s) is not committed: drctl commit",
                               hydration->run);
    if (hydration->state == DOMAIN_OFF)
        return g_strdup("the VM is off, and it is QEMU that copies: start it first");
    if (disk->is_lost)
        return g_strdup("its point has lost something, which cannot be copied: heal the point "
                        "(drctl heal), or let the guest write it anew and copy the files there");
    if (disk->is_covered)
        return g_strdup_printf("there is a snapshot above its image: %s is to be merged first "
                               "(virsh blockcommit %s %s --active --pivot)",
                               disk->path, hydration->vm, disk->target);
    if (disk->begun >= BEGIN_MAX)
        return g_strdup_printf("QEMU has given it up %u times: its log of %s may tell why, and "
                               "`drctl verify` says whether the points can be read",
                               disk->begun, hydration->vm);
    return NULL;
}

static void promise_pulled(struct beginning *beginning, const struct hydration *hydration,
                           struct hydrating_disk *disk)
{
    uint64_t bytes, device;

    if (disk->pull.is_active && bytes_to_come(disk, &bytes, &device, NULL))
        promise(beginning, device, bytes);
    beginning->n_pulls += disk->pull.is_active;
}

/* Has no other disk of that VM a job, and was none chosen before this one? QEMU 7.2 crashes with its guest, now and
 * then, when two pulls end at the same time. */
static bool has_its_turn(const struct hydration *hydration, const struct hydrating_disk *disk)
{
    bool is_before = true;

    for (unsigned i = 0; i < hydration->disks->len; i++) {
        const struct hydrating_disk *other = hydration->disks->pdata[i];

        is_before = is_before && other != disk;
        if (other->pull.is_active || other->pull.is_taken ||
            (is_before && other->point && !other->why))
            return false;
    }
    return true;
}

/* Without a WHY it may begin. */
static void judge(struct beginning *beginning, const struct hydration *hydration,
                  struct hydrating_disk *disk)
{
    if (disk->pull.is_active)
        return;
    if (time_monotonic_ms() - disk->begun_ms > LONG_RUN_MS)
        disk->begun = 0;
    say_why(disk, false, obstacle(beginning->site, hydration, disk));
    if (!disk->why && disk->pull.is_taken)
        say_why(disk, true, g_strdup("another job of libvirt has the disk"));
    else if (!disk->why && !has_its_turn(hydration, disk))
        say_why(disk, true, g_strdup("it is its turn when another disk of the VM is done"));
    else if (!disk->why && has_room(beginning, disk))
        beginning->n_pulls++;
}

/* ---- Doing it */

static void begin(const struct beginning *beginning, const struct hydration *hydration,
                  struct hydrating_disk *disk)
{
    g_autoptr(GError) cause = NULL;
    const char *job = NULL;

    if (hydration_pin(disk, &cause) &&
        domain_pull_begin(hydration->domain, disk->target, beginning->rate, &cause)) {
        disk->begun++;
        disk->begun_ms = time_monotonic_ms();
        return;
    }
    /* A backup has all disks, and shows itself on none of them. */
    domain_job(hydration->domain, &job, NULL);
    say_why(disk, job != NULL, g_strdup(cause->message));
}

static void pull(struct beginning *beginning, const struct hydration *hydration,
                 struct hydrating_disk *disk)
{
    if (!disk->pull.is_active && !disk->why)
        begin(beginning, hydration, disk);
    else if (disk->pull.is_active && disk->pull.rate != beginning->rate)
        domain_pull_limit(hydration->domain, disk->target, beginning->rate, NULL);
}

static void look_again(const GPtrArray *hydrations)
{
    for (unsigned i = 0; i < hydrations->len; i++)
        hydration_look(hydrations->pdata[i], NULL);
}

static bool is_any_waiting(const GPtrArray *hydrations)
{
    return hydration_left(hydrations) > hydration_pulled(hydrations);
}

void hydration_begin(const struct site *site, const GPtrArray *hydrations, uint64_t rate)
{
    g_autoptr(GHashTable) table =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    struct beginning beginning = {.site = site, .promised = table};

    if (is_any_waiting(hydrations))
        for_each_disk(&beginning, hydrations, promise_pulled);
    else
        beginning.n_pulls = hydration_pulled(hydrations);
    for_each_disk(&beginning, hydrations, judge);
    if (rate > 0 && beginning.n_pulls > 0)
        beginning.rate = MAX(rate / beginning.n_pulls, LIMIT_MIN);
    for_each_disk(&beginning, hydrations, pull);
    look_again(hydrations);
}

bool hydration_end(const GPtrArray *hydrations, GError **error)
{
    bool good = true;

    for (unsigned i = 0; i < hydrations->len; i++) {
        struct hydration *hydration = hydrations->pdata[i];

        for (unsigned k = 0; k < hydration->disks->len; k++) {
            struct hydrating_disk *disk = hydration->disks->pdata[k];

            /* The first error is told, and the others are stopped all the same. */
            if (disk->pull.is_active &&
                !domain_pull_end(hydration->domain, disk->target, good ? error : NULL))
                good = false;
        }
    }
    look_again(hydrations);
    return good;
}

/* ---- By itself */

static void tell_why(const struct site *site, const struct hydration *hydration)
{
    for (unsigned i = 0; i < hydration->disks->len; i++) {
        const struct hydrating_disk *disk = hydration->disks->pdata[i];

        if (disk->why)
            progress_note(site->progress, "%s: disk %s stays on its point: %s", hydration->vm,
                          disk->target, disk->why);
    }
}

void hydration_after_failover(const struct site *site, const GPtrArray *vms)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(GPtrArray) found = hydration_find_vms(site, vms, &cause);

    if (!found) {
        progress_note(site->progress, "the VMs stay on their points: %s", cause->message);
        return;
    }
    hydration_begin(site, found, site->config->hydrate_rate);
    for (unsigned i = 0; i < found->len; i++)
        tell_why(site, found->pdata[i]);
}

bool hydration_go_on(const struct site *site, GError **error)
{
    char *all[] = {NULL};
    g_autoptr(GPtrArray) found = hydration_find(site, all, error);
    g_autoptr(GPtrArray) wanted = g_ptr_array_new();

    for (unsigned i = 0; found && i < found->len; i++)
        if (((const struct hydration *)found->pdata[i])->is_wanted)
            g_ptr_array_add(wanted, found->pdata[i]);
    hydration_begin(site, wanted, site->config->hydrate_rate);
    return found != NULL;
}

/* ---- Giving way */

struct hydration *hydration_pause(struct domain *domain)
{
    AUTO(hydration) hydration = hydration_of(domain, NULL);
    unsigned paused = 0;

    for (unsigned i = 0; hydration && i < hydration->disks->len; i++) {
        const struct hydrating_disk *disk = hydration->disks->pdata[i];

        paused += disk->pull.is_active;
        /* What goes on all the same is told by libvirt, when it is in the way. */
        if (disk->pull.is_active)
            domain_pull_end(hydration->domain, disk->target, NULL);
    }
    return paused > 0 ? g_steal_pointer(&hydration) : NULL;
}

void hydration_unpause(struct hydration *paused)
{
    for (unsigned i = 0; paused && i < paused->disks->len; i++) {
        const struct hydrating_disk *disk = paused->disks->pdata[i];

        /* As it was before; whoever watches begins again what does not begin now. */
        if (disk->pull.is_active)
            domain_pull_begin(paused->domain, disk->target, disk->pull.rate, NULL);
    }
    hydration_free(paused);
}
