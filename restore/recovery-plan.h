/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recovery plan as it is written down at the recovery side: DIR/<name>.plan in the configuration
 * directory, read as strictly as the other files there; see drctl-plan(5). It says what the
 * definitions of the VMs cannot know: which network here stands for which one there, which host a VM
 * gets, what it may use, what is run before and after. `struct failover_plan` is what was decided with
 * it for one run. A vApp without a file has the default plan: itself, and nothing changed.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/metadata.h"
#include "restore/ip.h"
#include "restore/window.h"

#define PLAN_SUFFIX ".plan"
#define COMMIT_AFTER_MAX_MS (30 * 24 * 3600 * INT64_C(1000))
#define PLAN_HOOK_TIMEOUT_MS (5 * 60 * INT64_C(1000))

/* [network NAME]: what becomes of a NIC that is plugged into network, bridge or link NAME. */
struct plan_network {
    char *name;
    char *target;           /* network or bridge here; NULL: the one of the same name */
    bool disconnected;      /* no cable */
    bool test_disconnected; /* nor in a test; else it has one of its own there */
    GArray *rules;          /* of struct ip_rule */
    char *gateway;          /* or NULL */
    char **dns;             /* or NULL */
};

/* address NIC = ADDRESS/BITS */
struct plan_address {
    char *nic; /* as the guest calls it: "eth0" */
    struct ip_prefix address;
};

/* [vm NAME] */
struct plan_vm {
    char *name;
    char *host;            /* URI, or NULL: chosen */
    char *storage;         /* or NULL: that of the plan */
    uint64_t memory_bytes; /* 0: as it was */
    unsigned cpus;         /* 0: as it was */
    bool optional;
    char **apart;         /* VMs that shall be at other hosts; possibly empty */
    char **together;      /* VMs that shall be at the same host; possibly empty */
    GPtrArray *addresses; /* of struct plan_address */
    char *before;         /* command here before it is started, or NULL */
    char *after;          /* command here when it is ready, or NULL */
    char *in_guest;       /* command in the guest when it is ready, or NULL */
    int64_t hook_timeout_ms;
};

struct recovery_plan {
    char *name;
    char *path;   /* NULL: the default plan */
    char *text;   /* as it was read; "" for the default plan */
    char **vapps; /* at least one, in the order in which they are brought up */
    char *site;   /* where the VMs come from, or NULL: whoever knows them */
    int hydrate;  /* 0 or 1; -1: as drctl.conf says */
    struct commit_policy commit;
    char **contacts;       /* who is called, for the runbook; or NULL */
    char **notes;          /* what he should know, likewise */
    int64_t test_every_ms; /* how often a test failover is due; 0: whenever somebody likes */
    char *storage;       /* pool or absolute directory for the disks, or NULL: as drctl.conf says */
    GPtrArray *networks; /* of struct plan_network */
    GPtrArray *vms;      /* of struct plan_vm */
};

/* NAME is that of the plan, WHAT that of the file for messages. ERROR_CONFIG. */
struct recovery_plan *recovery_plan_parse(const char *text, size_t len, const char *name,
                                          const char *what, GError **error);
/* Of one vApp or VM, with nothing changed. */
struct recovery_plan *recovery_plan_default(const char *vapp);
/* DIR/<name>.plan, or the default one of a vApp or VM NAME when there is none. */
struct recovery_plan *recovery_plan_find(const char *dir, const char *name, GError **error);
/* All of DIR, sorted by name; of struct recovery_plan. */
GPtrArray *recovery_plan_load_all(const char *dir, GError **error);
/* Make TEXT the plan NAME of DIR, at *PATH (g_free); never over an existing one: ERROR_CONFLICT. */
bool recovery_plan_write(const char *dir, const char *name, const char *text, char **path,
                         GError **error);
void recovery_plan_free(struct recovery_plan *plan);
DEFINE_CLEANUP(recovery_plan)

/* Can NAME be a `storage`? A path is told from the name of a pool by its first character. */
bool storage_name_is_valid(const char *name);
/* NULL: the plan does not mention it. */
const struct plan_network *recovery_plan_network(const struct recovery_plan *plan,
                                                 const char *name);
const struct plan_vm *recovery_plan_vm(const struct recovery_plan *plan, const char *name);
