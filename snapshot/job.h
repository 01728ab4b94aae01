/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pull-mode backup job of a domain: begun with a checkpoint at one instant for all disks, while
 * the guest's file systems are frozen if that was asked for; always ended. What it leaves in
 * libvirt, in the guest and on disk if we are killed is in the capture journal before it
 * happens. Private to snapshot/.
 */
#pragma once

#include "snapshot/reference.h"

struct job {
    const struct point_request *request;
    const struct reference *reference;
    GPtrArray *disks; /* of struct vm_disk; borrowed */
    char *checkpoint; /* its name, or NULL: no disk can have a bitmap */
    char *socket;
    GHashTable *scratch; /* target -> path */
    int64_t time_ms;     /* the instant */
    enum consistency consistency;
    bool running;
    bool keep_checkpoint; /* a manifest names it, or may name it */
    bool may_be_frozen;   /* the agent was asked to freeze, and no thaw has been seen since */
};

#define JOB_BITMAP "drctl" /* exportbitmap of every incremental disk */

/* Freeze as asked, begin, thaw. A broken or missing bitmap is ERROR_INTEGRITY: the reference cannot
 * be used. On error nothing is left behind. */
struct job *job_begin(const struct point_request *request, const struct reference *reference,
                      GPtrArray *disks, const char *point, GError **error);
/* End the job; safe to repeat. */
bool job_end(struct job *job, GError **error);
/* ERROR_NO_SPACE when QEMU has paused the guest because the scratch space is full; the job is ended
 * and the guest resumed before that is told: it must not stand still for as long as the transfer
 * lasts. */
bool job_watch(struct job *job, GError **error);
/* Ends it too if that was not done, and deletes its checkpoint unless KEEP_CHECKPOINT. */
void job_free(struct job *job);
DEFINE_CLEANUP(job)

/* Clean up what a killed process left on this VM: its job, the freeze, its files. The caller holds
 * the VM's lock, so whatever is there is nobody's. A job of somebody else is ERROR_CONFLICT. */
bool job_reconcile(const struct point_request *request, GError **error);
