/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a recovery point: manifest.json in the point's directory, see drctl-store(5). It is
 * the truth about a point, and the tracker of its VM: the newest committed manifest at a destination
 * names the checkpoint from which the next point to that destination is an increment, so there is no
 * second place that could disagree after a crash.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

enum consistency { CONSISTENCY_CRASH, CONSISTENCY_FILESYSTEM };
const char *consistency_name(enum consistency consistency);

struct manifest_disk {
    char *target;            /* "vda" */
    char *file;              /* "vda.qcow2" */
    char *digests;           /* "vda.digests" */
    char *base;              /* id of the point whose image is the backing file, or NULL */
    uint64_t virtual_bytes;  /* size the guest sees */
    uint64_t changed_bytes;  /* clusters in this file * cluster size, zero clusters included */
    uint64_t stored_bytes;   /* size of the file */
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
    char *base;       /* id of the newest point that any disk is based on, or NULL: a full point */
    char *checkpoint; /* libvirt checkpoint on the source that begins at this instant, or NULL */
    char *reason;     /* one line: why full, why incremental */
    GPtrArray *disks; /* of struct manifest_disk */
    GPtrArray *files; /* of struct manifest_file: all files of the point but manifest.json and
                         SHA256SUMS */
};

struct manifest *manifest_new(void);
void manifest_free(struct manifest *manifest);
DEFINE_CLEANUP(manifest)
struct manifest_disk *manifest_add_disk(struct manifest *manifest, const char *target);
void manifest_add_file(struct manifest *manifest, const char *name, uint64_t bytes);
const struct manifest_disk *manifest_disk(const struct manifest *manifest, const char *target);
const struct manifest_file *manifest_file(const struct manifest *manifest, const char *name);

/* Everything that a hostile or damaged manifest could say is checked: names are safe, ids and UUIDs
 * well-formed, bases older than the point, no duplicate, each disk's files listed. ERROR_INTEGRITY names WHAT. */
struct manifest *manifest_parse(const char *text, size_t len, const char *what, GError **error);
struct manifest *manifest_load(const char *path, GError **error);
/* Indented JSON; g_free. */
char *manifest_text(const struct manifest *manifest);
/* The object of `drctl points --json`: vm, uuid, point, time, consistency, base, path, disks[...].
 * PATH may be NULL. */
json_t *manifest_summary(const struct manifest *manifest, const char *path);
/* Sums over the disks. */
uint64_t manifest_changed_bytes(const struct manifest *manifest);
uint64_t manifest_stored_bytes(const struct manifest *manifest);

#define MANIFEST_MAX_BYTES (1u << 20)
#define MANIFEST_MAX_DISKS 64
