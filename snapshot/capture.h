/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One recovery point of one VM while it is being taken, in phases, so that a round can catch several
 * VMs at one instant:
 *
 *     new       the VM's lock; then job_reconcile()
 *     look      what the VM is: state, disks, definition
 *     prepare   choose the reference of each disk
 *     begin     ready, freeze, start the job, thaw; or serve the disks of a VM that is off
 *     finish    every disk to the destination, end the job; texts, manifest, commit, superseded
 *               checkpoints
 *
 * Freed at any time it leaves the VM as it was, and the destination without the point unless that
 * was committed. Private to snapshot/.
 */
#pragma once

#include "snapshot/job.h"
#include "snapshot/offline.h"
#include "snapshot/space.h"

/* Everything of one point while it is being taken. */
struct capture {
    const struct point_request *request;
    int64_t started_ms; /* monotonic */
    struct file_lock *lock;
    struct reference *reference;
    bool off;         /* the VM, when it was looked at */
    GPtrArray *disks; /* of struct vm_disk */
    char *domain_xml; /* the definition that goes into the point */
    char *nvram;      /* content, or NULL */
    size_t nvram_len;
    struct incoming *incoming;
    struct job *job;         /* of a VM that runs, */
    struct offline *offline; /* or of one that is off */
    uint64_t sent_bytes;     /* by attempts before INCOMING */
    struct reconnect line;   /* to the destination */
    struct manifest *manifest;
};

struct capture *capture_new(const struct point_request *request, GError **error);
void capture_free(struct capture *capture);
DEFINE_CLEANUP(capture)

bool capture_look(struct capture *capture, GError **error);
/* The first half of prepare, which changes nothing. */
bool capture_choose_reference(struct capture *capture, GError **error);
/* NEED: of the points that are taken at the same time; this one is added. */
bool capture_prepare(struct capture *capture, struct space_need *need, GError **error);
/* All of begin for one VM. */
bool capture_begin(struct capture *capture, GError **error);
/* The same for one of several VMs, see job.h. After start of all of them comes join: the point
 * belongs to GROUP. */
bool capture_ready(struct capture *capture, GError **error);
bool capture_freeze(struct capture *capture, GError **error);
bool capture_start(struct capture *capture, GError **error);
bool capture_thaw(struct capture *capture, GError **error);
void capture_join(struct capture *capture, const char *group, uint64_t members, uint64_t skew_ms);
/* The second half of a point; fills RESULT. */
bool capture_finish(struct capture *capture, struct point_result *result, GError **error);
/* Its first part, transfer.c. */
bool capture_transfer(struct capture *capture, GError **error);

/* The place for the point at the destination, for this site as the owner of the VM. */
bool capture_take_place(struct capture *capture, GError **error);

/* reconnect.c. An attempt to send the point has failed with WHY (taken): connect anew, as often and as
 * long as the destination's patience lasts. False when there is no use in trying again. */
bool capture_reconnect(struct capture *capture, GError *why, GError **error);
/* The answer to the commit was lost (WHY, taken): was it a yes? */
bool capture_was_committed(struct capture *capture, GError *why, GError **error);

/* What has become of its disks, of struct point_disk. */
GPtrArray *capture_disks(const struct capture *capture);
/* One line for the manifest: from what the point is counted; g_free. */
char *capture_reason(const struct capture *capture);
/* Was it off when it was looked at, and has been started since? Then what was read is no point. */
bool capture_was_overtaken(const struct capture *capture);
const char *capture_vm(const struct capture *capture);
