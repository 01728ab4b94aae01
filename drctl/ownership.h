/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before a point is taken: does the VM belong to this site? What is known here and at the destination must be
 * the same for that, so the newer record (owner.h) goes to the side that has the older.
 */
#pragma once

#include "drctl/command.h"

/* By what is known here. ERROR_AUTH names the owner and the way out; more urgent if the VM runs here all the
 * same. *EPOCH is as of which the VM is ours. */
bool ownership_known(const struct config *config, struct domain *domain, uint64_t *epoch,
                     GError **error);
/* {owner, epoch, since} of a VM into JSON, for `drctl status`; "problem" is one line with the way out, or null.
 * DOMAIN is what there is of it at this site, or NULL. True when there is a problem. */
bool ownership_describe(const struct config *config, const char *uuid, struct domain *domain,
                        json_t *json);
/* After that: by what THERE, the owners that DESTINATION knows (of struct owner), says as well. */
bool ownership_agree(const struct config *config, struct domain *domain, struct store *destination,
                     const GPtrArray *there, uint64_t *epoch, GError **error);
