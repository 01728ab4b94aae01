/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public header of vapp/: VMs that are started and stopped as one, in order. See drctl-vapp(5):
 *
 *     [vapp]
 *     name = shop
 *     [vm db]
 *     order = 1             lower starts first; VMs of one order start together; default 0
 *     after = cache; mq     names of VMs of this vApp, of the same or a lower order
 *     ready = agent         agent | tcp:PORT | http:PORT/PATH=STATUS | command:COMMAND |
 *                           log:REGEX | none (default)
 *     ready-timeout = 120s
 *     ready-retries = 20    fail after so many further tries; default: not before the timeout
 *     ready-interval = 500ms between tries
 *     address = 192.0.2.7   for tcp and http: where to connect; default: what libvirt and the agent
 *                           know
 *     delay = 10s           after ready, before those who wait for this VM: `after` it or by order
 *     stop-timeout = 120s   for a clean shutdown, then the plug is pulled
 *
 * An order is a barrier: the next one begins when every VM of this one is up or has failed (SRM
 * priority groups, XenServer vApps). A VM that failed fails those that are `after` it (skipped),
 * not the plan. Stopping is the exact reverse.
 */
#pragma once

#include <limits.h>

#include "metadata/metadata.h"

enum ready_kind { READY_NONE, READY_AGENT, READY_TCP, READY_HTTP, READY_COMMAND, READY_LOG };

#define READY_RETRIES_ANY UINT_MAX

struct vapp_vm {
    char *name;
    unsigned order;
    char **after; /* NULL-terminated, possibly empty */
    enum ready_kind ready;
    char *ready_text;      /* the rule as it is written */
    uint16_t ready_port;   /* tcp, http */
    char *ready_path;      /* http: "/health?full" */
    unsigned ready_status; /* http */
    char **ready_command;  /* command: NULL-terminated */
    GRegex *ready_regex;   /* log: for lines of any bytes */
    char *address;         /* or NULL */
    int64_t ready_timeout_ms;
    int64_t ready_interval_ms;
    unsigned ready_retries; /* READY_RETRIES_ANY: until the timeout */
    int64_t delay_ms;
    int64_t stop_timeout_ms;
};

struct vapp {
    char *name;
    char *path;     /* file, or what it was parsed from */
    char *text;     /* the definition as it was read, for the pool bundle */
    GPtrArray *vms; /* of struct vapp_vm, in start order (a topological order) */
};

/* Parse and check: unknown keys, wrong values, unknown VMs in `after`, a dependency on a later
 * order, cycles (printed: "db -> app -> db") are ERROR_CONFIG naming WHAT and the group. */
struct vapp *vapp_parse(const char *text, size_t len, const char *what, GError **error);
struct vapp *vapp_load(const char *path, GError **error);
/* All *.vapp of DIR, sorted by name; two files with one name: ERROR_CONFIG. Of struct vapp. */
GPtrArray *vapp_load_all(const char *dir, GError **error);
/* DIR's vApp NAME; ERROR_NOT_FOUND names those that exist. Errors in files of other vApps do not
 * matter, unless NAME is not found without them. */
struct vapp *vapp_find(const char *dir, const char *name, GError **error);
/* A lone VM is a vApp of one. */
struct vapp *vapp_single(const char *vm);
/* One vApp, NAME, of several: the VMs of each begin when those of the one before are up or have failed.
 * VAPPS (of struct vapp, at least one) are emptied. A VM that is in two of them: ERROR_CONFIG. */
struct vapp *vapp_join(const char *name, GPtrArray *vapps, GError **error);
/* Forget VM NAME: those that are after it begin without it. */
void vapp_remove(struct vapp *vapp, const char *name);
void vapp_free(struct vapp *vapp);
DEFINE_CLEANUP(vapp)
const struct vapp_vm *vapp_vm(const struct vapp *vapp, const char *name);
/* What became of one VM in a start or stop. */
enum vapp_vm_state {
    VAPP_VM_WAITING,  /* for its order or for another VM */
    VAPP_VM_STARTING, /* or stopping */
    VAPP_VM_UP,       /* started, not ready yet */
    VAPP_VM_DONE,     /* ready (start), off (stop) */
    VAPP_VM_FAILED,
    VAPP_VM_SKIPPED, /* a VM that it depends on failed */
};
const char *vapp_vm_state_name(enum vapp_vm_state state);

struct vapp_result {
    const struct vapp_vm *vm;
    enum vapp_vm_state state;
    char *error;         /* for failed and skipped; and for done, if not as wished: plug pulled */
    bool was_already;    /* nothing had to be done */
    int64_t started_ms;  /* monotonic; 0 = never */
    int64_t finished_ms; /* ready, without the delay; 0 = not done, failed or skipped */
};
void vapp_result_free(struct vapp_result *result);

/* How a VM is brought up, for those who start more than a domain (failover). Called in a thread of
 * its own per VM; returns when the domain runs; readiness is waited for by vapp_start(). */
struct vapp_actions {
    bool (*start)(void *context, const struct vapp_vm *vm, struct domain **domain, GError **error);
    /* Waits until it is ready, in the same thread. NULL: vapp_wait_ready(). */
    bool (*ready)(void *context, const struct vapp_vm *vm, struct domain *domain, GError **error);
    /* A state changed; called in the thread that called vapp_start(). May be NULL. */
    void (*report)(void *context, const struct vapp_result *result);
    void *context;
};

/* Start all VMs in order, in parallel inside an order, waiting for readiness. *RESULTS: of struct
 * vapp_result, in start order, also on failure; they point into VAPP. False with ERROR_PARTIAL when
 * some VM is not up, ERROR_FAILED when none is, ERROR_CANCELLED after an interrupt: VMs not begun
 * yet are left alone, those in work end their call and, if that did not bring them to an end, keep
 * the state that they are in.
 */
bool vapp_start(const struct vapp *vapp, const struct vapp_actions *actions, GPtrArray **results,
                GError **error);
/* The same for domains that are defined on one of HOSTS (of struct host). One that runs and is
 * ready was_already, and its delay is not waited for; one that is paused is resumed (said in error,
 * still done). REPORT and CONTEXT as above. */
bool vapp_start_domains(const struct vapp *vapp, GPtrArray *hosts,
                        void (*report)(void *context, const struct vapp_result *result),
                        void *context, GPtrArray **results, GError **error);
/* Stop in reverse: shutdown by agent or ACPI, after stop-timeout the plug is pulled (said in error,
 * still done); an interrupt never pulls it. A VM that could not be stopped keeps those running that
 * it is after (skipped). */
bool vapp_stop_domains(const struct vapp *vapp, GPtrArray *hosts,
                       void (*report)(void *context, const struct vapp_result *result),
                       void *context, GPtrArray **results, GError **error);
/* Wait until VM is ready by its rule; ERROR_HYPERVISOR after the timeout or the last of its tries says
 * what was awaited and what was seen last. DOMAIN may be NULL where no agent, no address and no
 * console of it is asked for. */
bool vapp_wait_ready(const struct vapp_vm *vm, struct domain *domain, GError **error);
/* Is it ready now? One try, at most 10 s (and 5 s more if its addresses must come from an agent that
 * hangs). */
bool vapp_is_ready(const struct vapp_vm *vm, struct domain *domain);
/* Why a VM of this definition can never be ready by VM's rule, whatever its guest does: "log: it has
 * no serial console". NULL: it can. g_free. */
char *vapp_ready_problem(const struct vapp_vm *vm, const struct xml_node *definition);
