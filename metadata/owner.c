/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/owner.h"

#include <inttypes.h>
#include <string.h>

#include "metadata/config.h"
#include "metadata/manifest.h"

#define OWNER_MODE 0600
#define OWNERS_DIR_MODE 0700
#define OWNER_SUFFIX ".json"
/* Whoever holds the lock only reads and writes one small file. */
#define LOCK_WAIT_MS 10000
#define LOCK_POLL_MS 20

struct owner *owner_new(const char *uuid, const char *vm, const char *site, uint64_t epoch,
                        const char *run)
{
    struct owner *owner = g_new0(struct owner, 1);

    g_strlcpy(owner->uuid, uuid, sizeof(owner->uuid));
    owner->vm = g_strdup(vm);
    owner->site = g_strdup(site);
    owner->epoch = epoch;
    owner->since_ms = time_now_ms();
    owner->run = g_strdup(run);
    return owner;
}

struct owner *owner_copy(const struct owner *owner)
{
    struct owner *copy = owner_new(owner->uuid, owner->vm, owner->site, owner->epoch, owner->run);

    copy->since_ms = owner->since_ms;
    return copy;
}

void owner_free(struct owner *owner)
{
    if (!owner)
        return;
    g_free(owner->vm);
    g_free(owner->site);
    g_free(owner->run);
    g_free(owner);
}

char *owner_text(const struct owner *owner)
{
    g_autofree char *since = time_format(owner->since_ms);

    return g_strdup_printf("%s since %s (epoch %" PRIu64 ")", owner->site, since, owner->epoch);
}

/* --- JSON ------------------------------------------------------------------------------------ */

json_t *owner_json(const struct owner *owner)
{
    g_autofree char *since = time_format(owner->since_ms);
    json_t *json = json_object();

    json_set_u64(json, "format", OWNER_FORMAT);
    json_set_string(json, "uuid", owner->uuid);
    json_set_string(json, "vm", owner->vm);
    json_set_string(json, "site", owner->site);
    json_set_u64(json, "epoch", owner->epoch);
    json_set_string(json, "since", since);
    json_set_string(json, "run", owner->run);
    return json;
}

static bool check(const struct owner *owner, GError **error)
{
    if (!uuid_is_valid(owner->uuid) || !vm_name_is_valid(owner->vm) ||
        !site_name_is_valid(owner->site) || owner->epoch == 0 || owner->epoch > INT64_MAX ||
        (owner->run && !name_is_safe(owner->run)))
        return fail(error, ERROR_INTEGRITY, "the record of an owner is wrong");
    return true;
}

static bool parse(const json_t *json, struct owner *owner, GError **error)
{
    const char *uuid, *vm, *site, *since;
    uint64_t format;

    if (!json_need_u64(json, "format", &format, error))
        return false;
    if (format != OWNER_FORMAT)
        return fail(error, ERROR_INTEGRITY, "format %" PRIu64 " is not known: update drctl",
                    format);
    if (!json_need_string(json, "uuid", &uuid, error) ||
        !json_need_string(json, "vm", &vm, error) ||
        !json_need_string(json, "site", &site, error) ||
        !json_need_u64(json, "epoch", &owner->epoch, error) ||
        !json_need_string(json, "since", &since, error) ||
        !time_parse(since, &owner->since_ms, error))
        return false;
    g_strlcpy(owner->uuid, uuid, sizeof(owner->uuid));
    owner->vm = g_strdup(vm);
    owner->site = g_strdup(site);
    owner->run = g_strdup(json_get_string(json, "run"));
    return check(owner, error);
}

struct owner *owner_parse(const json_t *json, GError **error)
{
    AUTO(owner) owner = g_new0(struct owner, 1);

    return parse(json, owner, error) ? g_steal_pointer(&owner) : NULL;
}

/* --- The files ------------------------------------------------------------------------------- */

static char *owners_dir(const char *store_path)
{
    return g_build_filename(store_path, "owners", NULL);
}

static char *owner_path(const char *store_path, const char *uuid)
{
    g_autofree char *name = g_strconcat(uuid, OWNER_SUFFIX, NULL);

    return g_build_filename(store_path, "owners", name, NULL);
}

static struct owner *parse_text(const char *text, size_t len, const char *uuid, GError **error)
{
    json_auto_t *json = json_parse(text, len, "it", error);
    AUTO(owner) owner = json ? owner_parse(json, error) : NULL;

    if (owner && strcmp(owner->uuid, uuid) != 0) {
        fail(error, ERROR_INTEGRITY, "it is of another VM, %s", owner->uuid);
        return NULL;
    }
    return g_steal_pointer(&owner);
}

bool owner_read(const char *store_path, const char *uuid, struct owner **out, GError **error)
{
    g_autofree char *path = owner_path(store_path, uuid);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    struct owner *owner = NULL;
    size_t len;

    if (!file_read(path, OWNER_MAX_BYTES, &text, &len, &why)) {
        if (error_is(why, ERROR_NOT_FOUND)) {
            *out = NULL;
            return true;
        }
        if (!error_is(why, ERROR_INTEGRITY)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
    } else {
        owner = parse_text(text, len, uuid, &why);
    }
    if (!owner)
        return fail(error, ERROR_INTEGRITY,
                    "%s, which says what site owns the VM, is damaged: %s. If the VM is to run at "
                    "this site, `drctl failover` here makes a new one",
                    path, why->message);
    *out = owner;
    return true;
}

/* One for all records: whoever may put down records can name as many VMs as it likes. */
static struct file_lock *lock_records(const char *store_path, GError **error)
{
    g_autofree char *dir = g_build_filename(store_path, "locks", NULL);
    g_autofree char *path = g_build_filename(dir, "owners.lock", NULL);
    int64_t until_ms = time_monotonic_ms() + LOCK_WAIT_MS;

    if (!dir_make(dir, OWNERS_DIR_MODE, error))
        return NULL;
    for (;;) {
        g_autoptr(GError) why = NULL;
        struct file_lock *lock = file_lock_take(path, "what is put down of owners", &why);

        if (lock)
            return lock;
        if (!error_is(why, ERROR_CONFLICT) || time_monotonic_ms() > until_ms) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        if (!interrupt_check(error))
            return NULL;
        g_usleep(LOCK_POLL_MS * 1000);
    }
}

/* A record more must not be one too many for those who list them. */
static bool check_room(const char *dir, const char *path, GError **error)
{
    g_auto(GStrv) names = NULL;

    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return true;
    names = dir_list(dir, error);
    if (!names)
        return false;
    return g_strv_length(names) < OWNERS_MAX ||
           fail(error, ERROR_NO_SPACE, "there are %u records of owners in %s already", OWNERS_MAX,
                dir);
}

static bool write_record(const char *store_path, const struct owner *owner, GError **error)
{
    g_autofree char *path = owner_path(store_path, owner->uuid);
    g_autofree char *dir = owners_dir(store_path);
    json_auto_t *json = owner_json(owner);
    g_autofree char *text = json_text(json, 2);

    return dir_make(dir, OWNERS_DIR_MODE, error) && check_room(dir, path, error) &&
           file_write(path, text, strlen(text), OWNER_MODE, error);
}

static bool check_newer(const struct owner *owner, const struct owner *known, GError **error)
{
    g_autofree char *text = known ? owner_text(known) : NULL;
    uint64_t epoch = known ? known->epoch : 0;

    if (owner->epoch <= epoch)
        return fail(error, ERROR_CONFLICT,
                    "VM %s belongs to site %s: epoch %" PRIu64 " of site %s is not newer. If it is "
                    "to run there all the same: drctl failover %s, there",
                    known->vm, text, owner->epoch, owner->site, known->vm);
    if (owner->epoch - epoch > OWNER_EPOCHS_AHEAD)
        return fail(error, ERROR_INTEGRITY,
                    "epoch %" PRIu64 " of VM %s is too far ahead of %" PRIu64
                    ", which is known here",
                    owner->epoch, owner->vm, epoch);
    return true;
}

bool owner_claim(const char *store_path, const struct owner *owner, GError **error)
{
    AUTO(file_lock) lock = NULL;
    AUTO(owner) known = NULL;

    if (!check(owner, error))
        return false;
    lock = lock_records(store_path, error);
    if (!lock || !owner_read(store_path, owner->uuid, &known, error))
        return false;
    if (known && known->epoch == owner->epoch && strcmp(known->site, owner->site) == 0)
        return true;
    return check_newer(owner, known, error) && write_record(store_path, owner, error);
}

/* What is the epoch after all that are known? */
static bool next_epoch(const struct owner *known, bool damaged, uint64_t above, uint64_t *next,
                       GError **error)
{
    uint64_t newest = MAX(known ? known->epoch : 0, above);
    unsigned step = damaged ? OWNER_EPOCHS_UNKNOWN : 1;

    if (newest > (uint64_t)INT64_MAX - step)
        return fail(error, ERROR_INTEGRITY, "epoch %" PRIu64 " is the last one", newest);
    *next = newest + step;
    return true;
}

bool owner_take(const char *store_path, const struct owner *claim, uint64_t above,
                struct owner **out, GError **error)
{
    AUTO(file_lock) lock = lock_records(store_path, error);
    AUTO(owner) known = NULL;
    AUTO(owner) next = owner_copy(claim);
    g_autoptr(GError) why = NULL;

    if (!lock)
        return false;
    owner_read(store_path, claim->uuid, &known, &why);
    if (known && known->epoch > above && strcmp(known->site, claim->site) == 0) {
        *out = g_steal_pointer(&known);
        return true;
    }
    if (!next_epoch(known, why != NULL, above, &next->epoch, error) || !check(next, error) ||
        !write_record(store_path, next, error))
        return false;
    *out = g_steal_pointer(&next);
    return true;
}

/* "<uuid>.json" */
static char *uuid_of(const char *name)
{
    g_autofree char *uuid = g_strndup(name, sizeof(((struct owner *)NULL)->uuid) - 1);

    return uuid_is_valid(uuid) && strcmp(name + strlen(uuid), OWNER_SUFFIX) == 0
               ? g_steal_pointer(&uuid)
               : NULL;
}

GPtrArray *owner_list(const char *store_path, GError **error)
{
    g_autoptr(GPtrArray) owners = g_ptr_array_new_with_free_func((GDestroyNotify)owner_free);
    g_autofree char *dir = owners_dir(store_path);
    g_auto(GStrv) names = dir_list(dir, error);

    if (!names)
        return NULL;
    for (char **name = names; *name; name++) {
        g_autofree char *uuid = uuid_of(*name);
        AUTO(owner) owner = NULL;

        /* One that is damaged must not hide the others; who asks for it by its UUID is told. */
        if (uuid && owner_read(store_path, uuid, &owner, NULL) && owner)
            g_ptr_array_add(owners, g_steal_pointer(&owner));
    }
    return g_steal_pointer(&owners);
}

/* --- Who may take points --------------------------------------------------------------------- */

bool owner_is(const struct owner *owner, const struct taker *taker, GError **error)
{
    g_autofree char *text = owner ? owner_text(owner) : NULL;

    if (!owner || strcmp(owner->site, taker->site) == 0)
        return true;
    return fail(
        error, ERROR_AUTH,
        "VM %s belongs to site %s: the copy at site %s is stale, and no points of it are "
        "taken. To bring it home with all that it has written since: drctl failback %s, there",
        owner->vm, text, taker->site, owner->vm);
}

bool owner_admits(const char *store_path, const char *uuid, const struct taker *taker,
                  GError **error)
{
    AUTO(owner) owner = NULL;

    return !taker || (owner_read(store_path, uuid, &owner, error) && owner_is(owner, taker, error));
}
