/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which host gets which VM. What must hold: a host has the memory, and can run the VM at all (asked
 * of the caller, as rarely as possible, because it costs). What is wished, in this order: VMs that
 * shall be together or apart are; the host has the VM's networks; it has as many CPUs as the VM; the
 * load is spread. A wish that cannot be had is a note, not a refusal: a VM that runs beside another
 * one is better than one that does not run.
 *
 * VMs that are not optional come first, and large ones before small ones, each to the host where
 * most is left. If somebody finds no place so, all is tried again with each at the fullest host that
 * still takes it; the attempt that leaves out fewer is taken. The same input gives the same result.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct allot_host {
    const char *name;
    uint64_t memory_bytes; /* free for new guests; UINT64_MAX: not known, enough */
    unsigned cpus;         /* 0: not known */
    unsigned cpus_used;    /* by guests that run there */
};

#define ALLOT_NOWHERE (-1)

struct allot_vm {
    const char *name;
    uint64_t memory_bytes;
    unsigned cpus;
    bool optional;
    const char *host;            /* the only one that it may get, or NULL */
    const char *const *apart;    /* names of VMs, NULL-terminated; may be NULL */
    const char *const *together; /* likewise */
    int fixed;                   /* host that it is at already, or ALLOT_NOWHERE */
    /* The result. */
    int at;           /* index of the host, or ALLOT_NOWHERE */
    GPtrArray *notes; /* char *: wishes that were not fulfilled; of the caller */
    char *refusal;    /* g_free; why it is nowhere: in numbers */
};

struct allot {
    struct allot_host *hosts;
    unsigned n_hosts;
    struct allot_vm *vms;
    unsigned n_vms;
    /* How many of the networks of VM does HOST not have? Cheap. */
    unsigned (*lacks)(void *context, unsigned vm, unsigned host);
    /* Can HOST run VM? Asked at most once for each pair, and only when the VM would get that host. */
    bool (*runs)(void *context, unsigned vm, unsigned host);
    void *context;
};

/* Fill in the results. At least one host. */
void allot(struct allot *allot);
