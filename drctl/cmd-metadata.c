/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/metadata-restore.h"
#include "drctl/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_CHANGES 4
#define DIFF_MAX_BYTES ((size_t)64 << 20)

/* --- what there is ------------------------------------------------------------------------------ */

/* The store that is asked: this site's own, or that of --at. */
struct source {
    struct store *store; /* borrowed from the context, or OPENED */
    struct store *opened;
};

static void source_clear(struct source *source)
{
    store_free(source->opened);
}
#define AUTO_SOURCE __attribute__((cleanup(source_clear))) struct source

static bool source_open(struct source *source, struct context *context, GError **error)
{
    const char *at = option_value(context, "at");

    if (!at || g_str_equal(at, "local"))
        source->store = context_store(context, error);
    else
        source->store = source->opened = context_open(context, at, error);
    return source->store != NULL;
}

/* Names of sites with bundles; of a store elsewhere only our own can be asked for by name. g_strfreev */
static char **find_sites(struct context *context, const struct source *source, GError **error)
{
    g_autofree char *pool = g_build_filename(context->config->store, "pool", NULL);
    const char *asked = option_value(context, "from");
    char *own[] = {(char *)(asked ? asked : context->config->site), NULL};

    return source->opened || asked ? g_strdupv(own) : dir_list(pool, error);
}

static bool fail_none(struct context *context, const struct source *source, const char *site,
                      GError **error)
{
    return fail(
        error, ERROR_NOT_FOUND,
        "%s has no pool metadata of site %s: it comes with points of its VMs, and lies where "
        "they go: --at REMOTE%s",
        source->store->label, site,
        context->config->remotes->len == 0 ? " (no [remote] is configured)" : "");
}

/* Our own, or that of the only site that there is. g_free */
static char *default_site(struct context *context, const struct source *source, GError **error)
{
    g_auto(GStrv) sites = find_sites(context, source, error);
    g_autofree char *list = NULL;

    if (!sites)
        return NULL;
    if (g_strv_contains((const char *const *)sites, context->config->site))
        return g_strdup(context->config->site);
    if (g_strv_length(sites) == 1)
        return g_strdup(sites[0]);
    list = g_strjoinv(", ", sites);
    if (*list)
        fail(error, ERROR_USAGE, "of which site? There is pool metadata of %s", list);
    else
        fail_none(context, source, context->config->site, error);
    return NULL;
}

static const struct bundle_id *find_generation(const GPtrArray *ids, uint64_t generation)
{
    for (unsigned i = 0; i < ids->len; i++) {
        const struct bundle_id *id = ids->pdata[i];

        if (!generation || id->generation == generation)
            return id;
    }
    return NULL;
}

static bool read_generation(const char *text, uint64_t *generation, GError **error)
{
    return g_ascii_string_to_unsigned(text, 10, 1, INT64_MAX, generation, NULL) ||
           fail(error, ERROR_USAGE, "'%s' is not a generation; see: drctl metadata list", text);
}

/* GENERATION 0: the newest. */
static struct pool *load(struct context *context, const struct source *source, const char *site,
                         uint64_t generation, GError **error)
{
    g_autoptr(GPtrArray) ids = store_bundles(source->store, site, error);
    const struct bundle_id *id = ids ? find_generation(ids, generation) : NULL;
    struct bundle *bundle = id ? bundle_fetch_id(source->store, id, error) : NULL;

    if (ids && ids->len == 0)
        fail_none(context, source, site, error);
    else if (ids && !id)
        fail(error, ERROR_NOT_FOUND,
             "%s has no generation %" PRIu64 " of site %s; see: drctl metadata list",
             source->store->label, generation, site);
    return bundle ? pool_new(bundle, error) : NULL;
}

static struct pool *load_asked(struct context *context, const struct source *source,
                               const char *site, GError **error)
{
    const char *text = option_value(context, "generation");
    g_autofree char *preset = site ? NULL : default_site(context, source, error);
    uint64_t generation = 0;

    if ((!site && !preset) || (text && !read_generation(text, &generation, error)))
        return NULL;
    return load(context, source, site ? site : preset, generation, error);
}

/* --- list --------------------------------------------------------------------------------------- */

static const char *sign_name(char sign)
{
    return sign == '+' ? "added" : sign == '-' ? "removed" : "changed";
}

static json_t *changes_json(const GArray *changes)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < changes->len; i++) {
        const struct pool_change *change = &g_array_index(changes, struct pool_change, i);
        json_t *json = json_object();

        json_set_string(json, "change", sign_name(change->sign));
        json_set_string(json, "object", change->id);
        json_array_append_new(list, json);
    }
    return list;
}

static char *changes_text(const GArray *changes)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < MIN(changes->len, SHOWN_CHANGES); i++) {
        const struct pool_change *change = &g_array_index(changes, struct pool_change, i);

        g_string_append_printf(text, "%s%c%s", i ? " " : "", change->sign, change->id);
    }
    if (changes->len > SHOWN_CHANGES)
        g_string_append_printf(text, " and %u more", changes->len - SHOWN_CHANGES);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static void list_one(const struct bundle_id *id, const struct pool *before, const struct pool *pool,
                     json_t *list, struct table *table)
{
    g_autoptr(GArray) changes = before ? pool_changes(before, pool) : NULL;
    g_autofree char *generation = g_strdup_printf("%" PRIu64, id->generation);
    g_autofree char *text =
        changes ? changes_text(changes) : g_strdup_printf("%u objects", pool->objects->len);
    json_t *json = json_object();

    json_set_string(json, "site", id->site);
    json_set_u64(json, "generation", id->generation);
    json_set_string(json, "time", id->time);
    json_set_u64(json, "objects", pool->objects->len);
    json_object_set_new(json, "changes", changes ? changes_json(changes) : json_null());
    json_array_append_new(list, json);
    table_row(table, (const char *[]){id->site, generation, id->time, text});
}

/* From the oldest on; the newest is the last line. A damaged one is told in *DAMAGED, and the others are listed. */
static bool list_site(const struct source *source, const char *site, json_t *list,
                      struct table *table, GError **damaged, GError **error)
{
    g_autoptr(GPtrArray) ids = store_bundles(source->store, site, error);
    AUTO(pool) before = NULL;

    for (unsigned i = ids ? ids->len : 0; i-- > 0;) {
        g_autoptr(GError) why = NULL;
        struct bundle *bundle = bundle_fetch_id(source->store, ids->pdata[i], &why);
        struct pool *pool = bundle ? pool_new(bundle, &why) : NULL;

        if (pool) {
            list_one(ids->pdata[i], before, pool, list, table);
            pool_free(before);
            before = pool;
        } else if (!error_is(why, ERROR_INTEGRITY)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        } else if (!*damaged) {
            *damaged = g_steal_pointer(&why);
        }
    }
    return ids != NULL;
}

static bool cmd_metadata_list(struct context *context, GError **error)
{
    static const char *const headers[] = {"SITE", ">GENERATION", "TIME", "CHANGED", NULL};
    AUTO_SOURCE source = {0};
    AUTO(table) table = table_new(headers);
    g_auto(GStrv) sites = NULL;
    g_autoptr(GError) damaged = NULL;
    json_auto_t *list = json_array();

    if (!source_open(&source, context, error) || !(sites = find_sites(context, &source, error)))
        return false;
    for (char **site = sites; *site; site++)
        if (site_name_is_valid(*site) && !list_site(&source, *site, list, table, &damaged, error))
            return false;
    if (json_array_size(list) == 0 && !damaged)
        return fail_none(context, &source, sites[0] ? sites[0] : context->config->site, error);
    if (context->json)
        print_json(list);
    else
        table_print(table);
    if (!damaged)
        return true;
    g_propagate_error(error, g_steal_pointer(&damaged));
    return false;
}

/* --- show --------------------------------------------------------------------------------------- */

static char *mode_text(const struct pool_object *object)
{
    const struct host_file *file = object->file;

    if (!file)
        return object->value ? g_strdup("its value is sealed") : NULL;
    return file->left_out
               ? g_strdup_printf("left out: %s", file->left_out)
               : g_strdup_printf("%04o %s:%s%s", file->mode, file->user ? file->user : "?",
                                 file->group ? file->group : "?",
                                 file->is_directory ? ", directory" : "");
}

static size_t bytes_of(const struct pool_object *object)
{
    return object->file ? object->file->len : strlen(object->text);
}

static json_t *object_json(const struct pool_object *object)
{
    g_autofree char *mode = mode_text(object);
    json_t *json = json_object();

    json_set_string(json, "object", object->id);
    json_set_string(json, "kind", pool_kind_name(object->kind));
    json_set_string(json, "name", object->name);
    json_set_string(json, "uuid", object->uuid);
    json_set_u64(json, "bytes", bytes_of(object));
    json_set_string(json, "mode", mode);
    return json;
}

static void show_all(struct context *context, const struct pool *pool)
{
    static const char *const headers[] = {"OBJECT", ">SIZE", "MODE", NULL};
    AUTO(table) table = table_new(headers);
    json_auto_t *json = json_object();
    json_t *list = json_array();

    json_set_string(json, "site", pool->bundle->id->site);
    json_set_u64(json, "generation", pool->bundle->id->generation);
    json_set_string(json, "time", pool->bundle->id->time);
    json_object_set_new(json, "objects", list);
    for (unsigned i = 0; i < pool->objects->len; i++) {
        const struct pool_object *object = pool->objects->pdata[i];
        g_autofree char *bytes = bytes_format(bytes_of(object));
        g_autofree char *mode = mode_text(object);

        json_array_append_new(list, object_json(object));
        table_row(table, (const char *[]){object->id, bytes, mode});
    }
    if (context->json) {
        print_json(json);
        return;
    }
    printf("Site %s, generation %" PRIu64 " of %s\n\n", pool->bundle->id->site,
           pool->bundle->id->generation, pool->bundle->id->time);
    table_print(table);
}

static void show_object(struct context *context, const struct pool_object *object)
{
    size_t len = bytes_of(object);

    if (context->json) {
        json_auto_t *json = object_json(object);
        g_autofree char *base64 =
            object->file ? g_base64_encode((const uint8_t *)object->text, len) : NULL;

        json_set_string(json, base64 ? "base64" : "text", base64 ? base64 : object->text);
        print_json(json);
        return;
    }
    fwrite(object->text, 1, len, stdout);
    if (len > 0 && object->text[len - 1] != '\n' && !object->file)
        putchar('\n');
}

static bool show_found(struct context *context, const GPtrArray *found, GError **error)
{
    const struct pool_object *object = found->pdata[0];

    if (found->len > 1)
        return fail(error, ERROR_USAGE, "%s is a directory of %u objects: name one of them",
                    object->name, found->len - 1);
    if (!object->text)
        return fail(error, ERROR_NOT_FOUND, "%s has no content here: %s", object->id,
                    object->file && object->file->left_out ? object->file->left_out
                                                           : "it is a directory");
    show_object(context, object);
    return true;
}

/* One argument is a site if there is one of that name, else an object. */
static bool names_site(struct context *context, const struct source *source, const char *word)
{
    g_autoptr(GPtrArray) ids =
        site_name_is_valid(word) ? store_bundles(source->store, word, NULL) : NULL;

    return context->args[1] || (ids && ids->len > 0);
}

static bool cmd_metadata_show(struct context *context, GError **error)
{
    AUTO_SOURCE source = {0};
    AUTO(pool) pool = NULL;
    g_autoptr(GPtrArray) found = NULL;
    const char *first = context->args[0], *word = NULL, *site = NULL;

    if (!source_open(&source, context, error))
        return false;
    if (first && names_site(context, &source, first)) {
        site = first;
        word = context->args[1];
    } else {
        word = first;
    }
    pool = load_asked(context, &source, site, error);
    if (!pool)
        return false;
    if (!word) {
        show_all(context, pool);
        return true;
    }
    found = pool_find(pool, word, error);
    return found && show_found(context, found, error);
}

/* --- diff --------------------------------------------------------------------------------------- */

/* Both as directories, of which diff(1) tells the differences. */
static bool run_diff(const char *dir, const char *const *names, char **text, GError **error)
{
    g_autofree char *old = g_build_filename(dir, names[0], NULL);
    g_autofree char *new = g_build_filename(dir, names[1], NULL);
    const char *const argv[] = {"diff", "-ruN", old, new, NULL};
    struct process_watch watch = {.output_max = DIFF_MAX_BYTES};
    int status;

    if (!process_watch(argv, &watch, text, &status, error))
        return false;
    return status <= 1 || fail(error, ERROR_FAILED, "diff failed with exit status %d", status);
}

static bool diff_text(const struct pool *const *pools, char *dir, char **text, GError **error)
{
    g_autofree char *old = g_strdup_printf("generation-%" PRIu64, pools[0]->bundle->id->generation);
    g_autofree char *new = g_strdup_printf("generation-%" PRIu64, pools[1]->bundle->id->generation);
    const char *const names[] = {old, new};
    g_autofree char *base = g_strconcat(dir, "/", NULL);
    g_autofree char *raw = NULL;
    g_autoptr(GString) clean = NULL;

    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *path = g_build_filename(dir, names[i], NULL);

        if (!metadata_write_files(pools[i], pools[i]->objects, path, error))
            return false;
    }
    if (!run_diff(dir, names, &raw, error))
        return false;
    clean = g_string_new(raw);
    g_string_replace(clean, base, "", 0);
    *text = g_string_free(g_steal_pointer(&clean), FALSE);
    return true;
}

/* Definitions may hold passwords: the directory is ours alone, and gone afterwards. */
static bool print_diff(const struct pool *const *pools, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *dir = g_dir_make_tmp("drctl-diff-XXXXXX", &why);
    g_autofree char *text = NULL;
    bool ok;

    if (!dir)
        return fail(error, ERROR_IO, "cannot make a directory: %s", why->message);
    ok = diff_text(pools, dir, &text, error);
    tree_remove(dir, NULL);
    if (ok)
        fputs(text, stdout);
    return ok;
}

static bool diff(struct context *context, const struct pool *const *pools, GError **error)
{
    g_autoptr(GArray) changes = pool_changes(pools[0], pools[1]);
    json_auto_t *list = changes_json(changes);

    if (context->json) {
        print_json(list);
        return true;
    }
    for (unsigned i = 0; i < changes->len; i++) {
        const struct pool_change *change = &g_array_index(changes, struct pool_change, i);

        printf("%c %s\n", change->sign, change->id);
    }
    if (changes->len == 0)
        puts("Nothing differs.");
    else
        putchar('\n');
    return changes->len == 0 || print_diff(pools, error);
}

static bool cmd_metadata_diff(struct context *context, GError **error)
{
    AUTO_SOURCE source = {0};
    char **generations = context->args[2] ? context->args + 1 : context->args;
    g_autofree char *site = NULL;
    uint64_t numbers[2];
    AUTO(pool) before = NULL;
    AUTO(pool) after = NULL;

    if (!read_generation(generations[0], &numbers[0], error) ||
        !read_generation(generations[1], &numbers[1], error) ||
        !source_open(&source, context, error))
        return false;
    site = context->args[2] ? g_strdup(context->args[0]) : default_site(context, &source, error);
    before = site ? load(context, &source, site, numbers[0], error) : NULL;
    after = before ? load(context, &source, site, numbers[1], error) : NULL;
    return after && diff(context, (const struct pool *const[]){before, after}, error);
}

/* --- restore ------------------------------------------------------------------------------------ */

static GPtrArray *find_objects(struct context *context, const struct pool *pool, GError **error)
{
    g_autoptr(GPtrArray) objects = g_ptr_array_new();

    if (option_set(context, "all"))
        return g_ptr_array_ref(pool->objects);
    for (char **word = context->args; *word; word++) {
        g_autoptr(GPtrArray) found = pool_find(pool, *word, error);

        if (!found)
            return NULL;
        for (unsigned i = 0; i < found->len; i++)
            if (!g_ptr_array_find(objects, found->pdata[i], NULL))
                g_ptr_array_add(objects, found->pdata[i]);
    }
    return g_steal_pointer(&objects);
}

static unsigned count(const struct metadata_restore *restore, enum restore_action action)
{
    unsigned n = 0;

    for (unsigned i = 0; i < restore->todos->len; i++)
        n += ((const struct restore_todo *)restore->todos->pdata[i])->action == action;
    return n;
}

/* What was asked for by its name, and cannot be, keeps everything from being done. */
static bool check_named(const struct metadata_restore *restore, GError **error)
{
    for (unsigned i = 0; i < restore->todos->len; i++) {
        const struct restore_todo *todo = restore->todos->pdata[i];

        if (todo->action == RESTORE_KEEP)
            return fail(error, ERROR_CONFLICT,
                        "%s is here, and is not what the bundle has: --replace puts that in its "
                        "place; nothing was changed",
                        todo->object->id);
        if (todo->action == RESTORE_BLOCKED)
            return fail(error, ERROR_CONFLICT, "%s cannot be restored: %s; nothing was changed",
                        todo->object->id, todo->why);
    }
    return true;
}

static bool confirm_replace(const struct metadata_restore *restore, GError **error)
{
    unsigned n = count(restore, RESTORE_REPLACE);
    g_autofree char *question = NULL;

    if (n == 0 || option_set(restore->context, "yes"))
        return true;
    for (unsigned i = 0; i < restore->todos->len; i++) {
        const struct restore_todo *todo = restore->todos->pdata[i];

        if (todo->action == RESTORE_REPLACE)
            fprintf(stderr, "%s is here, and will be replaced.\n", todo->object->id);
    }
    question = g_strdup_printf("Replace %u %s? Type replace:", n, n == 1 ? "object" : "objects");
    return confirm(question, "replace", "--yes", error);
}

static void print_restore(const struct metadata_restore *restore)
{
    static const char *const headers[] = {"OBJECT", "ACTION", "DONE", "WHY", NULL};
    AUTO(table) table = table_new(headers);
    json_auto_t *list = json_array();

    for (unsigned i = 0; i < restore->todos->len; i++) {
        const struct restore_todo *todo = restore->todos->pdata[i];
        const char *why = todo->error                    ? todo->error
                          : todo->action == RESTORE_KEEP ? "another one is here; --replace"
                                                         : todo->why;
        json_t *json = json_object();

        json_set_string(json, "object", todo->object->id);
        json_set_string(json, "action", restore_action_name(todo->action));
        json_object_set_new(json, "done", json_boolean(todo->done));
        json_set_string(json, "why", why);
        json_array_append_new(list, json);
        table_row(table, (const char *[]){todo->object->id, restore_action_name(todo->action),
                                          todo->done ? "yes" : "no", why});
    }
    if (restore->context->json)
        print_json(list);
    else
        table_print(table);
}

static bool conclude(const struct metadata_restore *restore, GError **error)
{
    unsigned failed = count(restore, RESTORE_BLOCKED), n = restore->todos->len;
    const char *first = NULL;

    for (unsigned i = 0; i < n; i++) {
        const struct restore_todo *todo = restore->todos->pdata[i];

        failed += todo->error != NULL;
        if (!first)
            first = todo->action == RESTORE_BLOCKED ? todo->why : todo->error;
    }
    if (failed == 0)
        return true;
    return fail(error, failed == n ? ERROR_FAILED : ERROR_PARTIAL,
                "%u of %u objects are not restored: %s", failed, n, first);
}

static bool restore_objects(struct context *context, const struct pool *pool,
                            const GPtrArray *objects, GError **error)
{
    const char *passphrase = option_value(context, "secret-values");
    struct metadata_restore restore = {
        .context = context,
        .pool = pool,
        .replace = option_set(context, "replace"),
        .all = option_set(context, "all"),
        .passphrase = passphrase ? passphrase : context->config->secret_values,
    };
    bool dry_run = option_set(context, "dry-run");
    bool ok = metadata_restore_plan(&restore, objects, error) &&
              (restore.all || dry_run || check_named(&restore, error)) &&
              (dry_run || confirm_replace(&restore, error));

    if (ok && !dry_run)
        metadata_restore_do(&restore);
    if (ok)
        print_restore(&restore);
    ok = ok && (dry_run || conclude(&restore, error));
    metadata_restore_clear(&restore);
    return ok;
}

static bool cmd_metadata_restore(struct context *context, GError **error)
{
    const char *dir = option_value(context, "to-dir");
    AUTO_SOURCE source = {0};
    AUTO(pool) pool = NULL;
    g_autoptr(GPtrArray) objects = NULL;

    if (option_set(context, "all") == (context->args[0] != NULL))
        return fail(error, ERROR_USAGE,
                    "restore what? Name objects, see: drctl metadata show; or give --all");
    if (dir && (option_set(context, "replace") || option_set(context, "dry-run")))
        return fail(error, ERROR_USAGE,
                    "--to-dir writes only into a new directory: give neither --replace nor "
                    "--dry-run");
    if (!source_open(&source, context, error))
        return false;
    pool = load_asked(context, &source, option_value(context, "from"), error);
    objects = pool ? find_objects(context, pool, error) : NULL;
    if (!objects)
        return false;
    if (!dir)
        return restore_objects(context, pool, objects, error);
    if (!metadata_write_files(pool, objects, dir, error))
        return false;
    fprintf(stderr, "%u objects of site %s are in %s\n", objects->len, pool->bundle->id->site, dir);
    return true;
}

/* ------------------------------------------------------------------------------------------------ */

#define AT_OPTION                                                                                  \
    {                                                                                              \
        "at", "REMOTE", "what the store of that site has, not this one's"                          \
    }
#define GENERATION_OPTION                                                                          \
    {                                                                                              \
        "generation", "N", "an older one; default: the highest"                                    \
    }

static const struct option list_options[] = {AT_OPTION, {"from", "SITE", "only of that site"}, {0}};
static const struct option show_options[] = {AT_OPTION, GENERATION_OPTION, {0}};
static const struct option diff_options[] = {AT_OPTION, {0}};
static const struct option restore_options[] = {
    {"all", NULL, "everything, for a host that is made anew"},
    {"from", "SITE", "of that site; default: this one"},
    AT_OPTION,
    GENERATION_OPTION,
    {"host", "URI", "the libvirt host, where this site has several"},
    {"secret-values", "FILE", "of the passphrase; default: that of drctl.conf"},
    {"replace", NULL, "also what is here and differs"},
    {"yes", NULL, "replace without a question"},
    {"to-dir", "DIR", "write plain files into a new directory, change nothing else"},
    {"dry-run", NULL, "say what would be done"},
    {0},
};

const struct command metadata_commands[] = {
    {
        .name = "metadata list",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "generations of the pool metadata of each site, and what has changed",
        .options = list_options,
        .run = cmd_metadata_list,
    },
    {
        .name = "metadata show",
        .args = "[SITE] [OBJECT]",
        .max_args = 2,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "what is in it, or one object of it",
        .options = show_options,
        .run = cmd_metadata_show,
    },
    {
        .name = "metadata diff",
        .args = "[SITE] GENERATION GENERATION",
        .min_args = 2,
        .max_args = 3,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "what differs between two generations",
        .options = diff_options,
        .run = cmd_metadata_diff,
    },
    {
        .name = "metadata restore",
        .args = "[OBJECT]...",
        .max_args = -1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "define and write what was there",
        .text =
            "Domains are off, with the UUIDs that they had; networks and pools are not started. "
            "What is\nhere already is replaced only with --replace, after a question.",
        .options = restore_options,
        .run = cmd_metadata_restore,
    },
    {0},
};
