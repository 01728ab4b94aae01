/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside vapp/: the one executor of start and stop. It decides when a VM may begin and what its
 * failure means for others; what is done for a VM is a function that runs in a thread of its own.
 *
 * Threads share nothing but a queue: workers post what happened, and the caller's thread alone
 * holds the results, decides and reports. So there are no locks, and REPORT is called in the thread
 * that called execute().
 */
#pragma once

#include "vapp/vapp.h"

enum direction {
    EXECUTE_START, /* orders ascending; a VM waits for those that it is after, and for their delay
                    */
    EXECUTE_STOP,  /* the reverse: orders descending; a VM waits for those that are after it */
};

/* What a worker knows of its VM. */
struct work {
    const struct vapp_vm *vm;
    bool was_already; /* to be set: there was nothing to do */
    char *note;       /* to be set: done, but not as wished; the executor frees it */
    /* of the executor */
    GAsyncQueue *events;
    unsigned index;
};

/* Bring the VM where it belongs. ERROR_CANCELLED leaves it in the state that it is in. */
typedef bool work_fn(void *context, struct work *work, GError **error);
/* Called by a work_fn: the domain runs, now it becomes ready. */
void work_is_up(struct work *work);

struct executor {
    enum direction direction;
    work_fn *work;
    void *work_context;
    void (*report)(void *context, const struct vapp_result *result); /* or NULL */
    void *report_context;
};

/* Results and errors as vapp_start() promises them. */
bool execute(const struct vapp *vapp, const struct executor *executor, GPtrArray **results,
             GError **error);
