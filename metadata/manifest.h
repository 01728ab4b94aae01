/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a recovery point: manifest.json in the point's directory, see drctl-store(5). It is
 * the truth about a point, and the tracker of its VM: the newest committed manifest at a destination
 * names the checkpoint from which the next point to that destination is an increment, so there is no
 * second place that could disagree after a crash.
 *
 *     {"format": 1, "vm", "uuid", "point", "time": RFC 3339, "site",
 *      "consistency": "crash" | "filesystem" | "group-crash" | "group-filesystem",
 *      "group": {"id", "members", "skew_ms"} | null,
 *      "base": id | null, "checkpoint": name | null, "reason": text | null, "label": "diverged",
 *      "disks": [{"target", "file", "digests", "base": id | null, "base_vm": uuid | null,
 *                 "base_target": target | null, "virtual_bytes", "changed_bytes", "stored_bytes"}],
 *      "files": [{"name", "bytes"}]}
 *
 * A reader of format 1 refuses keys that it does not know: dropping them would lose something that
 * the writer meant. A struct manifest is what its maker fills in; only the parser checks.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

#define MANIFEST_FORMAT 1
/* What a VM had written at a site after another one had taken it over: its content is nowhere else. */
#define MANIFEST_DIVERGED "diverged"
#define MANIFEST_MAX_BYTES (1u << 20)
#define MANIFEST_MAX_DISKS 64
/* Of one disk: what a qcow2 with 64 KiB clusters can be, with its L1 table of at most 32 MiB. */
#define MANIFEST_MAX_VIRTUAL_BYTES (UINT64_C(1) << 51)

/* Names that the store gives itself, as damage.h's DAMAGE_NAME and proof.h's PROOF_NAME; no file of a
 * point is called so. */
#define MANIFEST_NAME "manifest.json"
#define SHA256SUMS_NAME "SHA256SUMS"
bool name_is_of_store(const char *name);

enum consistency {
    CONSISTENCY_CRASH,
    CONSISTENCY_FILESYSTEM,
    CONSISTENCY_GROUP_CRASH, /* the same instant for all VMs of its group */
    CONSISTENCY_GROUP_FILESYSTEM,
    CONSISTENCIES
};
const char *consistency_name(enum consistency consistency);
bool consistency_parse(const char *name, enum consistency *consistency);
bool consistency_is_group(enum consistency consistency);

struct manifest_disk {
    char *target;           /* "vda" */
    char *file;             /* "vda.qcow2" */
    char *digests;          /* "vda.digests" */
    char *base;             /* id of the point whose image is the backing file, or NULL */
    char *base_vm;          /* UUID of the VM of that point, NULL: the same VM */
    char *base_target;      /* which disk of that point, NULL: the same target */
    uint64_t virtual_bytes; /* size the guest sees */
    uint64_t changed_bytes; /* clusters in this file * cluster size, zero clusters included */
    uint64_t stored_bytes;  /* size of the file */
};

struct manifest_file {
    char *name;
    uint64_t bytes;
};

struct manifest {
    char *vm;   /* name at the time */
    char *uuid; /* lower case */
    char *point;
    int64_t time_ms; /* the instant of the state */
    char *site;      /* where it was taken */
    enum consistency consistency;
    /* Points of one round, see consistency_is_group(); otherwise NULL and 0. */
    char *group;            /* the same point id in all of them */
    uint64_t group_members; /* how many points the round has */
    uint64_t group_skew_ms; /* between the first and the last instant of the round */
    char *base;       /* id of the newest point that any disk is based on, or NULL: a full point */
    char *checkpoint; /* libvirt checkpoint on the source that begins at this instant, or NULL */
    char *reason;     /* one line: why full, why incremental */
    char *label; /* what the point is beside one in a row, such as MANIFEST_DIVERGED; or NULL */
    GPtrArray *disks; /* of struct manifest_disk */
    GPtrArray *files; /* of struct manifest_file: all files of the point but manifest.json and
                         SHA256SUMS */
};

/* May a VM be called so: 1 to 255 bytes of UTF-8 without '/' and control characters? What libvirt
 * allows, and nothing that a terminal would act on. Not safe as a file name: see name_is_safe(). */
bool vm_name_is_valid(const char *name);

struct manifest *manifest_new(void);
void manifest_free(struct manifest *manifest);
DEFINE_CLEANUP(manifest)
/* With file and digests named after TARGET. */
struct manifest_disk *manifest_add_disk(struct manifest *manifest, const char *target);
void manifest_add_file(struct manifest *manifest, const char *name, uint64_t bytes);
/* Forget a file. */
void manifest_remove_file(struct manifest *manifest, const char *name);
/* The newest of its disks' bases, or NULL. */
const char *manifest_newest_base(const struct manifest *manifest);
/* Let the base of the point be that. */
void manifest_set_base(struct manifest *manifest);
const struct manifest_disk *manifest_disk(const struct manifest *manifest, const char *target);
/* The disk whose image is file NAME of the point, or NULL. */
const struct manifest_disk *manifest_disk_of_image(const struct manifest *manifest,
                                                   const char *name);
const struct manifest_file *manifest_file(const struct manifest *manifest, const char *name);
/* Where the base of DISK is, which must have one: whose point, which disk of it. */
const char *manifest_base_vm(const struct manifest *manifest, const struct manifest_disk *disk);
const char *manifest_base_target(const struct manifest_disk *disk);
/* The backing file name that the image of DISK has, relative to it; NULL without a base; g_free. */
char *manifest_backing_name(const struct manifest_disk *disk);

/* Everything that a hostile or damaged manifest could say is checked: names are safe, ids and UUIDs
 * well-formed, bases older than the point, no duplicate, each disk's files listed. ERROR_INTEGRITY names WHAT. */
struct manifest *manifest_parse(const char *text, size_t len, const char *what, GError **error);
struct manifest *manifest_from_json(const json_t *json, const char *what, GError **error);
struct manifest *manifest_load(const char *path, GError **error);
/* The object of manifest.json. */
json_t *manifest_json(const struct manifest *manifest);
/* Its indented text; g_free. Control characters in REASON become blanks: it may hold somebody else's
 * message. */
char *manifest_text(const struct manifest *manifest);
/* The object of `drctl points --json`: vm, uuid, point, time, consistency, base, path, disks[...].
 * PATH may be NULL. */
json_t *manifest_summary(const struct manifest *manifest, const char *path);
/* Of all files; UINT64_MAX if it says more than that. */
uint64_t manifest_bytes(const struct manifest *manifest);
/* Sums over the disks. */
uint64_t manifest_changed_bytes(const struct manifest *manifest);
uint64_t manifest_stored_bytes(const struct manifest *manifest);
