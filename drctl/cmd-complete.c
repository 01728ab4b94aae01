/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a shell offers for a line of drctl that is being typed: asked for by system/completion.bash and completion.zsh.
 * Commands and options come from the tables, names from the files and the catalog of this site. No host and no other
 * site is asked. What cannot be read is left out: a person in the middle of a line has no use for an error.
 *
 * A line on stdout is a word, a tab and what it is; without a word, "files" or "directories": those the shell knows.
 */
#include "drctl/command.h"

#include <stdio.h>
#include <string.h>

/* Of runs and points only so many of the newest are offered. */
#define NEWEST 50

struct completion {
    struct context *context;
    const char *typed;  /* what there is of the last word, or of the value behind its '=' */
    char *before;       /* "--option=", or "" */
    char *const *words; /* before it, from the command on */
    const struct command *command; /* or NULL: not typed yet */
    GPtrArray *args;               /* of char *: its arguments so far */
    const char *value;             /* the placeholder of the option whose value is typed, or NULL */
    bool no_options;               /* there was a "--" */
    GPtrArray *vapps;              /* of struct vapp, once they are known */
};

/* --- offers ----------------------------------------------------------------------------------- */

/* WORD, and what it is, if WORD begins as what was typed. */
static void offer(const struct completion *line, const char *word, const char *what)
{
    if (g_str_has_prefix(word, line->typed) && !strpbrk(word, "\n\t"))
        printf("%s%s\t%s\n", line->before, word, what);
}

static void offer_options(const struct completion *line, const struct option *options)
{
    for (; options && options->name; options++) {
        g_autofree char *word = g_strconcat("--", options->name, NULL);

        offer(line, word, options->help);
    }
}

/* The word of NAME that follows the first N words of WORDS, which must be the same; NULL: none does. g_free */
static char *word_after(const char *name, char *const *words, unsigned n)
{
    g_auto(GStrv) parts = g_strsplit(name, " ", -1);

    if (g_strv_length(parts) <= n)
        return NULL;
    for (unsigned i = 0; i < n; i++)
        if (!g_str_equal(parts[i], words[i]))
            return NULL;
    return g_strdup(parts[n]);
}

/* Commands of which the N words at WORDS are the beginning: each next word once. */
static void offer_commands(const struct completion *line, char *const *words, unsigned n)
{
    g_autoptr(GHashTable) offered = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (const struct command *const *table = all_commands; *table; table++) {
        for (const struct command *command = *table; command->name; command++) {
            char *word =
                command->flags & COMMAND_INTERNAL ? NULL : word_after(command->name, words, n);
            bool group = n == 0 && strchr(command->name, ' ');

            if (word && g_hash_table_add(offered, word))
                offer(line, word, group ? "several commands" : command->summary);
        }
    }
}

/* --- names ------------------------------------------------------------------------------------ */

static void offer_remotes(struct completion *line)
{
    const struct config *config = context_config(line->context, NULL);

    for (unsigned i = 0; config && i < config->remotes->len; i++) {
        const struct remote *remote = config->remotes->pdata[i];

        offer(line, remote->name, remote->host);
    }
}

static void offer_stores(struct completion *line)
{
    offer(line, "local", "this site's own store");
    offer_remotes(line);
}

static void offer_protections(struct completion *line)
{
    const struct config *config = context_config(line->context, NULL);

    for (unsigned i = 0; config && i < config->protections->len; i++)
        offer(line, ((struct protection *)config->protections->pdata[i])->name, "protection");
}

static void offer_hosts(struct completion *line)
{
    const struct config *config = context_config(line->context, NULL);

    for (char **uri = config ? config->libvirt_uris : NULL; uri && *uri; uri++)
        offer(line, *uri, "host");
}

/* This site's own, and those that other sites have sent with their points. */
static const GPtrArray *known_vapps(struct completion *line)
{
    struct site site;

    if (!line->vapps && context_site(line->context, false, &site, NULL))
        line->vapps = site_vapps(&site, NULL);
    if (!line->vapps)
        line->vapps = g_ptr_array_new();
    return line->vapps;
}

static void offer_vapps(struct completion *line)
{
    const GPtrArray *vapps = known_vapps(line);

    for (unsigned i = 0; i < vapps->len; i++)
        offer(line, ((struct vapp *)vapps->pdata[i])->name, "vApp");
}

static void offer_plans(struct completion *line)
{
    const struct config *config = context_config(line->context, NULL);
    g_autoptr(GPtrArray) plans = config ? recovery_plan_load_all(config->dir, NULL) : NULL;

    for (unsigned i = 0; plans && i < plans->len; i++)
        offer(line, ((struct recovery_plan *)plans->pdata[i])->name, "recovery plan");
}

/* "<name>/<vm-uuid>" */
static bool add_vm_of_store(const char *key, G_GNUC_UNUSED json_t *value, void *data)
{
    const char *end = strrchr(key, '/');

    if (end && end > key)
        g_hash_table_add(data, g_strndup(key, (gsize)(end - key)));
    return true;
}

/* Of VMs that have points here, or are named by a protection or a vApp. */
static GHashTable *vm_names(struct completion *line)
{
    GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct catalog *catalog = context_catalog(line->context, NULL);
    const GPtrArray *vapps = known_vapps(line);
    const struct config *config = line->context->config;

    if (catalog)
        catalog_each(catalog, CATALOG_VMS, "", add_vm_of_store, names, NULL);
    for (unsigned i = 0; config && i < config->protections->len; i++) {
        const struct protection *protection = config->protections->pdata[i];

        for (char **vm = protection->vms; vm && *vm; vm++)
            g_hash_table_add(names, g_strdup(*vm));
    }
    for (unsigned i = 0; i < vapps->len; i++) {
        const struct vapp *vapp = vapps->pdata[i];

        for (unsigned j = 0; j < vapp->vms->len; j++)
            g_hash_table_add(names, g_strdup(((struct vapp_vm *)vapp->vms->pdata[j])->name));
    }
    return names;
}

static void offer_vms(struct completion *line)
{
    g_autoptr(GHashTable) names = vm_names(line);
    GHashTableIter each;
    void *name;

    g_hash_table_iter_init(&each, names);
    while (g_hash_table_iter_next(&each, &name, NULL))
        offer(line, name, "VM");
}

/* --- points, disks, runs ---------------------------------------------------------------------- */

/* Of struct manifest, of VMs called VM, newest first; NULL: none. */
static GPtrArray *points_of(struct completion *line, const char *vm)
{
    struct store *store = context_store(line->context, NULL);

    return store ? store_points(store, vm, NULL) : NULL;
}

static void offer_points(struct completion *line)
{
    g_autoptr(GPtrArray) points =
        line->args->len > 0 ? points_of(line, line->args->pdata[0]) : NULL;

    for (unsigned i = 0; points && i < MIN(points->len, NEWEST); i++) {
        const struct manifest *point = points->pdata[i];

        offer(line, point->point, consistency_name(point->consistency));
    }
}

/* The disks of the newest point of VM, each behind LEAD. */
static void offer_disks_of(struct completion *line, const char *vm, const char *lead)
{
    g_autoptr(GPtrArray) points = points_of(line, vm);
    const struct manifest *newest = points && points->len > 0 ? points->pdata[0] : NULL;

    for (unsigned i = 0; newest && i < newest->disks->len; i++) {
        const struct manifest_disk *disk = newest->disks->pdata[i];
        g_autofree char *word = g_strconcat(lead, disk->target, NULL);

        offer(line, word, "disk");
    }
}

static void offer_disks(struct completion *line)
{
    if (line->args->len > 0)
        offer_disks_of(line, line->args->pdata[0], "");
}

/* "db:vda": first the VM, whose disks are looked for when it is there. */
static void offer_vm_disks(struct completion *line)
{
    g_autoptr(GHashTable) names = vm_names(line);
    GHashTableIter each;
    void *name;

    g_hash_table_iter_init(&each, names);
    while (g_hash_table_iter_next(&each, &name, NULL)) {
        g_autofree char *lead = g_strconcat(name, ":", NULL);

        if (g_str_has_prefix(line->typed, lead))
            offer_disks_of(line, name, lead);
        else
            offer(line, lead, "VM");
    }
}

static void offer_runs(struct completion *line)
{
    struct catalog *catalog = context_catalog(line->context, NULL);
    json_auto_t *runs = catalog ? run_list(catalog, NULL) : NULL;
    const json_t *run;
    size_t i;

    json_array_foreach(runs, i, run)
    {
        const char *id = json_get_string(run, "run"), *kind = json_get_string(run, "kind");
        const char *title = json_get_string(run, "title"), *state = json_get_string(run, "state");
        g_autofree char *what =
            g_strdup_printf("%s %s, %s", kind ? kind : "", title ? title : "", state ? state : "");

        if (id && i < NEWEST)
            offer(line, id, g_strdelimit(what, "\n\t", ' '));
    }
}

/* Of the newest pool metadata of this site. */
static void offer_objects(struct completion *line)
{
    struct store *store = context_store(line->context, NULL);
    struct bundle *bundle = store ? bundle_fetch(store, line->context->config->site, NULL) : NULL;
    AUTO(pool) pool = bundle ? pool_new(bundle, NULL) : NULL;

    for (unsigned i = 0; pool && i < pool->objects->len; i++) {
        const struct pool_object *object = pool->objects->pdata[i];

        offer(line, object->id, pool_kind_name(object->kind));
    }
}

/* --- what a placeholder stands for ------------------------------------------------------------ */

static void offer_help_words(struct completion *line)
{
    offer_commands(line, (char *const *)line->args->pdata, line->args->len);
}

static void offer_directories(G_GNUC_UNUSED struct completion *line)
{
    puts("\tdirectories");
}

static void offer_any_files(G_GNUC_UNUSED struct completion *line)
{
    puts("\tfiles");
}

static void offer_actions(struct completion *line)
{
    offer(line, "commit", "it stays as it is");
    offer(line, "rollback", "it is taken back");
}

/* Others (NAME, TIME, SIZE ...) are for the person to know. */
static const struct {
    const char *placeholder;
    void (*offer)(struct completion *line);
} kinds[] = {
    {"VM", offer_vms},          {"VAPP", offer_vapps},
    {"PLAN", offer_plans},      {"PROTECTION", offer_protections},
    {"REMOTE", offer_remotes},  {"STORE", offer_stores},
    {"RUN", offer_runs},        {"DESTINATION", offer_stores},
    {"POINT", offer_points},    {"VM:DISK", offer_vm_disks},
    {"DISK", offer_disks},      {"DISK[,DISK]...", offer_disks},
    {"HOSTS", offer_hosts},     {"URI", offer_hosts},
    {"DIR", offer_directories}, {"FILE", offer_any_files},
    {"ACTION", offer_actions},  {"COMMAND", offer_help_words},
    {"SITE", offer_remotes},    {"OBJECT", offer_objects},
};

/* PLACEHOLDERS: "VAPP|VM" */
static void offer_kind(struct completion *line, const char *placeholders)
{
    g_auto(GStrv) names = g_strsplit(placeholders, "|", -1);

    for (char **name = names; *name; name++)
        for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
            if (g_str_equal(*name, kinds[i].placeholder))
                kinds[i].offer(line);
}

/* "VM" of "VM", "[VM]", "[VM]..."; g_free */
static char *bare(const char *place)
{
    size_t len = strcspn(place, "].");

    return *place == '[' ? g_strndup(place + 1, len - 1) : g_strndup(place, len);
}

/* The placeholders of argument N of COMMAND, whose usage is like "VM FILE" or "[PROTECTION|VM|VAPP]...", where the
 * last one may repeat; of "[SITE] [OBJECT]" the first may be left out, so it is "SITE|OBJECT". NULL: it takes no more.
 * g_free */
static char *placeholder_of(const struct command *command, unsigned n)
{
    g_auto(GStrv) places = g_strsplit(command->args, " ", -1);
    unsigned count = g_strv_length(places);
    g_autofree char *next = NULL;
    g_autofree char *place = NULL;

    if (count == 0 || (command->max_args >= 0 && (int)n >= command->max_args))
        return NULL;
    place = bare(places[MIN(n, count - 1)]);
    if (n + 1 >= count || *places[n] != '[')
        return g_steal_pointer(&place);
    next = bare(places[n + 1]);
    return g_strjoin("|", place, next, NULL);
}

/* --- the line --------------------------------------------------------------------------------- */

/* The placeholder of the value of the option that WORD is; NULL: it is none, or takes none. */
static const char *value_of(const struct completion *line, const char *word)
{
    const struct option *option = NULL;

    if (g_str_has_prefix(word, "--"))
        option = command_option(line->command, word + 2, strcspn(word + 2, "="));
    return option ? option->arg : NULL;
}

/* The names that are offered are those of the site that the line is about. */
static void read_value(struct completion *line, const char *option, const char *value)
{
    if (!g_str_equal(option, "--config") && !g_str_has_prefix(option, "--config="))
        return;
    g_free(line->context->config_dir);
    line->context->config_dir = g_canonicalize_filename(value, NULL);
}

/* One word, and the value behind it: how many words that is. */
static unsigned read_word(struct completion *line, char *const *word)
{
    const char *value = line->no_options ? NULL : value_of(line, word[0]);
    const char *equals = strchr(word[0], '=');

    if (!line->no_options && g_str_equal(word[0], "--"))
        line->no_options = true;
    else if (line->no_options || word[0][0] != '-')
        g_ptr_array_add(line->args, word[0]);
    else if (value && (equals || word[1]))
        read_value(line, word[0], equals ? equals + 1 : word[1]);
    else
        line->value = value;
    return value && word[1] && !equals ? 2 : 1;
}

/* WORDS are those before the one that is typed. */
static void read_line(struct completion *line, char *const *words)
{
    unsigned n;

    while (*words && **words == '-')
        words += read_word(line, words);
    line->words = words;
    line->command = command_find(words, &n);
    for (words += n; line->command && *words;)
        words += read_word(line, words);
}

/* "--option=VALUE" is offered as the value is. */
static void split_option(struct completion *line)
{
    const char *equals = line->no_options ? NULL : strchr(line->typed, '=');

    if (line->value || !equals || !value_of(line, line->typed))
        return;
    line->value = value_of(line, line->typed);
    g_free(line->before);
    line->before = g_strndup(line->typed, (gsize)(equals + 1 - line->typed));
    line->typed = equals + 1;
}

static void offer_all_options(const struct completion *line)
{
    const struct option *tables[OPTION_TABLES];

    command_options(line->command, tables);
    for (unsigned i = 0; i < OPTION_TABLES; i++)
        offer_options(line, tables[i]);
    if (!line->command)
        offer(line, "--version", "print the version");
}

static void offer_next(struct completion *line)
{
    g_autofree char *place = line->command ? placeholder_of(line->command, line->args->len) : NULL;

    if (line->value)
        offer_kind(line, line->value);
    else if (line->typed[0] == '-' && !line->no_options)
        offer_all_options(line);
    else if (!line->command)
        offer_commands(line, line->words, g_strv_length((char **)line->words));
    else if (place)
        offer_kind(line, place);
}

static bool cmd_complete(struct context *context, G_GNUC_UNUSED GError **error)
{
    struct completion line = {.context = context, .before = g_strdup("")};
    unsigned last = g_strv_length(context->args) - 1;
    g_autofree char *typed = g_steal_pointer(&context->args[last]);

    line.typed = typed;
    line.args = g_ptr_array_new();
    read_line(&line, context->args);
    split_option(&line);
    offer_next(&line);
    g_ptr_array_unref(line.args);
    g_free(line.before);
    if (line.vapps)
        g_ptr_array_unref(line.vapps);
    return true;
}

const struct command complete_commands[] = {
    {
        .name = "complete",
        .args = "-- WORD...",
        .min_args = 1,
        .max_args = -1,
        .flags = COMMAND_NO_CONFIG | COMMAND_INTERNAL,
        .summary = "what can stand for the last word of a line",
        .run = cmd_complete,
    },
    {0},
};
