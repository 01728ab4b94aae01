/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/test-guard.h"

#include <sys/stat.h>

#include "restore/plan.h"

#define PERIOD_US (200 * 1000)
/* Of the file system of the images, what a test leaves. */
#define RESERVE_PART 20u
#define RESERVE_MAX_BYTES (UINT64_C(1) << 30)

struct watched {
    char *uri;
    char *uuid;
    GPtrArray *files;
};

struct test_guard {
    const struct site *site;
    GHashTable *images; /* directories for overlays */
    uint64_t cap_bytes;
    GThread *thread;
    GMutex mutex; /* guards the rest */
    GCond over;
    bool is_over;
    GPtrArray *watched; /* of struct watched */
    GError *why;        /* NULL: all is well */
};

static void watched_free(void *data)
{
    struct watched *watched = data;

    g_free(watched->uri);
    g_free(watched->uuid);
    g_ptr_array_unref(watched->files);
    g_free(watched);
}

/* ---- Looking; the mutex is held */

static uint64_t allocated(const struct test_guard *guard)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < guard->watched->len; i++) {
        const struct watched *watched = guard->watched->pdata[i];
        struct stat st;

        for (unsigned k = 0; k < watched->files->len; k++)
            if (stat(watched->files->pdata[k], &st) == 0)
                bytes += (uint64_t)st.st_blocks * 512;
    }
    return bytes;
}

static bool check_room(const char *images, GError **error)
{
    uint64_t free_bytes, total_bytes;
    g_autofree char *text = NULL;

    if (!disk_space(images, &free_bytes, &total_bytes, NULL) ||
        free_bytes > MIN(total_bytes / RESERVE_PART, RESERVE_MAX_BYTES))
        return true;
    text = bytes_format(free_bytes);
    return fail(error, ERROR_NO_SPACE, "%s has only %s free, which real VMs may need", images,
                text);
}

static bool check_rooms(const struct test_guard *guard, GError **error)
{
    GHashTableIter iter;
    void *images;

    g_hash_table_iter_init(&iter, guard->images);
    while (g_hash_table_iter_next(&iter, &images, NULL))
        if (!check_room(images, error))
            return false;
    return true;
}

static bool check_cap(const struct test_guard *guard, GError **error)
{
    g_autofree char *cap = NULL;

    if (allocated(guard) <= guard->cap_bytes)
        return true;
    cap = bytes_format(guard->cap_bytes);
    return fail(error, ERROR_NO_SPACE, "its VMs have written more than %s (--cap)", cap);
}

static bool look(const struct test_guard *guard, GError **error)
{
    if (plan_any_locked(guard->site, FAILOVER_KIND))
        return fail(error, ERROR_CONFLICT, "a real failover goes on");
    return check_rooms(guard, error) && check_cap(guard, error);
}

static void pull_plugs(const struct test_guard *guard)
{
    for (unsigned i = 0; i < guard->watched->len; i++) {
        const struct watched *watched = guard->watched->pdata[i];
        struct host *host = site_host(guard->site, watched->uri, NULL);
        AUTO(domain) domain = host ? host_domain(host, watched->uuid, NULL) : NULL;

        if (domain)
            domain_destroy(domain, NULL);
    }
}

static void *watch(void *data)
{
    struct test_guard *guard = data;

    g_mutex_lock(&guard->mutex);
    while (!guard->is_over && !guard->why) {
        g_cond_wait_until(&guard->over, &guard->mutex, g_get_monotonic_time() + PERIOD_US);
        if (!guard->is_over && !look(guard, &guard->why))
            pull_plugs(guard);
    }
    g_mutex_unlock(&guard->mutex);
    return NULL;
}

/* ---- For the test */

static void find_images(struct test_guard *guard, const struct failover_plan *plan)
{
    guard->images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (unsigned i = 0; i < plan->vms->len; i++) {
        const struct failover_vm *vm = plan->vms->pdata[i];

        if (vm->recovery)
            g_hash_table_add(guard->images,
                             g_strdup(recovery_images(vm->recovery, guard->site->config)));
    }
    /* Also where nothing can be brought up. */
    if (g_hash_table_size(guard->images) == 0)
        g_hash_table_add(guard->images, g_strdup(guard->site->config->images));
}

static bool set_cap(struct test_guard *guard, uint64_t cap_bytes, GError **error)
{
    uint64_t free_bytes, total_bytes;
    GHashTableIter iter;
    void *images;

    guard->cap_bytes = cap_bytes ? cap_bytes : UINT64_MAX;
    g_hash_table_iter_init(&iter, guard->images);
    while (!cap_bytes && g_hash_table_iter_next(&iter, &images, NULL)) {
        if (!disk_space(images, &free_bytes, &total_bytes, error))
            return false;
        guard->cap_bytes = MIN(guard->cap_bytes, free_bytes / 2);
    }
    return true;
}

struct test_guard *test_guard_new(const struct site *site, const struct failover_plan *plan,
                                  uint64_t cap_bytes, GError **error)
{
    AUTO(test_guard) guard = g_new0(struct test_guard, 1);

    g_mutex_init(&guard->mutex);
    g_cond_init(&guard->over);
    guard->site = site;
    guard->watched = g_ptr_array_new_with_free_func(watched_free);
    find_images(guard, plan);
    if (!set_cap(guard, cap_bytes, error) || !look(guard, error))
        return NULL;
    guard->thread = g_thread_new("test guard", watch, guard);
    return g_steal_pointer(&guard);
}

void test_guard_add(struct test_guard *guard, const struct recovery *recovery, const char *run)
{
    struct watched *watched = g_new0(struct watched, 1);
    g_autofree char *dir = overlay_dir(recovery_images(recovery, guard->site->config),
                                       recovery->name, recovery->uuid, run);

    watched->uri = g_strdup(recovery->uri);
    watched->uuid = g_strdup(recovery->uuid);
    watched->files = g_ptr_array_new_with_free_func(g_free);
    for (unsigned i = 0; i < recovery->origin->disks->len; i++) {
        const struct origin_disk *disk = recovery->origin->disks->pdata[i];

        g_ptr_array_add(watched->files, overlay_path(dir, disk->target));
    }
    g_mutex_lock(&guard->mutex);
    g_ptr_array_add(guard->watched, watched);
    g_mutex_unlock(&guard->mutex);
}

bool test_guard_check(struct test_guard *guard, GError **error)
{
    bool good;

    g_mutex_lock(&guard->mutex);
    good = !guard->why;
    if (!good && error)
        *error = g_error_copy(guard->why);
    g_mutex_unlock(&guard->mutex);
    return good;
}

uint64_t test_guard_bytes(struct test_guard *guard)
{
    uint64_t bytes;

    g_mutex_lock(&guard->mutex);
    bytes = allocated(guard);
    g_mutex_unlock(&guard->mutex);
    return bytes;
}

uint64_t test_guard_cap(const struct test_guard *guard)
{
    return guard->cap_bytes;
}

void test_guard_free(struct test_guard *guard)
{
    if (!guard)
        return;
    g_mutex_lock(&guard->mutex);
    guard->is_over = true;
    g_cond_signal(&guard->over);
    g_mutex_unlock(&guard->mutex);
    if (guard->thread)
        g_thread_join(guard->thread);
    g_ptr_array_unref(guard->watched);
    g_hash_table_unref(guard->images);
    g_clear_error(&guard->why);
    g_cond_clear(&guard->over);
    g_mutex_clear(&guard->mutex);
    g_free(guard);
}
