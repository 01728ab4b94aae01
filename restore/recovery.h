/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM on its way from a point to a running domain: what was decided for it, and the steps that do
 * it, the same for failover and for `restore --as`.
 *
 *     aside -> grant -> overlay -> define -> start
 *
 * Those of a test failover are undone again, in reverse. Each step may have happened already, wholly or
 * in part, in a process that was killed. A domain
 * that carries the mark of this run in its <metadata> is ours; any other one of that name or UUID is
 * never touched.
 */
#pragma once

#include "restore/bubble.h"
#include "restore/customize.h"
#include "restore/origin.h"
#include "restore/overlay.h"
#include "restore/rewrite.h"

struct recovery {
    /* Decided by the plan, kept in the journal. */
    char *name;            /* of the domain, as it will be */
    char *uuid;            /* likewise */
    char *uri;             /* host that gets it */
    char *images;          /* directory for its overlays, or NULL: that of drctl.conf */
    char *definition;      /* adapted to that host, not placed yet; NULL when ADOPTED */
    bool aside;            /* a stale copy of it is here, and makes room */
    char *adopted;         /* run that has brought it up already, or NULL */
    struct origin *origin; /* NULL when ADOPTED or blocked */
    struct customization *customization; /* or NULL: nothing is done beside it */
    char *
        subject; /* what the VM is called in the recovery plan and in the journal; NULL: by its name */
    /* While it is planned. */
    const struct recovery_plan *plan; /* borrowed; NULL: nothing is to be changed */
    char *before;                     /* definition of the copy that makes room, or NULL */
    struct bubble *bubble;            /* borrowed; that it is put into in a test, or NULL */
    /* Of the run. */
    const struct site *site; /* borrowed */
    struct host *host;       /* borrowed from the site */
    struct host
        *aside_host; /* likewise: that had the stale copy; NULL: not put aside in this process */
    char *run;
    char *dir;
    char *link; /* in the images of drctl.conf, to DIR; or DIR itself */
    bool begun_start;
    bool started; /* in this process */
};

void recovery_free(struct recovery *recovery);
DEFINE_CLEANUP(recovery)

/* The host of the site with that URI; ERROR_CONFIG when it is not configured any more, ERROR_HYPERVISOR when it does
 * not answer. */
struct host *site_host(const struct site *site, const char *uri, GError **error);
struct qemu_user host_qemu_user(struct host *host);

/* Adapt the origin's definition to PLATFORM and keep it in RECOVERY, under its name and UUID; AS_COPY:
 * of a VM beside the original. */
bool recovery_adapt(struct recovery *recovery, struct platform *platform, bool as_copy,
                    struct findings *findings, GError **error);
/* Which disks must be copied? */
void recovery_check_chains(const struct recovery *recovery, struct findings *findings);
/* Define again at HOST the old copy that was put aside for the VM whose overlays were in DIR, if there was one. Safe
 * to repeat. */
bool recovery_bring_back(struct host *host, const char *dir, GError **error);
/* The directory for its overlays. */
const char *recovery_images(const struct recovery *recovery, const struct config *config);
/* Can QEMU at the recovery's host get at the files at all? Blocks if not. */
void recovery_check_access(const struct recovery *recovery, const struct site *site,
                           struct findings *findings);

/* What recovery_run() (START: to the last step) does for NAME, for run_declare(). RECOVERY is NULL for
 * a VM that is blocked. */
struct run_subject recovery_steps(const char *name, const struct recovery *recovery, bool start);
/* Do it (START: to the last step) in RUN; *DOMAIN (may be NULL) runs then, or is defined. What a
 * failure before the start left is undone. */
bool recovery_run(struct recovery *recovery, const struct site *site, struct run *run, bool start,
                  struct domain **domain, GError **error);

/* Wait until DOMAIN, which was started as VM, is ready, as the last step of RECOVERY. A wait that was over
 * before an interrupt counts, if the guest is ready still. */
bool recovery_wait_ready(const struct recovery *recovery, struct run *run, const struct vapp_vm *vm,
                         struct domain *domain, GError **error);
extern const struct step recovery_ready; /* its step */
/* From the first start of RUN until RECOVERY's step of that name was done, which may both have been in
 * another process; 0: it is not done. */
bool recovery_rto(const struct recovery *recovery, struct run *run, double *seconds,
                  GError **error);

/* Take back all that recovery_run() did in RUN, a guest that runs too; what was never begun is left alone.
 * Only name, uuid, uri and subject need be known. */
bool recovery_remove(struct recovery *recovery, const struct site *site, struct run *run,
                     GError **error);

/* The mark in DOMAIN's <metadata>; *MARK (zeroed by the caller) stays empty unless it is one of ours. */
bool domain_read_mark(struct domain *domain, struct recovered *mark, GError **error);
/* Is there a domain of this UUID, or else of this name, at HOST? *DOMAIN is NULL when not. */
bool host_find_domain(struct host *host, const char *name, const char *uuid, struct domain **domain,
                      GError **error);
/* Is there one at any host of the site? *DOMAIN is NULL when not; *MARK is empty unless it is one of ours. Of several
 * it is the one that runs, else the one that was brought up last. For many VMs: inventory.h. */
bool site_find_domain(const struct site *site, const char *name, const char *uuid,
                      struct domain **domain, struct recovered *mark, GError **error);
/* The refusal that a stranger of that name or UUID gets us. */
bool fail_stranger(struct domain *domain, const char *name, GError **error);
