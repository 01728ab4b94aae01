/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which domains there are at the hosts of a site, asked for once: who plans for a thousand VMs would else
 * ask each host for each of them, by UUID and by name. Private to restore/.
 */
#pragma once

#include "restore/recovery.h"

struct inventory;

/* Of HOSTS, of struct host, all at once. */
struct inventory *inventory_new(const GPtrArray *hosts, GError **error);
void inventory_free(struct inventory *inventory);
DEFINE_CLEANUP(inventory)
/* What site_find_domain() says, without asking each host. */
bool inventory_find(const struct inventory *inventory, const char *name, const char *uuid,
                    struct domain **domain, struct recovered *mark, GError **error);
