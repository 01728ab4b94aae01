/* SPDX-License-Identifier: Apache-2.0 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "metadata/tarball.h"
#include "metadata/bundle.h"

#define READ_BYTES ((size_t)64 << 10)
#define PATH_MAX_BYTES 1000
/* Of an archive in a file. A point has 256 files at most, an archive a thousand of points. */
#define FILE_MAX_MEMBERS 300000u
/* What archives hold has been packed already. */
#define FILE_LEVEL "1"

static void archive_cleanup(struct archive **archive)
{
    archive_free(*archive);
}
#define AUTO_ARCHIVE __attribute__((cleanup(archive_cleanup))) struct archive *

static void entry_cleanup(struct archive_entry **entry)
{
    archive_entry_free(*entry);
}
#define AUTO_ENTRY __attribute__((cleanup(entry_cleanup))) struct archive_entry *

/* ---- In memory */

/* What has been written or read so far. */
struct sums {
    unsigned members;
    uint64_t bytes;
};

struct tarball_writer {
    struct archive *archive;
    GByteArray *out;
    int64_t time_ms;
    struct sums sums;
};

static const char *problem(struct archive *archive)
{
    const char *text = archive_error_string(archive);

    return text ? text : "no reason known";
}

static bool sums_add(struct sums *sums, const char *path, uint64_t bytes, enum error_kind kind,
                     GError **error)
{
    sums->members++;
    sums->bytes += bytes;
    if (bytes > BUNDLE_MAX_MEMBER_BYTES)
        return fail(error, kind, "%s is larger than %u bytes", path, BUNDLE_MAX_MEMBER_BYTES);
    if (sums->members > BUNDLE_MAX_MEMBERS)
        return fail(error, kind, "it has more than %d members", BUNDLE_MAX_MEMBERS);
    if (sums->bytes > BUNDLE_MAX_TOTAL_BYTES)
        return fail(error, kind, "its members are larger than %u bytes", BUNDLE_MAX_TOTAL_BYTES);
    return true;
}

/* libarchive would convert other characters according to the locale. */
static bool path_is_harmless(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);

    if (strlen(path) > PATH_MAX_BYTES || !g_str_is_ascii(path))
        return false;
    for (char **part = parts; *part; part++)
        if (**part == '\0' || strcmp(*part, ".") == 0 || strcmp(*part, "..") == 0)
            return false;
    return parts[0] != NULL;
}

static la_ssize_t take_output(struct archive *archive, void *data, const void *bytes, size_t len)
{
    struct tarball_writer *writer = data;

    if (writer->out->len + len > BUNDLE_MAX_BYTES) {
        archive_set_error(archive, -1, "it is larger than %u bytes", BUNDLE_MAX_BYTES);
        return -1;
    }
    g_byte_array_append(writer->out, bytes, (guint)len);
    return (la_ssize_t)len;
}

struct tarball_writer *tarball_writer_new(int64_t time_ms, GError **error)
{
    AUTO(tarball_writer) writer = g_new0(struct tarball_writer, 1);

    writer->archive = archive_write_new();
    writer->out = g_byte_array_new();
    writer->time_ms = time_ms;
    /* Padding behind the last block is no part of a zstd stream. */
    if (archive_write_set_format_pax_restricted(writer->archive) != ARCHIVE_OK ||
        archive_write_add_filter_zstd(writer->archive) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(writer->archive, 1) != ARCHIVE_OK ||
        archive_write_open(writer->archive, writer, NULL, take_output, NULL) != ARCHIVE_OK) {
        fail(error, ERROR_FAILED, "libarchive cannot write tar.zst: %s", problem(writer->archive));
        return NULL;
    }
    return g_steal_pointer(&writer);
}

bool tarball_writer_add(struct tarball_writer *writer, const char *path, const void *data,
                        size_t len, GError **error)
{
    AUTO_ENTRY entry = archive_entry_new();

    if (!sums_add(&writer->sums, path, len, ERROR_FAILED, error))
        return false;
    if (!path_is_harmless(path))
        return fail(error, ERROR_FAILED, "%s is not the name of a member", path);
    if (!g_utf8_validate(data, (gssize)len, NULL))
        return fail(error, ERROR_FAILED, "%s is not UTF-8 text", path);
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    archive_entry_set_mtime(entry, writer->time_ms / 1000, 0);
    if (archive_write_header(writer->archive, entry) != ARCHIVE_OK ||
        archive_write_data(writer->archive, data, len) != (la_ssize_t)len)
        return fail(error, ERROR_FAILED, "%s: %s", path, problem(writer->archive));
    return true;
}

bool tarball_writer_finish(struct tarball_writer *writer, char **data, size_t *len, GError **error)
{
    if (archive_write_close(writer->archive) != ARCHIVE_OK)
        return fail(error, ERROR_FAILED, "%s", problem(writer->archive));
    *data = (char *)g_byte_array_steal(writer->out, len);
    return true;
}

void tarball_writer_free(struct tarball_writer *writer)
{
    if (!writer)
        return;
    archive_free(writer->archive);
    g_byte_array_unref(writer->out);
    g_free(writer);
}

/* Filters can be stacked without end, each multiplying what the one before says. */
static bool check_filters(struct archive *archive, GError **error)
{
    if (archive_filter_count(archive) == 2 &&
        archive_filter_code(archive, 0) == ARCHIVE_FILTER_ZSTD)
        return true;
    return fail(error, ERROR_INTEGRITY, "it is not a tar.zst");
}

/* MEMBERS: the names of those before. */
static bool check_entry(struct archive_entry *entry, const char *path, GHashTable *members,
                        GError **error)
{
    if (!path || !path_is_harmless(path))
        return fail(error, ERROR_INTEGRITY, "it has a member with an unsafe name");
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
        archive_entry_sparse_count(entry) > 0 || archive_entry_size(entry) < 0)
        return fail(error, ERROR_INTEGRITY, "%s is not a plain file", path);
    if (g_hash_table_contains(members, path))
        return fail(error, ERROR_INTEGRITY, "%s is there twice", path);
    return true;
}

/* Believes no size. */
static bool read_text(struct archive *archive, const char *path, GString *text, GError **error)
{
    g_autofree char *buffer = g_malloc(READ_BYTES);

    for (;;) {
        la_ssize_t got = archive_read_data(archive, buffer, READ_BYTES);

        if (got < 0)
            return fail(error, ERROR_INTEGRITY, "%s: %s", path, problem(archive));
        if (got == 0)
            break;
        g_string_append_len(text, buffer, got);
        if (text->len > BUNDLE_MAX_MEMBER_BYTES)
            break;
    }
    if (!g_utf8_validate(text->str, (gssize)text->len, NULL))
        return fail(error, ERROR_INTEGRITY, "%s is not UTF-8 text", path);
    return true;
}

static bool read_member(struct archive *archive, struct archive_entry *entry, struct sums *sums,
                        GHashTable *members, GError **error)
{
    g_autofree char *path = g_strdup(archive_entry_pathname(entry));
    GString *text;

    if (!check_entry(entry, path, members, error))
        return false;
    if (archive_entry_size(entry) > BUNDLE_MAX_MEMBER_BYTES)
        return fail(error, ERROR_INTEGRITY, "%s is larger than %u bytes", path,
                    BUNDLE_MAX_MEMBER_BYTES);
    text = g_string_new(NULL);
    if (!read_text(archive, path, text, error) ||
        !sums_add(sums, path, text->len, ERROR_INTEGRITY, error)) {
        g_string_free(text, TRUE);
        return false;
    }
    g_hash_table_insert(members, g_steal_pointer(&path), g_string_free(text, FALSE));
    return true;
}

bool tarball_read(const char *data, size_t len, GHashTable *members, GError **error)
{
    AUTO_ARCHIVE archive = archive_read_new();
    struct sums sums = {0};

    if (len > BUNDLE_MAX_BYTES)
        return fail(error, ERROR_INTEGRITY, "it is larger than %u bytes", BUNDLE_MAX_BYTES);
    archive_read_support_filter_zstd(archive);
    archive_read_support_format_tar(archive);
    if (archive_read_open_memory(archive, data, len) != ARCHIVE_OK)
        return fail(error, ERROR_INTEGRITY, "%s", problem(archive));
    if (!check_filters(archive, error))
        return false;
    for (;;) {
        struct archive_entry *entry;
        int status = archive_read_next_header(archive, &entry);

        if (status == ARCHIVE_EOF)
            return true;
        if (status != ARCHIVE_OK)
            return fail(error, ERROR_INTEGRITY, "%s", problem(archive));
        if (!interrupt_check(error) || !read_member(archive, entry, &sums, members, error))
            return false;
    }
}

/* ---- In files: writing */

struct tarball_out {
    struct archive *archive;
    char *path;
    char *temp; /* where it is until then; NULL: nowhere */
    int fd;
    int64_t time_ms;
    uint64_t left; /* of the member */
};

static bool fail_write(const struct tarball_out *out, GError **error)
{
    int why = archive_errno(out->archive);

    return why > 0
               ? fail_errno(error, why, "cannot write %s", out->path)
               : fail(error, ERROR_FAILED, "cannot write %s: %s", out->path, problem(out->archive));
}

static la_ssize_t put_output(struct archive *archive, void *data, const void *bytes, size_t len)
{
    const struct tarball_out *out = data;
    ssize_t put;

    do
        put = write(out->fd, bytes, len);
    while (put < 0 && errno == EINTR);
    if (put < 0)
        archive_set_error(archive, errno, "%s", g_strerror(errno));
    return put;
}

static bool open_archive(struct tarball_out *out, enum tarball_kind kind)
{
    out->archive = archive_write_new();
    if (archive_write_set_format_pax_restricted(out->archive) != ARCHIVE_OK)
        return false;
    if (kind == TARBALL_ZSTD &&
        (archive_write_add_filter_zstd(out->archive) != ARCHIVE_OK ||
         archive_write_set_filter_option(out->archive, "zstd", "compression-level", FILE_LEVEL) !=
             ARCHIVE_OK))
        return false;
    return archive_write_set_bytes_in_last_block(out->archive, 1) == ARCHIVE_OK &&
           archive_write_open(out->archive, out, NULL, put_output, NULL) == ARCHIVE_OK;
}

/* Preferably a file without a name, of which nothing is left whoever is killed. */
static bool open_temp(struct tarball_out *out, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(out->path);
    g_autofree char *temp = g_build_filename(dir, ".tmp-drctl-XXXXXX", NULL);

    out->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (out->fd >= 0)
        return true;
    out->fd = g_mkstemp_full(temp, O_RDWR | O_CLOEXEC, 0600);
    if (out->fd < 0)
        return fail_errno(error, errno, "cannot create a file in %s", dir);
    out->temp = g_steal_pointer(&temp);
    return true;
}

static bool publish(struct tarball_out *out, GError **error)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", out->fd);
    g_autofree char *dir = g_path_get_dirname(out->path);

    if (out->temp) {
        if (!path_rename(out->temp, out->path, error))
            return false;
        g_clear_pointer(&out->temp, g_free);
        return true;
    }
    if (linkat(AT_FDCWD, link, AT_FDCWD, out->path, AT_SYMLINK_FOLLOW) == 0)
        return dir_sync(dir, error);
    return errno == EEXIST ? fail(error, ERROR_CONFLICT, "%s exists already", out->path)
                           : fail_errno(error, errno, "cannot create %s", out->path);
}

struct tarball_out *tarball_out_new(const char *path, enum tarball_kind kind, int64_t time_ms,
                                    GError **error)
{
    AUTO(tarball_out) out = g_new0(struct tarball_out, 1);

    out->fd = -1;
    out->path = g_strdup(path);
    out->time_ms = time_ms;
    if (g_file_test(path, G_FILE_TEST_EXISTS | G_FILE_TEST_IS_SYMLINK)) {
        fail(error, ERROR_CONFLICT, "%s exists already: write to another file, or remove it", path);
        return NULL;
    }
    if (!open_temp(out, error))
        return NULL;
    if (!open_archive(out, kind)) {
        fail_write(out, error);
        return NULL;
    }
    return g_steal_pointer(&out);
}

/* libarchive would fill up with zeros what a member lacks. */
static bool check_whole(const struct tarball_out *out, GError **error)
{
    return out->left == 0 ||
           fail(error, ERROR_FAILED, "%s: a member lacks %" PRIu64 " bytes", out->path, out->left);
}

bool tarball_out_begin(struct tarball_out *out, const char *name, uint64_t bytes, GError **error)
{
    AUTO_ENTRY entry = archive_entry_new();

    if (!check_whole(out, error))
        return false;
    if (!path_is_harmless(name))
        return fail(error, ERROR_FAILED, "%s is not the name of a member", name);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0600);
    archive_entry_set_size(entry, (la_int64_t)bytes);
    archive_entry_set_mtime(entry, out->time_ms / 1000, 0);
    out->left = bytes;
    return archive_write_header(out->archive, entry) == ARCHIVE_OK || fail_write(out, error);
}

bool tarball_out_write(struct tarball_out *out, const void *data, size_t len, GError **error)
{
    if (len > out->left)
        return fail(error, ERROR_FAILED, "%s: a member has grown while it was written", out->path);
    out->left -= len;
    return archive_write_data(out->archive, data, len) == (la_ssize_t)len || fail_write(out, error);
}

bool tarball_out_add(struct tarball_out *out, const char *name, const void *data, size_t len,
                     GError **error)
{
    return tarball_out_begin(out, name, len, error) && tarball_out_write(out, data, len, error);
}

bool tarball_out_commit(struct tarball_out *out, GError **error)
{
    if (!check_whole(out, error))
        return false;
    if (archive_write_close(out->archive) != ARCHIVE_OK)
        return fail_write(out, error);
    if (fsync(out->fd) < 0)
        return fail_errno(error, errno, "cannot write %s", out->path);
    return publish(out, error);
}

void tarball_out_free(struct tarball_out *out)
{
    if (!out)
        return;
    /* libarchive would go on to the end of the member, terabytes of zeros: it has nowhere to write to. */
    fd_cleanup(&out->fd);
    out->fd = -1;
    archive_free(out->archive);
    if (out->temp)
        unlink(out->temp);
    g_free(out->temp);
    g_free(out->path);
    g_free(out);
}

/* ---- In files: reading */

static bool fail_read(struct archive *archive, GError **error)
{
    return fail(error, ERROR_INTEGRITY, "it is damaged: %s", problem(archive));
}

static bool scan_data(struct archive *archive, const char *name, uint64_t bytes,
                      const struct tarball_sink *sink, GError **error)
{
    g_autofree char *buffer = g_malloc(READ_BYTES);
    uint64_t done = 0;

    for (;;) {
        la_ssize_t got = archive_read_data(archive, buffer, READ_BYTES);

        if (got < 0)
            return fail_read(archive, error);
        if (got == 0)
            break;
        done += (uint64_t)got;
        if (done > bytes)
            break;
        if (!interrupt_check(error) || !sink->data(sink->context, buffer, (size_t)got, error))
            return false;
    }
    return done == bytes || fail(error, ERROR_INTEGRITY, "%s has not the size that it says", name);
}

static bool scan_member(struct archive *archive, struct archive_entry *entry, GHashTable *names,
                        const struct tarball_sink *sink, GError **error)
{
    g_autofree char *name = g_strdup(archive_entry_pathname(entry));
    uint64_t bytes = (uint64_t)archive_entry_size(entry);
    /* The reader of tar has taken the header, and nothing behind it. */
    uint64_t at = (uint64_t)archive_filter_bytes(archive, 0);
    const char *key = name;

    if (!check_entry(entry, name, names, error))
        return false;
    if (g_hash_table_size(names) >= FILE_MAX_MEMBERS)
        return fail(error, ERROR_INTEGRITY, "it has more than %u members", FILE_MAX_MEMBERS);
    g_hash_table_add(names, g_steal_pointer(&name));
    return sink->begin(sink->context, key, bytes, at, error) &&
           scan_data(archive, key, bytes, sink, error) && sink->end(sink->context, error);
}

static bool open_file(struct archive *archive, const char *path, enum tarball_kind kind,
                      GError **error)
{
    int filters = kind == TARBALL_ZSTD ? 2 : 1;

    if (kind == TARBALL_ZSTD)
        archive_read_support_filter_zstd(archive);
    archive_read_support_format_tar(archive);
    if (archive_read_open_filename(archive, path, READ_BYTES) != ARCHIVE_OK) {
        int why = archive_errno(archive);

        /* What is no archive has the errno of a wrong character. */
        return why > 0 && why != EILSEQ ? fail_errno(error, why, "cannot read it")
                                        : fail(error, ERROR_INTEGRITY, "%s", problem(archive));
    }
    return archive_filter_count(archive) == filters ||
           fail(error, ERROR_INTEGRITY, "it is not a %s",
                kind == TARBALL_ZSTD ? "tar.zst" : "tar archive");
}

static bool scan_members(struct archive *archive, const struct tarball_sink *sink, GError **error)
{
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (;;) {
        struct archive_entry *entry;
        int status = archive_read_next_header(archive, &entry);

        if (status == ARCHIVE_EOF)
            return true;
        if (status != ARCHIVE_OK)
            return fail_read(archive, error);
        if (!interrupt_check(error) || !scan_member(archive, entry, names, sink, error))
            return false;
    }
}

bool tarball_scan(const char *path, enum tarball_kind kind, const struct tarball_sink *sink,
                  GError **error)
{
    AUTO_ARCHIVE archive = archive_read_new();

    if (open_file(archive, path, kind, error) && scan_members(archive, sink, error))
        return true;
    g_prefix_error(error, "%s: ", path);
    return false;
}
