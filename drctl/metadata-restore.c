/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/metadata-restore.h"

#include <string.h>

#include "drctl/guard.h"
#include "drctl/pool.h"

#define TEXT_MAX_BYTES ((size_t)1 << 20)

static const char *const action_names[] = {
    [RESTORE_SAME] = "same", [RESTORE_MAKE] = "make",       [RESTORE_REPLACE] = "replace",
    [RESTORE_KEEP] = "keep", [RESTORE_BLOCKED] = "blocked", [RESTORE_NONE] = "none",
};

const char *restore_action_name(enum restore_action action)
{
    return action_names[action];
}

static void todo_free(void *data)
{
    struct restore_todo *todo = data;

    g_free(todo->why);
    g_free(todo->error);
    g_free(todo->value);
    g_free(todo);
}

void metadata_restore_clear(struct metadata_restore *restore)
{
    g_clear_pointer(&restore->todos, g_ptr_array_unref);
    g_clear_pointer(&restore->host_name, g_free);
}

/* --- deciding: what libvirt has ---------------------------------------------------------------- */

/* How libvirt lists and makes the kinds that it has, but for domains. */
static const struct {
    GPtrArray *(*list)(struct host *host, GError **error);
    bool (*define)(struct host *host, const char *xml, GError **error);
    const char *remove; /* how an administrator does it */
} libvirt_kinds[] = {
    [POOL_SECRET] = {host_secrets, host_define_secret, "secret-undefine"},
    [POOL_NWFILTER] = {host_nwfilters, host_define_nwfilter, "nwfilter-undefine"},
    [POOL_NETWORK] = {host_networks, host_define_network, "net-undefine"},
    [POOL_POOL] = {host_storage_pools, host_define_storage_pool, "pool-undefine"},
};

static bool is_of_libvirt(enum pool_kind kind)
{
    return kind == POOL_DOMAIN || (kind < G_N_ELEMENTS(libvirt_kinds) && libvirt_kinds[kind].list);
}

/* KEY: "uuid" or "name". */
static char *value_of(const char *definition, const char *key)
{
    AUTO(xml) xml = xml_parse(definition, "definition", NULL);

    return xml ? xml_string(xml_root(xml), key) : NULL;
}

static void decide(const struct metadata_restore *restore, struct restore_todo *todo, bool same)
{
    todo->action = same ? RESTORE_SAME : restore->replace ? RESTORE_REPLACE : RESTORE_KEEP;
}

static void block(struct restore_todo *todo, char *why)
{
    todo->action = RESTORE_BLOCKED;
    todo->why = why;
}

/* libvirt goes by what a definition says: one that is under the name of another object would take the place of
 * something that nobody has looked for. */
static bool says_what_it_is(const struct pool_object *object)
{
    g_autofree char *name = value_of(object->text, "name");
    g_autofree char *uuid = value_of(object->text, "uuid");

    if (object->kind == POOL_SECRET)
        return g_strcmp0(uuid, object->name) == 0;
    return g_strcmp0(name, object->name) == 0 &&
           (object->kind != POOL_DOMAIN || g_strcmp0(uuid, object->uuid) == 0);
}

static void decide_object(const struct metadata_restore *restore, struct restore_todo *todo,
                          const struct host_object *there)
{
    const struct pool_object *object = todo->object;
    g_autofree char *ours = value_of(object->text, "uuid");
    g_autofree char *theirs = value_of(there->xml, "uuid");

    decide(restore, todo, strcmp(there->xml, object->text) == 0);
    if (todo->action == RESTORE_REPLACE && g_strcmp0(ours, theirs) != 0)
        block(todo, g_strdup_printf("%s is here with another UUID: virsh %s %s", object->id,
                                    libvirt_kinds[object->kind].remove, object->name));
}

static bool plan_object(const struct metadata_restore *restore, struct restore_todo *todo,
                        GError **error)
{
    g_autoptr(GPtrArray) there = libvirt_kinds[todo->object->kind].list(restore->host, error);

    todo->action = RESTORE_MAKE;
    for (unsigned i = 0; there && i < there->len; i++) {
        const struct host_object *object = there->pdata[i];

        if (strcmp(object->name, todo->object->name) == 0)
            decide_object(restore, todo, object);
    }
    return there != NULL;
}

static bool open_value(const struct metadata_restore *restore, struct restore_todo *todo,
                       GError **error)
{
    uint8_t key[SEAL_KEY_SIZE];

    return secret_key_load(restore->passphrase, restore->pool->bundle->id->site, key, error) &&
           secret_value_open(key, todo->object->name, todo->object->value, &todo->value,
                             &todo->value_len, error);
}

/* A value that is not there is made; another one is another secret. */
static bool compare_value(const struct metadata_restore *restore, struct restore_todo *todo,
                          GError **error)
{
    g_autofree uint8_t *there = NULL;
    size_t len;

    if (todo->action == RESTORE_MAKE)
        return true;
    if (!host_secret_value(restore->host, todo->object->name, &there, &len, error))
        return false;
    if (!there && todo->action == RESTORE_SAME)
        todo->action = RESTORE_MAKE;
    else if (there && (len != todo->value_len || memcmp(there, todo->value, len) != 0))
        decide(restore, todo, false);
    return true;
}

static bool plan_secret(const struct metadata_restore *restore, struct restore_todo *todo,
                        GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!plan_object(restore, todo, error))
        return false;
    if (!todo->object->value || todo->action == RESTORE_BLOCKED)
        return true;
    if (!restore->passphrase) {
        todo->why = g_strdup("without its value, which is sealed: --secret-values FILE");
        return true;
    }
    if (open_value(restore, todo, &why))
        return compare_value(restore, todo, error);
    block(todo, g_strdup(why->message));
    return true;
}

/* *DOMAIN is NULL when there is none. */
static bool look_for(struct host *host, const char *name, struct domain **domain, GError **error)
{
    g_autoptr(GError) why = NULL;

    *domain = host_domain(host, name, &why);
    if (*domain || error_is(why, ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static bool decide_domain(const struct metadata_restore *restore, struct restore_todo *todo,
                          struct domain *domain, GError **error)
{
    g_autofree char *xml = domain_xml(domain, DOMAIN_XML_INACTIVE, error);
    enum domain_state state;

    if (!xml || !domain_state(domain, &state, error))
        return false;
    decide(restore, todo, strcmp(xml, todo->object->text) == 0);
    if (todo->action == RESTORE_REPLACE && state != DOMAIN_OFF)
        block(todo, g_strdup_printf("%s is %s: shut it down first", todo->object->name,
                                    domain_state_name(state)));
    return true;
}

/* A VM that another host of this site has is not lost, and on two of them it could run twice. */
static bool is_elsewhere(const struct metadata_restore *restore, struct restore_todo *todo,
                         bool *elsewhere, GError **error)
{
    const GPtrArray *hosts = restore->context->hosts;

    *elsewhere = false;
    for (unsigned i = 0; i < hosts->len && !*elsewhere; i++) {
        AUTO(domain) there = NULL;

        if (hosts->pdata[i] == restore->host)
            continue;
        if (!look_for(hosts->pdata[i], todo->object->uuid, &there, error))
            return false;
        *elsewhere = there != NULL;
        if (there)
            todo->why = g_strdup_printf("it is at %s", host_uri(hosts->pdata[i]));
    }
    return true;
}

static bool plan_domain(const struct metadata_restore *restore, struct restore_todo *todo,
                        GError **error)
{
    const struct pool_object *object = todo->object;
    AUTO(domain) same = NULL;
    AUTO(domain) named = NULL;
    bool elsewhere;

    if (!look_for(restore->host, object->uuid, &same, error) ||
        !look_for(restore->host, object->name, &named, error))
        return false;
    if (same)
        return decide_domain(restore, todo, same, error);
    if (!is_elsewhere(restore, todo, &elsewhere, error))
        return false;
    if (elsewhere) {
        todo->action = RESTORE_NONE;
        return true;
    }
    todo->action = RESTORE_MAKE;
    if (named)
        block(todo, g_strdup_printf("another VM is called %s here (%s): virsh domrename %s "
                                    "OTHER-NAME",
                                    object->name, domain_uuid(named), object->name));
    return true;
}

/* --- deciding: files --------------------------------------------------------------------------- */

/* Where drctl's own files lie; g_free. A vApp may be in a file of another name here, and two of one name would
 * stop everything. */
static char *own_path(const struct metadata_restore *restore, const struct pool_object *object)
{
    const struct config *config = restore->context->config;
    AUTO(vapp) here = object->kind == POOL_VAPP ? vapp_find(config->dir, object->name, NULL) : NULL;
    g_autofree char *name =
        g_strconcat(object->name, object->kind == POOL_VAPP ? ".vapp" : ".plan", NULL);

    if (here)
        return g_strdup(here->path);
    return object->kind == POOL_CONF ? g_strdup(config->path)
                                     : g_build_filename(config->dir, name, NULL);
}

static bool is_vapp(const struct pool_object *object, GError **error)
{
    AUTO(vapp) vapp = vapp_parse(object->text, strlen(object->text), object->id, error);

    return vapp && (strcmp(vapp->name, object->name) == 0 ||
                    fail(error, ERROR_INTEGRITY, "it calls itself %s", vapp->name));
}

/* One that cannot be read, because it is of another version perhaps, would stop everything here. */
static bool is_readable(const struct metadata_restore *restore, const struct pool_object *object,
                        GError **error)
{
    const char *dir = restore->context->config->dir;
    AUTO(config) config = NULL;
    AUTO(recovery_plan) plan = NULL;

    if (object->kind == POOL_VAPP)
        return is_vapp(object, error);
    if (object->kind == POOL_CONF)
        config = config_parse(object->text, strlen(object->text), dir, error);
    else
        plan = recovery_plan_parse(object->text, strlen(object->text), object->name, object->id,
                                   error);
    return config || plan;
}

static void plan_own_file(const struct metadata_restore *restore, struct restore_todo *todo)
{
    g_autofree char *path = own_path(restore, todo->object);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;

    if (!is_readable(restore, todo->object, &why))
        block(todo, g_strdup(why->message));
    else if (file_read(path, TEXT_MAX_BYTES, &text, NULL, &why))
        decide(restore, todo, strcmp(text, todo->object->text) == 0);
    else if (error_is(why, ERROR_NOT_FOUND))
        todo->action = RESTORE_MAKE;
    else
        block(todo, g_strdup(why->message));
}

static void plan_host_file(const struct metadata_restore *restore, struct restore_todo *todo)
{
    const struct host_file *file = todo->object->file;
    enum host_file_state state;

    if (file->left_out) {
        todo->action = RESTORE_NONE;
        todo->why = g_strdup_printf("it was left out: %s", file->left_out);
        return;
    }
    /* What another side says must not become any file of this host. */
    if (!host_path_is_chosen(file->path, restore->context->config->host_files)) {
        block(todo, g_strdup_printf("it is not among host-files of %s: add it there, or write it "
                                    "elsewhere with --to-dir",
                                    restore->context->config->path));
        return;
    }
    state = host_file_state(file);
    if (state == HOST_FILE_MISSING)
        todo->action = RESTORE_MAKE;
    else
        decide(restore, todo, state == HOST_FILE_SAME);
}

/* --- deciding: whose it is --------------------------------------------------------------------- */

static bool host_has_its_own(const struct metadata_restore *restore,
                             const struct pool_object *object)
{
    for (unsigned i = 0; i < restore->pool->objects->len; i++) {
        const struct pool_object *other = restore->pool->objects->pdata[i];

        if (other->kind == object->kind && strcmp(other->name, object->name) == 0 &&
            g_strcmp0(other->host, restore->host_name) == 0)
            return true;
    }
    return false;
}

/* Why OBJECT is not for the host, or NULL; g_free. A host of which nothing is known gets what the first one had. */
static char *of_another_host(const struct metadata_restore *restore,
                             const struct pool_object *object)
{
    if (object->host && strcmp(object->host, restore->host_name) != 0)
        return g_strdup_printf("it is of host %s", object->host);
    return !object->host && host_has_its_own(restore, object)
               ? g_strdup_printf("host %s has one of its own", restore->host_name)
               : NULL;
}

/* --- deciding: all ----------------------------------------------------------------------------- */

static bool plan_libvirt(const struct metadata_restore *restore, struct restore_todo *todo,
                         GError **error)
{
    if (!says_what_it_is(todo->object)) {
        block(todo, g_strdup("its definition is that of something else"));
        return true;
    }
    todo->why = restore->all ? of_another_host(restore, todo->object) : NULL;
    if (todo->why) {
        todo->action = RESTORE_NONE;
        return true;
    }
    switch (todo->object->kind) {
    case POOL_DOMAIN:
        return plan_domain(restore, todo, error);
    case POOL_SECRET:
        return plan_secret(restore, todo, error);
    default:
        return plan_object(restore, todo, error);
    }
}

static bool plan_one(const struct metadata_restore *restore, struct restore_todo *todo,
                     GError **error)
{
    switch (todo->object->kind) {
    case POOL_CONF:
    case POOL_VAPP:
    case POOL_PLAN:
        plan_own_file(restore, todo);
        return true;
    case POOL_FILE:
        plan_host_file(restore, todo);
        return true;
    case POOL_HOST:
        todo->action = RESTORE_NONE;
        todo->why = g_strdup("capabilities are only to be read");
        return true;
    default:
        return plan_libvirt(restore, todo, error);
    }
}

static struct host *asked_host(struct context *context, GError **error)
{
    GPtrArray *hosts = context_hosts(context, error);
    const char *uri = option_value(context, "host");

    if (!hosts)
        return NULL;
    if (!uri && hosts->len == 1)
        return hosts->pdata[0];
    for (unsigned i = 0; uri && i < hosts->len; i++)
        if (strcmp(host_uri(hosts->pdata[i]), uri) == 0)
            return hosts->pdata[i];
    fail(error, ERROR_USAGE, "%s: say --host with one of the URIs of libvirt in %s",
         uri ? "there is no such host" : "this site has several hosts", context->config->path);
    return NULL;
}

static bool find_host(struct metadata_restore *restore, GError **error)
{
    if (!restore->host)
        restore->host = asked_host(restore->context, error);
    if (restore->host && !restore->host_name)
        restore->host_name = pool_host_name(restore->context->hosts, restore->host, error);
    return restore->host_name != NULL;
}

bool metadata_restore_plan(struct metadata_restore *restore, const GPtrArray *objects,
                           GError **error)
{
    restore->todos = g_ptr_array_new_with_free_func(todo_free);
    for (unsigned i = 0; i < objects->len; i++) {
        const struct pool_object *object = objects->pdata[i];
        struct restore_todo *todo = g_new0(struct restore_todo, 1);

        todo->object = object;
        g_ptr_array_add(restore->todos, todo);
        if ((is_of_libvirt(object->kind) && !find_host(restore, error)) ||
            !plan_one(restore, todo, error))
            return false;
    }
    return true;
}

/* --- doing ------------------------------------------------------------------------------------- */

/* As of the bundle; what is known here may be newer. */
static bool claim_owner(const struct metadata_restore *restore, const char *uuid, GError **error)
{
    const struct config *config = restore->context->config;
    g_autoptr(GPtrArray) owners = bundle_owners(restore->pool->bundle, error);
    g_autoptr(GPtrArray) mine = g_ptr_array_new(), refused = owner_refusals_new();

    for (unsigned i = 0; owners && i < owners->len; i++)
        if (strcmp(((const struct owner *)owners->pdata[i])->uuid, uuid) == 0)
            g_ptr_array_add(mine, owners->pdata[i]);
    return owners && owners_claim(config->store, mine, refused, error);
}

static void tell_owner(const struct metadata_restore *restore, const struct pool_object *object)
{
    const struct config *config = restore->context->config;
    AUTO(owner) owner = NULL;

    if (owner_read(config->store, object->uuid, &owner, NULL) && owner &&
        strcmp(owner->site, config->site) != 0)
        progress_note(
            restore->context->progress,
            "%s belongs to %s: it must not start here; to bring it home: drctl failback %s",
            object->name, owner->site, object->name);
}

/* The guard knows whose it is before anybody can start it. */
static bool make_domain(const struct metadata_restore *restore, const struct pool_object *object,
                        GError **error)
{
    const struct config *config = restore->context->config;
    AUTO(domain) domain = NULL;
    g_autoptr(GError) why = NULL;

    if (!claim_owner(restore, object->uuid, error))
        return false;
    /* What fails here fails below, too, and is told there. */
    if (config->guard != GUARD_OFF)
        guarded_arm(config->dir, object->uuid, object->name, config->guard, NULL);
    domain = host_define(restore->host, object->text, error);
    if (!domain)
        return false;
    if (!guard_watch(config, domain, &why))
        progress_note(restore->context->progress, "%s is not guarded: %s", object->name,
                      why->message);
    tell_owner(restore, object);
    return true;
}

static bool make_secret(const struct metadata_restore *restore, const struct restore_todo *todo,
                        GError **error)
{
    const struct pool_object *object = todo->object;

    return host_define_secret(restore->host, object->text, error) &&
           (!todo->value || host_set_secret_value(restore->host, object->name, todo->value,
                                                  todo->value_len, error));
}

static bool make_one(const struct metadata_restore *restore, const struct restore_todo *todo,
                     GError **error)
{
    const struct pool_object *object = todo->object;
    g_autofree char *path = NULL;

    switch (object->kind) {
    case POOL_DOMAIN:
        return make_domain(restore, object, error);
    case POOL_SECRET:
        return make_secret(restore, todo, error);
    case POOL_CONF:
    case POOL_VAPP:
    case POOL_PLAN:
        path = own_path(restore, object);
        return config_write_file(path, object->text, error);
    case POOL_FILE:
        return host_file_write(object->file, error);
    default:
        return libvirt_kinds[object->kind].define(restore->host, object->text, error);
    }
}

void metadata_restore_do(struct metadata_restore *restore)
{
    for (unsigned i = 0; i < restore->todos->len; i++) {
        struct restore_todo *todo = restore->todos->pdata[i];
        g_autoptr(GError) why = NULL;

        if (todo->action != RESTORE_MAKE && todo->action != RESTORE_REPLACE)
            continue;
        todo->done = interrupt_check(&why) && make_one(restore, todo, &why);
        if (why)
            todo->error = g_strdup(why->message);
    }
}

/* --- to plain files ---------------------------------------------------------------------------- */

/* "DIR/network" of an object, "DIR/network/kvm2" of one that is of that host alone; g_free */
static char *plain_dir(const struct pool_object *object, const char *dir)
{
    return g_build_filename(dir, pool_kind_name(object->kind), object->host, NULL);
}

/* Two hosts may each have a VM of that name. */
static char *plain_path(const struct pool_object *object, const char *dir)
{
    static const char *const suffixes[] = {
        [POOL_CONF] = "", [POOL_VAPP] = ".vapp", [POOL_PLAN] = ".plan", [POOL_FILE] = ""};
    const char *suffix = object->kind < G_N_ELEMENTS(suffixes) && suffixes[object->kind]
                             ? suffixes[object->kind]
                             : ".xml";
    g_autofree char *parent = plain_dir(object, dir);
    g_autofree char *path = g_strdup_printf(
        "%s%s%s%s", parent, object->kind == POOL_FILE ? "" : "/", object->name, suffix);

    if (object->kind != POOL_DOMAIN || !g_file_test(path, G_FILE_TEST_EXISTS))
        return g_steal_pointer(&path);
    return g_strdup_printf("%s/%s-%s%s", parent, object->name, object->uuid, suffix);
}

static bool write_plain(const struct pool_object *object, const char *dir, GError **error)
{
    g_autofree char *path = plain_path(object, dir);
    g_autofree char *parent = g_path_get_dirname(path);
    size_t len = object->file ? object->file->len : object->text ? strlen(object->text) : 0;

    if (object->file && object->file->is_directory)
        return dir_make(path, 0700, error);
    return !object->text ||
           (dir_make(parent, 0700, error) && file_write(path, object->text, len, 0600, error));
}

bool metadata_write_files(const struct pool *pool, const GPtrArray *objects, const char *dir,
                          GError **error)
{
    g_autofree char *index = g_build_filename(dir, BUNDLE_FILES, NULL);
    const char *text = bundle_member(pool->bundle, BUNDLE_FILES);
    g_auto(GStrv) there = dir_list(dir, error);

    if (!there)
        return false;
    if (there[0])
        return fail(error, ERROR_CONFLICT, "%s is not empty: name another directory", dir);
    if (!dir_make(dir, 0700, error))
        return false;
    for (unsigned i = 0; i < objects->len; i++)
        if (!interrupt_check(error) || !write_plain(objects->pdata[i], dir, error))
            return false;
    return !text || file_write(index, text, strlen(text), 0600, error);
}
