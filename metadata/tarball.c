/* SPDX-License-Identifier: Apache-2.0 */
#include <archive.h>
#include <archive_entry.h>
#include <string.h>

#include "metadata/tarball.h"
#include "metadata/bundle.h"

#define READ_BYTES ((size_t)64 << 10)
#define PATH_MAX_BYTES 1000

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

static bool check_entry(struct archive_entry *entry, const char *path, GHashTable *members,
                        GError **error)
{
    if (!path || !path_is_harmless(path))
        return fail(error, ERROR_INTEGRITY, "it has a member with an unsafe name");
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
        archive_entry_sparse_count(entry) > 0)
        return fail(error, ERROR_INTEGRITY, "%s is not a plain file", path);
    if (archive_entry_size(entry) > BUNDLE_MAX_MEMBER_BYTES)
        return fail(error, ERROR_INTEGRITY, "%s is larger than %u bytes", path,
                    BUNDLE_MAX_MEMBER_BYTES);
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
