/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which points of each VM a plan may take: what struct failover_request of restore.h says about that,
 * applied to what there is. Private to restore/.
 */
#pragma once

#include "restore/restore.h"

struct choice {
    const struct site *site;               /* borrowed */
    const struct failover_request *wanted; /* borrowed */
    int64_t until_ms;                      /* INT64_MAX: no matter */
    char *group;       /* take the points of this round where there are any; or NULL */
    GHashTable *lists; /* UUID -> GPtrArray of struct manifest: what is not forgotten yet */
};

/* Does it say anything about points? */
bool request_has_choice(const struct failover_request *request);
/* Fill CHOICE for the VMs with these UUIDs. ERROR_NOT_FOUND: none of them has the point that is wanted. */
bool choice_settle(struct choice *choice, const struct site *site,
                   const struct failover_request *wanted, const GPtrArray *uuids, GError **error);
void choice_clear(struct choice *choice);
bool choice_is_free(const struct choice *choice);

/* The points of a VM that may be taken, newest first, possibly none; of struct manifest. They are read once, until they
 * are forgotten. */
GPtrArray *choice_list(const struct choice *choice, const char *vm_uuid, GError **error);
/* The same, but none is ERROR_NOT_FOUND that says what was asked for. */
GPtrArray *choice_points(const struct choice *choice, const char *vm_uuid, GError **error);
/* Forget those of all VMs, who may have very many. */
void choice_forget(struct choice *choice);
