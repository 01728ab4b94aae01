/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock files of a store's VMs. They mean nothing by themselves, and stay as long as the VM has points
 * there. Those of other VMs go: whoever may send points can name as many VMs as it likes.
 */
#include <string.h>
#include <unistd.h>

#include "replicator/local.h"

#define UUID_LEN 36

static char *lock_path(const char *store_path, const char *what, const char *vm_uuid,
                       const char *suffix)
{
    g_autofree char *name = g_strconcat(what, vm_uuid, suffix, NULL);

    return g_build_filename(store_path, "locks", name, NULL);
}

char *local_lock_path(const char *store_path, const char *vm_uuid)
{
    return lock_path(store_path, "point-", vm_uuid, ".lock");
}

char *local_wanted_path(const char *store_path, const char *vm_uuid)
{
    return lock_path(store_path, "point-", vm_uuid, ".wanted");
}

char *local_read_lock_path(const char *store_path, const char *vm_uuid)
{
    return lock_path(store_path, "read-", vm_uuid, ".lock");
}

struct file_lock *store_read_lock(const char *store_path, const char *vm_uuid, GError **error)
{
    g_autofree char *path = local_read_lock_path(store_path, vm_uuid);

    return file_lock_share(path, error);
}

/* --- of VMs that are not here ------------------------------------------------------------------ */

/* One that is held stays: its holder, or the next who opens the store, sees to it. */
static void discard(const char *path)
{
    struct file_lock *lock =
        g_file_test(path, G_FILE_TEST_EXISTS) ? file_lock_take(path, path, NULL) : NULL;

    if (lock)
        file_lock_discard(lock);
}

void local_locks_forget(const char *store_path, const char *vm_uuid)
{
    g_autofree char *vm = g_build_filename(store_path, "vms", vm_uuid, NULL);
    g_autofree char *place = local_lock_path(store_path, vm_uuid);
    g_autofree char *wanted = local_wanted_path(store_path, vm_uuid);
    g_autofree char *reading = local_read_lock_path(store_path, vm_uuid);

    if (g_file_test(vm, G_FILE_TEST_EXISTS))
        return;
    /* Who is still waiting makes it anew. */
    unlink(wanted);
    discard(place);
    discard(reading);
}

/* The UUID in the name of a lock file of a VM, or NULL; g_free. */
static char *vm_of(const char *name)
{
    size_t prefix = g_str_has_prefix(name, "point-")  ? strlen("point-")
                    : g_str_has_prefix(name, "read-") ? strlen("read-")
                                                      : 0;
    g_autofree char *uuid = prefix ? g_strndup(name + prefix, UUID_LEN) : NULL;

    return uuid && uuid_is_valid(uuid) ? g_steal_pointer(&uuid) : NULL;
}

void local_locks_sweep(const char *store_path)
{
    g_autofree char *dir = g_build_filename(store_path, "locks", NULL);
    g_auto(GStrv) names = dir_list(dir, NULL);

    for (char **name = names; name && *name; name++) {
        g_autofree char *uuid = vm_of(*name);

        if (uuid)
            local_locks_forget(store_path, uuid);
    }
}
