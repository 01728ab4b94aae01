/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM, or a vApp, in one file: a tar.zst that holds a full recovery point of each VM, laid out as a
 * store is, so that it can also be unpacked and used by hand (drctl-store(5), ARCHIVES):
 *
 *     archive.json                    {format: 1, kind: "drctl-archive", name, site, time, vapp: bool,
 *                                      vms: [{vm, uuid, point}]}
 *     vapps/<name>.vapp               if it is a vApp
 *     vms/<uuid>/<point>/             of each VM, in the order of archive.json:
 *         manifest.json               without base and checkpoint
 *         vda.qcow2 vda.digests ...   domain.xml [nvram.fd]: in the order of the manifest
 *         SHA256SUMS                  of the files in that order, then manifest.json
 *
 * The order is part of the format: a reader knows at each member which one must come, so what an archive
 * calls its members is never used for anything. Private to restore/.
 */
#pragma once

#include "restore/restore.h"

#define ARCHIVE_FORMAT 1
#define ARCHIVE_KIND "drctl-archive"
#define ARCHIVE_SUFFIX ".tar.zst"
#define ARCHIVE_HEAD "archive.json"
#define ARCHIVE_MAX_VMS 1000u
#define DEFINITION_NAME "domain.xml"
#define NVRAM_NAME "nvram.fd"

/* "vms/<uuid>/<point>/<name>"; g_free. */
char *archive_member(const char *vm_uuid, const char *point, const char *name);
/* "vapps/<name>.vapp"; g_free. */
char *archive_vapp_member(const char *name);
/* ERROR_USAGE unless FILE is called as an archive or an OVA is. */
bool archive_check_name(const char *file, bool *is_ova, GError **error);
/* Is there room for NEEDED bytes of FILE in the store, beside what the store keeps free? ERROR_NO_SPACE */
bool archive_check_space(const struct site *site, const char *file, uint64_t needed,
                         GError **error);
/* Which file VAPP of an import will be, into RESULT; none if this site has one of that name, which stays.
 * ERROR_CONFLICT when such a file defines another one. */
bool archive_check_vapp(const struct site *site, const struct vapp *vapp,
                        struct archive_result *result, GError **error);
/* Write it there. */
bool archive_write_vapp(const struct vapp *vapp, const struct archive_result *result,
                        GError **error);
/* Append a line of SHA256SUMS. */
void archive_sum(GString *sums, const char *name, const uint8_t digest[DIGEST_SIZE]);

/* An image of a disk that was made of a chain, on its way into an archive. It is composed twice: to learn
 * how large it is and what its header says, which a member begins with; then to write it. */
struct merged_disk;
/* Measure the disk of the point MANIFEST (that of the archive, which gets the entry and the files) whose
 * images are CHAIN, paths, top first, borrowed. DIR: where digests are kept meanwhile. */
struct merged_disk *merged_disk_new(struct manifest *manifest, const char *target,
                                    char *const *chain, const char *dir, struct progress *progress,
                                    GError **error);
/* Write the two members, and their lines of SUMS. ERROR_CONFLICT if it is not what it was. */
bool merged_disk_write(struct merged_disk *disk, struct tarball_out *out, GString *sums,
                       GError **error);
void merged_disk_free(struct merged_disk *disk);
DEFINE_CLEANUP(merged_disk)

GPtrArray *archive_vms_new(void);
struct archive_vm *archive_vms_add(GPtrArray *vms, const struct manifest *manifest);

/* A reader of archives: a tarball_sink's callbacks. It accepts exactly what is drawn above. Each VM that it
 * has read to the end, with all digests right, is told; so is each point as it begins, and its bytes. */
struct archive_reader;
/* NULL: nobody wants to know. */
struct archive_events {
    /* The manifest was read and is that of archive.json. *SKIP: its files are checked only. */
    bool (*point)(void *context, const struct manifest *manifest, bool *skip, GError **error);
    bool (*file)(void *context, const struct manifest_file *file, GError **error);
    bool (*data)(void *context, uint64_t offset, const void *data, size_t len, GError **error);
    /* All its digests are right. */
    bool (*commit)(void *context, const struct manifest *manifest, GError **error);
    void *context;
};
/* EVENTS is borrowed. */
struct archive_reader *archive_reader_new(const struct archive_events *events);
bool archive_reader_begin(void *reader, const char *name, uint64_t bytes, uint64_t at,
                          GError **error);
bool archive_reader_data(void *reader, const void *data, size_t len, GError **error);
bool archive_reader_end(void *reader, GError **error);
/* The archive is at its end: is it whole? */
bool archive_reader_finish(const struct archive_reader *reader, GError **error);
const char *archive_reader_name(const struct archive_reader *reader);
const struct vapp *archive_reader_vapp(const struct archive_reader *reader); /* NULL: one VM */
void archive_reader_free(struct archive_reader *reader);
DEFINE_CLEANUP(archive_reader)
