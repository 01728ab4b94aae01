/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hydration: what the disks of a recovered VM have in the points that it runs on becomes their own, copied by
 * QEMU while the guest runs (common/domain-pull.h). Nothing is written down about it: what lies below an image
 * stands in the image, or in a copy of its first cluster until what was copied is durable (hydrate-pin.c), and that is
 * also what keeps a point from being dropped; what is being copied QEMU knows. So there is nothing to resume but to begin again with what is left.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/metadata.h"

struct site;

struct hydrating_disk {
    char *target;
    char *path;  /* its own image */
    char *point; /* "<vm-uuid>/<point>" that it lies upon; NULL: it is hydrated */
    char *why;   /* it is neither hydrated nor being pulled, and why; or NULL: nobody has begun */
    bool is_passing;  /* WHY is a matter of time */
    unsigned begun;   /* how often, by this process, without a good end */
    int64_t begun_ms; /* monotonic: the last time */
    struct domain_pull pull;
    /* Of its chain: */
    bool is_lost;    /* clusters of the point are lost: reads are errors, so nobody can copy them */
    bool is_covered; /* somebody has made a snapshot above the image */
};

/* One recovered VM. */
struct hydration {
    char *vm;
    char *uuid;
    char *host;     /* URI */
    char *run;      /* that brought it up */
    bool is_wanted; /* as that was told; not known of hydration_of() */
    struct domain *domain;
    enum domain_state state;
    GPtrArray *disks; /* of struct hydrating_disk */
};
void hydration_free(struct hydration *hydration);
DEFINE_CLEANUP(hydration)

/* Has any VM been recovered at this site, so that it is worth connecting to its hosts? */
bool hydration_is_possible(const struct config *config);
/* The recovered VMs that NAMES (VMs, vApps or recovery plans; empty: all of this site) mean, as they are
 * now; of struct hydration. Copies of a test failover are not among them. Those of a vApp that were not recovered here are told of. ERROR_NOT_FOUND when
 * none of NAMES was. */
GPtrArray *hydration_find(const struct site *site, char *const *names, GError **error);
/* The same for VMS (char *), names or UUIDs of VMs alone; it may be that none is found. */
GPtrArray *hydration_find_vms(const struct site *site, const GPtrArray *vms, GError **error);
/* Of one VM; NULL without an error when it was not recovered. */
struct hydration *hydration_of(struct domain *domain, GError **error);
/* Look again. A VM that is gone meanwhile is ERROR_NOT_FOUND. */
bool hydration_look(struct hydration *hydration, GError **error);

/* From now on DISK keeps the point that it lies upon, also when its header names it no more... */
bool hydration_pin(const struct hydrating_disk *disk, GError **error);
/* ... until all that the point has is in the image, durably, and the definition does not name it. */
void hydration_unpin(const struct hydration *hydration);

/* Begin to pull all disks of HYDRATIONS that are not hydrated and that nothing forbids; WHY of the others
 * says what does. RATE bytes a second (0: no limit) are shared by all that are being pulled. */
void hydration_begin(const struct site *site, const GPtrArray *hydrations, uint64_t rate);
/* Begin with VMS (char *, names or UUIDs) after a failover, at the rate of drctl.conf. What cannot begin is told:
 * the VMs are up all the same. */
void hydration_after_failover(const struct site *site, const GPtrArray *vms);
/* Go on with what failovers have begun that said so, as hydration_after_failover(): the next disk of each VM, what ended
 * with a VM that runs again. */
bool hydration_go_on(const struct site *site, GError **error);
/* For something that cannot be beside pulls, as a backup: stop those of DOMAIN, if it is a recovered VM, and begin
 * them again. NULL: there were none. */
struct hydration *hydration_pause(struct domain *domain);
void hydration_unpause(struct hydration *paused);
/* Stop pulling. What has been copied stays. */
bool hydration_end(const GPtrArray *hydrations, GError **error);

/* Disks of HYDRATIONS that are being pulled; that are not hydrated. */
unsigned hydration_pulled(const GPtrArray *hydrations);
unsigned hydration_left(const GPtrArray *hydrations);
/* "pulling", "waiting" or "hydrated". */
const char *hydrating_disk_state(const struct hydrating_disk *disk);
/* [{vm, uuid, host, run, running, hydrated, disks: [{disk, state, point, path, done_bytes, total_bytes,
 * limit_bytes_per_second, why}]}] */
json_t *hydrations_json(const GPtrArray *hydrations);
