/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pull-mode backup job of a domain: begun with a checkpoint at one instant for all disks, while
 * the guest's file systems are frozen if that was asked for; guarded while it runs (guard.h);
 * always ended. What it leaves in libvirt, in the guest and on disk if we are killed is in the
 * capture journal before it happens. Private to snapshot/.
 */
#pragma once

#include "snapshot/guard.h"
#include "snapshot/reference.h"
#include "snapshot/watchdog.h"

struct job {
    const struct point_request *request;
    struct reference *reference;
    GPtrArray *disks; /* of struct vm_disk; borrowed */
    char *checkpoint; /* its name, or NULL: no disk can have a bitmap */
    char *socket;
    GHashTable *scratch; /* target -> path */
    int64_t time_ms;     /* the instant */
    enum consistency consistency;
    struct guard *guard;       /* while it runs */
    bool keep_checkpoint;      /* a manifest names it, or may name it */
    struct watchdog *watchdog; /* NULL: no agent answers, or nobody could thaw for us */
    bool may_be_frozen;        /* the agent was asked to freeze, and no thaw has been seen since */
    int64_t frozen_at_ms;      /* monotonic; 0: it is not, or not for certain any more */
};

#define JOB_BITMAP "drctl" /* exportbitmap of every incremental disk */

/* One job by itself: prepare, freeze, begin, thaw. On error nothing is left behind. */
struct job *job_start(const struct point_request *request, struct reference *reference,
                      GPtrArray *disks, const char *point, GError **error);

/*
 * The same in phases, so that several jobs can share one instant: prepare all, freeze all, begin
 * all, thaw all. A guest that cannot be frozen, or not for long enough, makes its point
 * crash-consistent, or fails the phase if the protection requires more. After job_freeze(), however
 * it ended, comes job_thaw(); job_free() does it too, but cannot tell that it failed.
 */
/* Make places and the journal entry; ask whether the agent answers, and if so start the watchdog. A
 * domain that libvirt is busy
 * with is ERROR_CONFLICT: begin would wait for half a minute, with frozen file systems. */
struct job *job_prepare(const struct point_request *request, struct reference *reference,
                        GPtrArray *disks, const char *point, GError **error);
bool job_freeze(struct job *job, GError **error);
/* Bitmaps were good when the reference was chosen. One that turns out to be broken only now costs
 * reading of its disk: REFERENCE tells. */
bool job_begin(struct job *job, GError **error);
bool job_thaw(struct job *job, GError **error);

/* End the job; safe to repeat. False also when the job was over before, because the guard gave it
 * up, somebody ended it or the VM went off: then what was read may be wrong, and is no point. */
bool job_end(struct job *job, GError **error);
/* False once the guard has given up the job. */
bool job_watch(struct job *job, GError **error);
/* Reading has failed with *ERROR: if that is because the job is over, *ERROR tells why instead. */
void job_explain(struct job *job, GError **error);
/* Ends it too if that was not done, and deletes its checkpoint unless KEEP_CHECKPOINT. */
void job_free(struct job *job);
DEFINE_CLEANUP(job)

/* Clean up what a killed process left on this VM: its job, the freeze, its files. The caller holds
 * the VM's lock, so whatever is there is nobody's. A job of somebody else is ERROR_CONFLICT. */
bool job_reconcile(const struct point_request *request, GError **error);
