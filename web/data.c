/* SPDX-License-Identifier: Apache-2.0 */
#include "web/data.h"

#include <string.h>

#define COLLECT_S 60
/* How long somebody waits, since it was begun: where there is an older one, and where there is none. So of several that hang,
 * or of one that hangs for long, nobody waits for one after the other. */
#define WAIT_SOME_MS 5000
#define WAIT_NONE_MS ((COLLECT_S + 5) * 1000)
#define NOTES_MAX 4096

static const struct {
    const char *words[6]; /* the argument comes behind them */
    int64_t fresh_ms;
    int64_t
        wait_ms; /* of those who are not patient, where there is no older one; 0: WAIT_NONE_MS */
} commands[DOCUMENT_KINDS] = {
    [DOCUMENT_STATUS] = {.words = {"status", "--json"}, .fresh_ms = 5000},
    [DOCUMENT_SCHEDULE] = {.words = {"schedule", "--json"}, .fresh_ms = 2000},
    [DOCUMENT_POINTS] = {.words = {"points", "--json"}, .fresh_ms = 10000},
    [DOCUMENT_POINTS_AT] = {.words = {"points", "--json", "--at"}, .fresh_ms = 30000},
    [DOCUMENT_RUNS] = {.words = {"run", "list", "--json"}, .fresh_ms = 3000},
    [DOCUMENT_RUN] = {.words = {"run", "show", "--json"}, .fresh_ms = 3000},
    [DOCUMENT_VAPPS] = {.words = {"vapp", "list", "--json"}, .fresh_ms = 30000},
    [DOCUMENT_PLANS] = {.words = {"plan", "list", "--json"}, .fresh_ms = 30000},
    [DOCUMENT_SITES] = {.words = {"site", "check", "--json"}, .fresh_ms = 60000, .wait_ms = 2000},
    [DOCUMENT_RPO_DAY] = {.words = {"report", "--rpo", "--json", "--from", "1d"},
                          .fresh_ms = 30000},
    [DOCUMENT_RPO_WEEK] = {.words = {"report", "--rpo", "--json", "--from", "7d"},
                           .fresh_ms = 30000},
    [DOCUMENT_RPO_MONTH] = {.words = {"report", "--rpo", "--json", "--from", "30d"},
                            .fresh_ms = 30000},
    [DOCUMENT_METRICS] = {.words = {"metrics"}, .fresh_ms = 5000},
};

/* One that is kept. */
struct entry {
    enum document_kind kind;
    char *arg;
    struct document document;
    int64_t began_ms; /* monotonic: the last attempt */
    int64_t tried_ms; /* monotonic: when it ended; 0: it is to be made */
    bool collecting;
    bool forgotten; /* while it was collected */
};

struct data {
    char *program, *config_dir;
    GMutex mutex;
    GCond changed;
    GHashTable *entries; /* key -> struct entry */
    unsigned threads, commands;
    bool stopping;
};

void document_clear(struct document *document)
{
    g_clear_pointer(&document->text, g_free);
    g_clear_pointer(&document->error, g_free);
    g_clear_pointer(&document->notes, g_free);
}

static void entry_free(void *data)
{
    struct entry *entry = data;

    document_clear(&entry->document);
    g_free(entry->arg);
    g_free(entry);
}

struct data *data_new(const char *program, const char *config_dir)
{
    struct data *self = g_new0(struct data, 1);

    self->program = g_strdup(program);
    self->config_dir = g_strdup(config_dir);
    g_mutex_init(&self->mutex);
    g_cond_init(&self->changed);
    self->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, entry_free);
    return self;
}

void data_free(struct data *self)
{
    if (!self)
        return;
    g_mutex_lock(&self->mutex);
    self->stopping = true;
    g_cond_broadcast(&self->changed);
    while (self->threads > 0)
        g_cond_wait(&self->changed, &self->mutex);
    g_mutex_unlock(&self->mutex);
    g_hash_table_unref(self->entries);
    g_cond_clear(&self->changed);
    g_mutex_clear(&self->mutex);
    g_free(self->program);
    g_free(self->config_dir);
    g_free(self);
}

/* --- collecting ------------------------------------------------------------------------------- */

struct collecting {
    struct data *data;
    struct entry *entry;
};

struct listening {
    GString *notes;
    int64_t until_ms;
};

static bool hear(void *context, const char *line, GError **error)
{
    struct listening *listening = context;

    if (listening->notes->len < NOTES_MAX)
        g_string_append_printf(listening->notes, "%s%s", listening->notes->len ? "\n" : "", line);
    return true;
}

static bool be_patient(void *context, GError **error)
{
    const struct listening *listening = context;

    return interrupt_check(error) &&
           (time_monotonic_ms() < listening->until_ms ||
            fail(error, ERROR_FAILED, "no answer within %d s", COLLECT_S));
}

/* What stands behind the words of ENTRY: each of PARTS (g_strfreev) an argument. */
static unsigned add_argument(const struct entry *entry, const char **argv, char ***parts)
{
    unsigned n = 0;

    *parts =
        entry->arg ? g_strsplit(entry->arg, "/", entry->kind == DOCUMENT_POINTS_AT ? 2 : 1) : NULL;
    if (entry->kind == DOCUMENT_POINTS_AT)
        argv[n++] = (*parts)[0];
    if (entry->arg) {
        argv[n++] = "--";
        argv[n++] = (*parts)[entry->kind == DOCUMENT_POINTS_AT];
    }
    return n;
}

/* Who is asked prints what it has even where it fails in part; that it fails altogether is seen by nothing being printed. */
static void collect(const struct data *self, const struct entry *entry, struct document *made)
{
    const char *argv[16];
    g_auto(GStrv) parts = NULL;
    unsigned n = 0;
    g_autoptr(GString) notes = g_string_new(NULL);
    struct listening listening = {notes, time_monotonic_ms() + COLLECT_S * 1000};
    struct process_watch watch = {DATA_BYTES_MAX, hear, be_patient, &listening};
    g_autoptr(GError) error = NULL;

    argv[n++] = self->program;
    argv[n++] = "--config";
    argv[n++] = self->config_dir;
    for (const char *const *word = commands[entry->kind].words; *word; word++)
        argv[n++] = *word;
    n += add_argument(entry, argv + n, &parts);
    argv[n] = NULL;
    *made = (struct document){.status = -1};
    if (process_watch(argv, &watch, &made->text, &made->status, &error) && made->status != 0)
        made->error = g_strdup(notes->len ? notes->str : "it failed, and did not say why");
    if (error)
        made->error = g_strdup(error->message);
    if (!made->error && (!made->text || !*made->text))
        made->error = g_strdup("it printed nothing");
    made->notes = notes->len ? g_strdup(notes->str) : NULL;
    made->len = made->text ? strlen(made->text) : 0;
    made->current = made->len > 0;
    made->made_ms = time_now_ms();
}

/* What was there before stays where there is nothing new. */
static void keep(struct entry *entry, struct document *made)
{
    struct document *kept = &entry->document;

    if (!made->current) {
        g_clear_pointer(&made->text, g_free);
        made->text = g_steal_pointer(&kept->text);
        made->len = kept->len;
        made->made_ms = kept->made_ms;
    }
    document_clear(kept);
    *kept = *made;
}

static void *collect_thread(void *context)
{
    g_autofree struct collecting *collecting = context;
    struct data *self = collecting->data;
    struct entry *entry = collecting->entry;
    struct document made;

    g_mutex_lock(&self->mutex);
    while (self->commands >= DATA_COMMANDS_MAX && !self->stopping)
        g_cond_wait(&self->changed, &self->mutex);
    self->commands++;
    g_mutex_unlock(&self->mutex);
    collect(self, entry, &made);
    g_mutex_lock(&self->mutex);
    keep(entry, &made);
    entry->tried_ms = entry->forgotten ? 0 : time_monotonic_ms();
    entry->forgotten = false;
    entry->collecting = false;
    self->commands--;
    self->threads--;
    g_cond_broadcast(&self->changed);
    g_mutex_unlock(&self->mutex);
    return NULL;
}

static void begin(struct data *self, struct entry *entry)
{
    struct collecting *collecting = g_new0(struct collecting, 1);

    *collecting = (struct collecting){self, entry};
    entry->began_ms = time_monotonic_ms();
    entry->collecting = true;
    self->threads++;
    g_thread_unref(g_thread_new("drctl-document", collect_thread, collecting));
}

/* --- asking ----------------------------------------------------------------------------------- */

/* Names come from outside: there may be any number. */
static void make_room(struct data *self)
{
    const char *oldest = NULL;
    int64_t oldest_ms = INT64_MAX;
    GHashTableIter iter;
    void *key, *value;

    if (g_hash_table_size(self->entries) < DATA_KEPT_MAX)
        return;
    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        const struct entry *entry = value;

        if (!entry->collecting && entry->arg && entry->tried_ms < oldest_ms) {
            oldest_ms = entry->tried_ms;
            oldest = key;
        }
    }
    if (oldest)
        g_hash_table_remove(self->entries, oldest);
}

static struct entry *find(struct data *self, enum document_kind kind, const char *arg)
{
    g_autofree char *key = g_strdup_printf("%d/%s", (int)kind, arg ? arg : "");
    struct entry *entry = g_hash_table_lookup(self->entries, key);

    if (entry)
        return entry;
    make_room(self);
    entry = g_new0(struct entry, 1);
    entry->kind = kind;
    entry->arg = g_strdup(arg);
    g_hash_table_insert(self->entries, g_steal_pointer(&key), entry);
    return entry;
}

static void copy(const struct document *from, struct document *to)
{
    *to = *from;
    to->text = from->text ? g_memdup2(from->text, from->len + 1) : NULL;
    to->error = g_strdup(from->error);
    to->notes = g_strdup(from->notes);
}

static bool is_fresh(const struct entry *entry)
{
    return entry->tried_ms &&
           time_monotonic_ms() - entry->tried_ms < commands[entry->kind].fresh_ms;
}

/* While it is collected. An entry that is looked for anew each time: while one waits, another may make room. */
static struct entry *wait_for(struct data *self, enum document_kind kind, const char *arg,
                              bool patient)
{
    struct entry *entry = find(self, kind, arg);
    int64_t none_ms = commands[kind].wait_ms ? commands[kind].wait_ms : WAIT_NONE_MS;
    int64_t wait_ms = patient ? WAIT_NONE_MS : entry->document.text ? WAIT_SOME_MS : none_ms;
    int64_t until_us = (entry->began_ms + wait_ms) * 1000;

    while (!self->stopping && entry->collecting &&
           g_cond_wait_until(&self->changed, &self->mutex, until_us))
        entry = find(self, kind, arg);
    return find(self, kind, arg);
}

/* ENTRY is on its way, or new. */
static void begin_if_old(struct data *self, struct entry *entry)
{
    if (!is_fresh(entry) && !entry->collecting && !self->stopping)
        begin(self, entry);
}

void data_want(struct data *self, enum document_kind kind)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);

    begin_if_old(self, find(self, kind, NULL));
}

void data_get(struct data *self, enum document_kind kind, const char *arg, bool patient,
              struct document *document)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    struct entry *entry = find(self, kind, arg);
    /* What comes then is from before that, so it takes another one. */
    bool forgotten = entry->forgotten;

    begin_if_old(self, entry);
    entry = wait_for(self, kind, arg, patient);
    if (forgotten && !entry->collecting) {
        begin_if_old(self, entry);
        entry = wait_for(self, kind, arg, patient);
    }
    copy(&entry->document, document);
    if (entry->collecting) {
        document->current = false;
        if (!document->error)
            document->error = g_strdup("it takes longer than usual");
    }
    if (!document->text && !document->error)
        document->error = g_strdup("it was not asked for yet");
}

void data_forget(struct data *self, enum document_kind kind)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->mutex);
    GHashTableIter iter;
    void *value;

    g_hash_table_iter_init(&iter, self->entries);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        struct entry *entry = value;

        if (entry->kind != kind)
            continue;
        entry->tried_ms = 0;
        entry->forgotten = entry->collecting;
    }
}
