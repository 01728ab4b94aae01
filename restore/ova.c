/* SPDX-License-Identifier: Apache-2.0 */
/* Reading an OVA: what is in it, and is it what it says? */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "restore/ova.h"

#define SUMS_MAX_BYTES (1u << 20)
#define SECTOR_BYTES 512u
#define DESCRIPTOR_MAX_BYTES (64u << 10) /* inside a VMDK */
#define MAX_MEMBERS 1000u

static const struct {
    const char *name;
    GChecksumType type;
} algorithms[OVA_SUMS] = {
    [OVA_SHA1] = {"SHA1", G_CHECKSUM_SHA1},
    [OVA_SHA256] = {"SHA256", G_CHECKSUM_SHA256},
    [OVA_SHA512] = {"SHA512", G_CHECKSUM_SHA512},
};

static void member_free(void *data)
{
    struct ova_member *member = data;

    g_free(member->name);
    for (unsigned i = 0; i < OVA_SUMS; i++)
        g_free(member->sums[i]);
    g_free(member);
}

void ova_free(struct ova *ova)
{
    if (!ova)
        return;
    g_ptr_array_unref(ova->members);
    ovf_package_free(ova->package);
    g_free(ova->path);
    g_free(ova->text);
    g_free(ova->sums);
    g_free(ova);
}

const struct ova_member *ova_member(const struct ova *ova, const char *name)
{
    for (unsigned i = 0; i < ova->members->len; i++) {
        const struct ova_member *member = ova->members->pdata[i];

        if (strcmp(member->name, name) == 0)
            return member;
    }
    return NULL;
}

/* ---- To its end */

struct reading {
    struct ova *ova;
    GChecksum *sums[OVA_SUMS];
    GString *text; /* of a member that is kept, or NULL */
    struct progress *progress;
    uint64_t done;
};

static bool begin_member(void *context, const char *name, uint64_t bytes, uint64_t at,
                         GError **error)
{
    struct reading *self = context;
    struct ova_member *member = g_new0(struct ova_member, 1);
    bool is_first = self->ova->members->len == 0;
    bool is_sums = g_str_has_suffix(name, ".mf");

    g_ptr_array_add(self->ova->members, member);
    member->name = g_strdup(name);
    member->bytes = bytes;
    member->at = at;
    if (self->ova->members->len > MAX_MEMBERS)
        return fail(error, ERROR_INTEGRITY, "it has more than %u members", MAX_MEMBERS);
    if (is_first != g_str_has_suffix(name, ".ovf"))
        return fail(error, ERROR_INTEGRITY,
                    is_first ? "its first member is %s: that of an OVA is a descriptor (*.ovf)"
                             : "it has another descriptor, %s",
                    name);
    if (bytes > (is_first ? OVF_MAX_BYTES : is_sums ? SUMS_MAX_BYTES : UINT64_MAX))
        return fail(error, ERROR_INTEGRITY, "%s is too large", name);
    if (is_first || (is_sums && !self->ova->sums))
        self->text = g_string_new(NULL);
    for (unsigned i = 0; i < OVA_SUMS; i++)
        g_checksum_reset(self->sums[i]);
    return true;
}

static bool take_data(void *context, const void *data, size_t len, GError **error)
{
    struct reading *self = context;

    for (unsigned i = 0; i < OVA_SUMS; i++)
        g_checksum_update(self->sums[i], data, (gssize)len);
    if (self->text)
        g_string_append_len(self->text, data, (gssize)len);
    self->done += len;
    progress_bytes(self->progress, self->ova->path, self->done, 0);
    return true;
}

static bool end_member(void *context, GError **error)
{
    struct reading *self = context;
    struct ova *ova = self->ova;
    struct ova_member *member = ova->members->pdata[ova->members->len - 1];

    for (unsigned i = 0; i < OVA_SUMS; i++)
        member->sums[i] = g_strdup(g_checksum_get_string(self->sums[i]));
    if (self->text)
        *(ova->members->len == 1 ? &ova->text : &ova->sums) =
            g_string_free(g_steal_pointer(&self->text), FALSE);
    return true;
}

static bool read_all(struct ova *ova, struct progress *progress, GError **error)
{
    struct reading reading = {.ova = ova, .progress = progress};
    struct tarball_sink sink = {begin_member, take_data, end_member, &reading};
    bool done;

    for (unsigned i = 0; i < OVA_SUMS; i++)
        reading.sums[i] = g_checksum_new(algorithms[i].type);
    done = tarball_scan(ova->path, TARBALL_PLAIN, &sink, error);
    for (unsigned i = 0; i < OVA_SUMS; i++)
        g_checksum_free(reading.sums[i]);
    if (reading.text)
        g_string_free(reading.text, TRUE);
    return done && (ova->text || fail(error, ERROR_INTEGRITY, "%s: it is empty", ova->path));
}

/* ---- Digests */

/* That of MEMBER, or NULL: nobody has made it. */
static const char *sum_of(const struct ova_member *member, const char *algorithm)
{
    for (unsigned i = 0; i < OVA_SUMS; i++)
        if (strcmp(algorithm, algorithms[i].name) == 0)
            return member->sums[i];
    return NULL;
}

/* "SHA256(disk.vmdk)= 12ab..." */
static bool check_line(const struct ova *ova, const char *line, GHashTable *listed, GError **error)
{
    g_autoptr(GRegex) regex =
        g_regex_new("^(SHA[0-9]+) ?\\((.+)\\) ?= ?([0-9A-Fa-f]+)$", 0, 0, NULL);
    g_autoptr(GMatchInfo) match = NULL;
    g_autofree char *algorithm = NULL;
    g_autofree char *name = NULL;
    g_autofree char *hex = NULL;
    const struct ova_member *member;
    const char *found;

    if (!g_utf8_validate(line, -1, NULL) || !g_regex_match(regex, line, 0, &match))
        return fail(error, ERROR_INTEGRITY, "its file of digests has a line that is none");
    algorithm = g_match_info_fetch(match, 1);
    name = g_match_info_fetch(match, 2);
    hex = g_match_info_fetch(match, 3);
    member = ova_member(ova, name);
    if (!member)
        return fail(error, ERROR_INTEGRITY, "%s is missing, of which it has a digest", name);
    found = sum_of(member, algorithm);
    if (!found)
        return fail(error, ERROR_FAILED,
                    "its digests are %s, and only SHA1, SHA256 and SHA512 are supported: export "
                    "the VM anew with one of these",
                    algorithm);
    if (g_ascii_strcasecmp(found, hex) != 0)
        return fail(error, ERROR_INTEGRITY, "%s is damaged: its %s is not what it should be", name,
                    algorithm);
    g_hash_table_add(listed, g_steal_pointer(&name));
    return true;
}

bool ova_check_sums(const struct ova *ova, GError **error)
{
    g_autoptr(GHashTable) listed = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(GStrv) lines = g_strsplit(ova->sums, "\n", -1);
    g_autoptr(GPtrArray) disks = ovf_package_disks(ova->package);

    for (char **line = lines; *line; line++)
        if (*g_strstrip(*line) && !check_line(ova, *line, listed, error))
            return false;
    for (unsigned i = 0; i < disks->len; i++) {
        const struct ovf_disk *disk = disks->pdata[i];

        if (!g_hash_table_contains(listed, disk->file))
            return fail(error, ERROR_INTEGRITY, "its file of digests has none of %s", disk->file);
    }
    return true;
}

/* ---- Disks */

static uint64_t le64(const uint8_t *bytes)
{
    uint64_t value;

    memcpy(&value, bytes, sizeof value);
    return GUINT64_FROM_LE(value);
}

static bool fail_disk(const struct ova_member *member, const char *why, GError **error)
{
    return fail(error, ERROR_INTEGRITY,
                "disk %s %s: export the VM anew, with disks that are streamOptimized", member->name,
                why);
}

/* The header of a VMDK (VMware's Virtual Disk Format 5.0) leads to a descriptor inside the file; where its
 * capacity is 0, that, and not the header, tells QEMU what to open. */
static bool check_disk(const struct ova *ova, int fd, const struct ova_member *member,
                       GError **error)
{
    uint8_t header[SECTOR_BYTES];
    g_autofree char *text = NULL;
    uint64_t at, bytes;

    if (member->bytes < SECTOR_BYTES)
        return fail_disk(member, "is too short for a VMDK", error);
    if (!fd_read_at(fd, member->at, header, sizeof header, ova->path, error))
        return false;
    if (memcmp(header, "KDMV", 4) != 0)
        return fail_disk(member, "is not a VMDK in one piece", error);
    if (le64(header + 12) == 0 || le64(header + 12) > MANIFEST_MAX_VIRTUAL_BYTES / SECTOR_BYTES)
        return fail_disk(member, "has no size that can be", error);
    at = le64(header + 28);
    bytes = le64(header + 36);
    if (at > member->bytes / SECTOR_BYTES || bytes > DESCRIPTOR_MAX_BYTES / SECTOR_BYTES ||
        bytes > member->bytes / SECTOR_BYTES - at)
        return fail_disk(member, "has its descriptor elsewhere", error);
    text = g_malloc0(bytes * SECTOR_BYTES + 1);
    if (!fd_read_at(fd, member->at + at * SECTOR_BYTES, text, bytes * SECTOR_BYTES, ova->path,
                    error))
        return false;
    if (strstr(text, "parentFileNameHint"))
        return fail_disk(member, "stands on another one", error);
    return true;
}

static bool check_disks(const struct ova *ova, GError **error)
{
    AUTO_FD fd = open(ova->path, O_RDONLY | O_CLOEXEC);
    g_autoptr(GPtrArray) disks = ovf_package_disks(ova->package);

    if (fd < 0)
        return fail_errno(error, errno, "cannot read %s", ova->path);
    for (unsigned i = 0; i < disks->len; i++) {
        const struct ovf_disk *disk = disks->pdata[i];
        const struct ova_member *member = ova_member(ova, disk->file);

        if (!member)
            return fail(error, ERROR_INTEGRITY, "disk %s is missing", disk->file);
        for (unsigned k = 0; k < i; k++)
            if (strcmp(((const struct ovf_disk *)disks->pdata[k])->file, disk->file) == 0)
                return fail(error, ERROR_INTEGRITY, "disk %s is attached twice", disk->file);
        if (!check_disk(ova, fd, member, error))
            return false;
    }
    return true;
}

char *ova_image(const struct ova *ova, const struct ova_member *member)
{
    json_auto_t *image = json_object();
    json_t *slice = json_object(), *file = json_object();
    g_autofree char *path = g_canonicalize_filename(ova->path, NULL);
    g_autofree char *text = NULL;

    json_set_string(file, "driver", "file");
    json_set_string(file, "filename", path);
    json_set_string(slice, "driver", "raw");
    json_set_u64(slice, "offset", member->at);
    json_set_u64(slice, "size", member->bytes);
    json_object_set_new(slice, "file", file);
    json_set_string(image, "driver", "vmdk");
    json_object_set_new(image, "read-only", json_true());
    json_object_set_new(image, "backing", json_null());
    json_object_set_new(image, "file", slice);
    text = json_text(image, 0);
    return g_strconcat("json:", text, NULL);
}

/* ---- All of it */

static bool check(struct ova *ova, struct progress *progress, GError **error)
{
    ova->package = ovf_parse(ova->text, ((struct ova_member *)ova->members->pdata[0])->name, error);
    if (!ova->package)
        return false;
    if (!ova->sums)
        progress_note(progress,
                      "%s has no digests: nobody can tell whether it is as it was written",
                      ova->path);
    return (!ova->sums || ova_check_sums(ova, error)) && check_disks(ova, error);
}

struct ova *ova_open(const char *path, struct progress *progress, GError **error)
{
    AUTO(ova) ova = g_new0(struct ova, 1);

    ova->path = g_strdup(path);
    ova->members = g_ptr_array_new_with_free_func(member_free);
    if (!read_all(ova, progress, error))
        return NULL;
    if (!check(ova, progress, error)) {
        g_prefix_error(error, "%s: ", path);
        return NULL;
    }
    return g_steal_pointer(&ova);
}
