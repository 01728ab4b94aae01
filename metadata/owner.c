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

static bool is_there(const char *store_path, const struct owner *owner)
{
    g_autofree char *path = owner_path(store_path, owner->uuid);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* Records more must not be too many for those who list them. */
static bool check_room(const char *store_path, const char *dir, const GPtrArray *owners,
                       GError **error)
{
    g_auto(GStrv) names = NULL;
    unsigned more = 0;

    for (unsigned i = 0; i < owners->len; i++)
        more += !is_there(store_path, owners->pdata[i]);
    if (more == 0)
        return true;
    names = dir_list(dir, error);
    if (!names)
        return false;
    return g_strv_length(names) + more <= OWNERS_MAX ||
           fail(error, ERROR_NO_SPACE, "there are %u records of owners in %s already",
                g_strv_length(names), dir);
}

static bool write_records(const char *store_path, const GPtrArray *owners, GError **error)
{
    g_autofree char *dir = owners_dir(store_path);
    g_autoptr(GArray) files = file_texts_new();

    if (!dir_make(dir, OWNERS_DIR_MODE, error) || !check_room(store_path, dir, owners, error))
        return false;
    for (unsigned i = 0; i < owners->len; i++) {
        const struct owner *owner = owners->pdata[i];
        json_auto_t *json = owner_json(owner);

        file_texts_add(files, owner_path(store_path, owner->uuid), json_text(json, 2));
    }
    return file_texts_write(files, OWNER_MODE, error);
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

/* *NEW: it is not just what is known already. */
static bool check_claim(const char *store_path, const struct owner *owner, bool *new,
                        GError **error)
{
    AUTO(owner) known = NULL;

    if (!check(owner, error) || !owner_read(store_path, owner->uuid, &known, error))
        return false;
    *new = !known || known->epoch != owner->epoch || strcmp(known->site, owner->site) != 0;
    return !*new || check_newer(owner, known, error);
}

static void refusal_free(void *data)
{
    struct owner_refusal *refusal = data;

    g_error_free(refusal->why);
    g_free(refusal);
}

GPtrArray *owner_refusals_new(void)
{
    return g_ptr_array_new_with_free_func(refusal_free);
}

void owner_refuse(GPtrArray *refused, const char *uuid, GError *why)
{
    struct owner_refusal *refusal = g_new0(struct owner_refusal, 1);

    g_strlcpy(refusal->uuid, uuid, sizeof(refusal->uuid));
    refusal->why = why;
    g_ptr_array_add(refused, refusal);
}

bool owner_refused_none(const GPtrArray *refused, GError **error)
{
    if (refused->len == 0)
        return true;
    g_propagate_error(error, g_error_copy(((struct owner_refusal *)refused->pdata[0])->why));
    return false;
}

bool owners_claim(const char *store_path, const GPtrArray *owners, GPtrArray *refused,
                  GError **error)
{
    AUTO(file_lock) lock = lock_records(store_path, error);
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(GPtrArray) newer = g_ptr_array_new();

    if (!lock)
        return false;
    for (unsigned i = 0; i < owners->len; i++) {
        struct owner *owner = owners->pdata[i];
        GError *why = NULL;
        bool new = false;

        /* The second of a VM would be compared with what is known, and not with the first. */
        if (!g_hash_table_add(seen, owner->uuid))
            fail(&why, ERROR_INTEGRITY, "two records of VM %s at once", owner->vm);
        else if (check_claim(store_path, owner, &new, &why) && new)
            g_ptr_array_add(newer, owner);
        if (why)
            owner_refuse(refused, owner->uuid, why);
    }
    return write_records(store_path, newer, error);
}

/* Borrows it. */
static GPtrArray *only(const struct owner *owner)
{
    GPtrArray *one = g_ptr_array_new();

    g_ptr_array_add(one, (void *)owner);
    return one;
}

bool owner_claim(const char *store_path, const struct owner *owner, GError **error)
{
    g_autoptr(GPtrArray) one = only(owner), refused = owner_refusals_new();

    return owners_claim(store_path, one, refused, error) && owner_refused_none(refused, error);
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

/* What holds when CLAIM is taken, or NULL. *NEW: it has to be written. */
static struct owner *take(const char *store_path, const struct owner *claim, bool *new,
                          GError **error)
{
    AUTO(owner) known = NULL;
    AUTO(owner) next = owner_copy(claim);
    g_autoptr(GError) why = NULL;

    *new = false;
    owner_read(store_path, claim->uuid, &known, &why);
    if (known && known->epoch > claim->epoch && strcmp(known->site, claim->site) == 0)
        return g_steal_pointer(&known);
    *new = true;
    return next_epoch(known, why != NULL, claim->epoch, &next->epoch, error) && check(next, error)
               ? g_steal_pointer(&next)
               : NULL;
}

GPtrArray *owners_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)owner_free);
}

GPtrArray *owners_take(const char *store_path, const GPtrArray *claims, GError **error)
{
    AUTO(file_lock) lock = lock_records(store_path, error);
    g_autoptr(GPtrArray) taken = owners_new();
    g_autoptr(GPtrArray) newer = g_ptr_array_new();

    for (unsigned i = 0; lock && i < claims->len; i++) {
        bool new;
        struct owner *owner = take(store_path, claims->pdata[i], &new, error);

        if (!owner)
            return NULL;
        g_ptr_array_add(taken, owner);
        if (new)
            g_ptr_array_add(newer, owner);
    }
    return lock && write_records(store_path, newer, error) ? g_steal_pointer(&taken) : NULL;
}

bool owner_take(const char *store_path, const struct owner *claim, uint64_t above,
                struct owner **out, GError **error)
{
    AUTO(owner) want = owner_copy(claim);
    g_autoptr(GPtrArray) one = only(want);
    g_autoptr(GPtrArray) taken = NULL;

    want->epoch = above;
    taken = owners_take(store_path, one, error);
    if (taken)
        *out = g_ptr_array_steal_index(taken, 0);
    return taken != NULL;
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
    g_autoptr(GPtrArray) owners = owners_new();
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
