/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard: may a VM start at this site? Asked by libvirt's hook while libvirt waits for the answer and holds
 * the VM, so nothing here calls libvirt, opens the catalog, or takes long. How it decides is in ARCHITECTURE.md,
 * "Who may start a VM".
 */
#pragma once

#include "drctl/command.h"

/* All that is asked of other sites takes less than that. */
#define GUARD_ASK_MS 5000
#define GUARD_WITNESS_MS 2000

/* May VM UUID start? *WHY (g_free) is one line for people, of either answer; of a no with the way out. ASK: other
 * sites too, and put down what is learned. A VM that is not guarded may. */
bool guard_permits(const struct config *config, const char *uuid, bool ask, char **why);

/* Watch a VM from now on, whose owner is this site. What libvirt cannot be kept from starting (session mode) has its
 * autostart held by us. */
bool guard_watch(const struct config *config, struct domain *domain, GError **error);
/* It must not start here any more: put that down, take its autostart away, pull its plug. */
bool guard_fence(const struct config *config, struct domain *domain, GError **error);

/* The script that libvirt shall call, for the drctl that runs now; g_free. */
char *guard_hook_text(const struct config *config, GError **error);
/* HOOKS/qemu.d/50-drctl; g_free. */
char *guard_hook_path(const char *hooks_dir);
