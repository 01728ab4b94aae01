/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points of several VMs, to their destinations: one VM after the other, or those of a protection with
 * a group at one instant. What fails for one VM is its result, and does not stop the others.
 */
#pragma once

#include "drctl/jobs.h"

/* After which older ones may go. */
struct made_point {
    const struct protection *protection;
    char *vm_uuid;
};

/* One invocation: its destinations are opened once, its results collected. */
struct replication {
    struct context *context;
    GPtrArray *vms;           /* of struct protected_vm: what was asked for */
    GPtrArray *all;           /* of struct protected_vm: what the bundle tells of */
    GPtrArray *vapps;         /* of struct vapp: what it tells of beside this site's own; or NULL */
    struct protection once;   /* of --to: how VMs are caught that no protection sends there */
    GHashTable *stores;       /* destination -> struct store */
    GHashTable *owners;       /* destination -> GPtrArray of struct owner: what it knows */
    GHashTable *store_errors; /* destination -> GError of its opening */
    struct run *run;
    json_t *results; /* array, one object per VM */
    unsigned failed;
    GError *first_error;
    GError *aside_error; /* of what is done beside the points */
    GPtrArray *made;     /* of struct made_point */
};
void replication_init(struct replication *replication, struct context *context);
void replication_clear(struct replication *replication);

/* The store of DESTINATION, opened at its first use, when the pool metadata goes there; borrowed. What
 * could not be opened once is not tried again. */
struct store *replication_store(struct replication *replication, const char *destination,
                                GError **error);
/* How a point of VM would be taken; changes nothing. */
struct point_plan *replication_plan(struct replication *replication, const struct protected_vm *vm,
                                    GError **error);
/* Forget what came of the last points, so that more can be taken; links stay open. */
void replication_begin_round(struct replication *replication);
/* Drop what the protections of MADE do not keep. */
void replication_drop_older(struct replication *replication);
/* Takes points of all VMS within RUN; RESULTS, MADE and the errors tell what became of them. */
void replication_take_points(struct replication *replication);
