/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_NAME "audit.log"
#define NO_DIGEST "0000000000000000000000000000000000000000000000000000000000000000"
#define DIR_MODE 0700
#define FILE_MODE 0600
/* Holds the last line and what a crash may have left behind it. */
#define TAIL_BYTES (3u * AUDIT_LINE_MAX)
#define FILE_MAX_BYTES (AUDIT_ROTATE_BYTES + 2u * AUDIT_LINE_MAX)
#define LOCK_TRIES 500
#define LOCK_POLL_US 10000

static char *audit_dir(const char *store_path)
{
    return g_build_filename(store_path, "audit", NULL);
}

static void digest_line(const char *line, size_t len, char hex[DIGEST_HEX_SIZE])
{
    uint8_t digest[DIGEST_SIZE];

    digest_buffer(line, len, digest);
    digest_to_hex(digest, hex);
}

/* Those of DIR in the order of their lines, the current one last; g_strfreev. */
static char **log_files(const char *dir, GError **error)
{
    g_auto(GStrv) names = dir_list(dir, error);
    g_autoptr(GStrvBuilder) files = g_strv_builder_new();

    if (!names)
        return NULL;
    for (char **name = names; *name; name++)
        if (g_str_has_prefix(*name, "audit-") && g_str_has_suffix(*name, ".log"))
            g_strv_builder_add(files, *name);
    if (g_strv_contains((const char *const *)names, LOG_NAME))
        g_strv_builder_add(files, LOG_NAME);
    return g_strv_builder_end(files);
}

/* ---- Adding */

/* Where the chain ends. */
struct tail {
    uint64_t seq;               /* of the last whole line; 0: none was met */
    char prev[DIGEST_HEX_SIZE]; /* of it, or of what lies behind it */
    size_t torn;                /* bytes behind it that are no line: a crash has cut one off */
    bool open;                  /* no newline is at the end */
    uint64_t size;              /* of its file */
};

static bool parse_seq(const char *line, size_t len, uint64_t *seq)
{
    json_auto_t *json = json_parse(line, len, "line", NULL);

    return json && json_need_u64(json, "seq", seq, NULL);
}

static size_t line_start(const char *text, size_t end)
{
    while (end > 0 && text[end - 1] != '\n')
        end--;
    return end;
}

/* TEXT is the end of a log, LEN bytes. */
static void read_tail(const char *text, size_t len, struct tail *tail)
{
    size_t end, last, start;

    tail->open = text[len - 1] != '\n';
    end = last = tail->open ? len : len - 1;
    start = line_start(text, end);
    while (!parse_seq(text + start, end - start, &tail->seq) && start > 0) {
        end = start - 1;
        start = line_start(text, end);
    }
    if (!tail->seq)
        tail->torn = last;
    else if (end < last)
        tail->torn = last - end - 1;
    else
        tail->torn = 0;
    if (tail->torn)
        start = last - tail->torn;
    digest_line(text + start, last - start, tail->prev);
}

/* False when there is no line in the file. */
static bool load_tail(const char *path, struct tail *tail, GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    g_autofree char *text = g_malloc(TAIL_BYTES);
    struct stat st;
    size_t len;

    if (fd < 0)
        return errno == ENOENT ? false : fail_errno(error, errno, "cannot open %s", path);
    if (fstat(fd, &st) < 0)
        return fail_errno(error, errno, "cannot look at %s", path);
    tail->size = (uint64_t)st.st_size;
    len = (size_t)MIN(tail->size, TAIL_BYTES);
    if (!fd_read_at(fd, tail->size - len, text, len, path, error))
        return false;
    if (len > 0)
        read_tail(text, len, tail);
    return len > 0;
}

/* That of the newest file that has one; older ones are asked for the number only. */
static bool find_tail(const char *dir, struct tail *tail, GError **error)
{
    g_auto(GStrv) files = log_files(dir, error);
    bool found = false;

    *tail = (struct tail){.prev = NO_DIGEST};
    if (!files)
        return false;
    for (unsigned i = g_strv_length(files); i > 0 && !tail->seq; i--) {
        g_autofree char *path = g_build_filename(dir, files[i - 1], NULL);
        struct tail older = {0};
        g_autoptr(GError) why = NULL;

        if (load_tail(path, &older, &why)) {
            if (!g_str_equal(files[i - 1], LOG_NAME))
                older.size = 0;
            if (found)
                tail->seq = older.seq;
            else
                *tail = older;
            found = true;
        } else if (why) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
    }
    return true;
}

static void drop_old(const char *dir)
{
    g_auto(GStrv) files = log_files(dir, NULL);
    int64_t before_ms = time_now_ms() - AUDIT_KEEP_MS;

    for (char **file = files; file && *file; file++) {
        g_autofree char *path = g_build_filename(dir, *file, NULL);
        struct stat st;

        if (!g_str_equal(*file, LOG_NAME) && lstat(path, &st) == 0 &&
            (int64_t)st.st_mtim.tv_sec * 1000 < before_ms && unlink(path) < 0)
            g_debug("%s stays: %s", path, g_strerror(errno));
    }
}

/* A line that is cut off stays the last one of its file. */
static bool rotate(const char *dir, const char *path, struct tail *tail, GError **error)
{
    g_autofree char *name = g_strdup_printf("audit-%012" PRIu64 ".log", tail->seq);
    g_autofree char *old = g_build_filename(dir, name, NULL);

    if (tail->size < AUDIT_ROTATE_BYTES)
        return true;
    if (!path_rename(path, old, error))
        return false;
    tail->size = 0;
    drop_old(dir);
    return true;
}

/* The new line; g_free. */
static char *make_line(const json_t *facts, const struct tail *tail, bool ends_line)
{
    g_autofree char *text = NULL;
    json_auto_t *line = json_object();

    json_set_u64(line, "seq", tail->seq + 1);
    json_set_time(line, "time", time_now_ms());
    json_object_update_missing(line, (json_t *)facts);
    if (tail->torn)
        json_set_u64(line, "torn", tail->torn);
    json_set_string(line, "prev", tail->prev);
    text = json_text(line, 0);
    return g_strconcat(ends_line ? "\n" : "", text, "\n", NULL);
}

static bool write_line(const char *dir, const char *path, const char *line, uint64_t at,
                       GError **error)
{
    AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);

    if (fd < 0)
        return fail_errno(error, errno, "cannot open %s", path);
    if (fd_write_at(fd, at, line, strlen(line), path, error)) {
        if (fdatasync(fd) == 0)
            return at > 0 || dir_sync(dir, error);
        fail_errno(error, errno, "cannot write %s", path);
    }
    /* Half a line would only be told of for ever. */
    if (ftruncate(fd, (off_t)at) < 0)
        g_debug("%s: %s", path, g_strerror(errno));
    return false;
}

static bool append_locked(const char *dir, const json_t *facts, uint64_t *seq, GError **error)
{
    g_autofree char *path = g_build_filename(dir, LOG_NAME, NULL);
    g_autofree char *line = NULL;
    struct tail tail;

    if (!find_tail(dir, &tail, error) || !rotate(dir, path, &tail, error))
        return false;
    line = make_line(facts, &tail, tail.open && tail.size > 0);
    if (strlen(line) > AUDIT_LINE_MAX)
        return fail(error, ERROR_FAILED, "an entry of %zu bytes is too long for the audit log",
                    strlen(line));
    if (!write_line(dir, path, line, tail.size, error))
        return false;
    if (seq)
        *seq = tail.seq + 1;
    return true;
}

/* Whoever holds it writes one line. */
static struct file_lock *take_lock(const char *store_path, GError **error)
{
    g_autofree char *path = g_build_filename(store_path, "locks", "audit.lock", NULL);

    for (unsigned i = 0;; i++) {
        g_autoptr(GError) why = NULL;
        struct file_lock *lock = file_lock_take(path, "the audit log", &why);

        if (lock)
            return lock;
        if (!error_is(why, ERROR_CONFLICT) || i == LOCK_TRIES) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        g_usleep(LOCK_POLL_US);
    }
}

bool audit_append(const char *store_path, const json_t *facts, uint64_t *seq, GError **error)
{
    g_autofree char *dir = audit_dir(store_path);
    AUTO(file_lock) lock = take_lock(store_path, error);

    return lock && dir_make(dir, DIR_MODE, error) && append_locked(dir, facts, seq, error);
}

/* ---- Walking */

struct walk {
    const char *digest;
    audit_each_fn *each;
    void *data;
    struct audit_chain *chain;
    const char *file;
    unsigned line;
    uint64_t seq; /* of the last whole one */
    bool begun;
    const char *torn_at; /* what follows it and is no line, in the text of its file; or NULL */
    size_t torn;         /* its bytes */
};

void audit_chain_clear(struct audit_chain *chain)
{
    g_free(chain->first_time);
    g_free(chain->last_time);
    g_free(chain->problem);
}

static void found_problem(struct walk *self, const char *what)
{
    if (!self->chain->problem)
        self->chain->problem = g_strdup_printf("%s, line %u: %s", self->file, self->line, what);
}

/* Where a chain that was rotated may begin, too. */
static void check_first(struct walk *self, uint64_t seq, const char *prev)
{
    self->chain->first_seq = seq;
    if ((seq == 1) != (strcmp(prev, NO_DIGEST) == 0))
        found_problem(self, "the log does not begin here");
}

static void check_line(struct walk *self, const json_t *entry)
{
    const char *prev;
    const char *time;
    uint64_t seq = 0, torn = 0;
    bool says_torn = json_need_u64(entry, "torn", &torn, NULL);

    if (!json_need_u64(entry, "seq", &seq, NULL) || !json_need_string(entry, "prev", &prev, NULL) ||
        !json_need_string(entry, "time", &time, NULL)) {
        found_problem(self, "it is no entry of an audit log");
        return;
    }
    if (!self->begun)
        check_first(self, seq, prev);
    else if (strcmp(prev, self->chain->last_digest) != 0)
        found_problem(self, "the line before was changed, removed or added");
    else if (seq != self->seq + 1)
        found_problem(self, "its number does not follow");
    if (self->torn != (says_torn ? torn : 0))
        found_problem(self, "the line before is damaged");
    self->seq = seq;
    g_free(self->chain->last_time);
    self->chain->last_time = g_strdup(time);
    if (!self->chain->first_time)
        self->chain->first_time = g_strdup(time);
}

static void take_entry(struct walk *self, const json_t *entry)
{
    check_line(self, entry);
    self->chain->entries++;
    if (self->each)
        self->each(entry, self->data);
    self->torn_at = NULL;
    self->torn = 0;
}

/* What is no JSON was cut off, if the next line says so. */
static void take_torn(struct walk *self, const char *text, size_t len)
{
    if (!self->torn_at)
        self->torn_at = text;
    self->torn = (size_t)(text + len - self->torn_at);
    self->chain->torn++;
}

static void take_line(struct walk *self, const char *text, size_t len)
{
    json_auto_t *entry = json_parse(text, len, "line", NULL);

    self->line++;
    if (entry)
        take_entry(self, entry);
    else
        take_torn(self, text, len);
    self->begun = true;
    digest_line(entry ? text : self->torn_at, entry ? len : self->torn, self->chain->last_digest);
    self->chain->contains |= g_strcmp0(self->digest, self->chain->last_digest) == 0;
}

static void walk_text(struct walk *self, const char *text, size_t len)
{
    self->line = 0;
    self->torn_at = NULL;
    for (const char *at = text, *end = text + len; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;

        take_line(self, at, (size_t)(stop - at));
        at = stop + 1;
    }
}

static bool walk_old(struct walk *self, const char *dir, GError **error)
{
    g_autofree char *path = g_build_filename(dir, self->file, NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    size_t len;

    if (file_read(path, FILE_MAX_BYTES, &text, &len, &why)) {
        walk_text(self, text, len);
        return true;
    }
    /* The oldest may be dropped meanwhile; another one that is gone is missed by the next line. */
    if (error_is(why, ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* All its files, and what is in the one that is added to: no line of that is half there. The others never change, so nobody
 * who adds a line waits until they are read. */
static bool look(const char *store_path, const char *dir, char ***files, char **current,
                 size_t *len, GError **error)
{
    AUTO(file_lock) lock = take_lock(store_path, error);
    g_autofree char *path = g_build_filename(dir, LOG_NAME, NULL);

    *files = lock ? log_files(dir, error) : NULL;
    if (!*files)
        return false;
    return !g_strv_contains((const char *const *)*files, LOG_NAME) ||
           file_read(path, FILE_MAX_BYTES, current, len, error);
}

bool audit_walk(const char *store_path, const char *digest, audit_each_fn *each, void *data,
                struct audit_chain *chain, GError **error)
{
    g_autofree char *dir = audit_dir(store_path);
    g_auto(GStrv) files = NULL;
    g_autofree char *current = NULL;
    size_t len = 0;
    struct walk walk = {.digest = digest, .each = each, .data = data, .chain = chain};

    if (!look(store_path, dir, &files, &current, &len, error))
        return false;
    for (char **file = files; *file; file++) {
        walk.file = *file;
        if (g_str_equal(*file, LOG_NAME))
            walk_text(&walk, current, len);
        else if (!walk_old(&walk, dir, error))
            return false;
    }
    chain->ends_torn = walk.torn > 0;
    return true;
}
