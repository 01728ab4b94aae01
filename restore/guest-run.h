/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands in a guest, by its agent: guest-exec, which Linux and Windows agents have unless their
 * administrator has forbidden it. Private to restore/.
 */
#pragma once

#include "common/common.h"

/* How long one answer of an agent may take. */
#define AGENT_TIMEOUT_S 5

/* Wait until the agent answers. */
bool guest_wait_agent(struct domain *domain, int64_t deadline_ms, GError **error);
/* Run ARGV, whose first word is looked for in the guest's PATH, to a good end. A command that takes longer
 * than TIMEOUT_MS cannot be stopped: the error says that it goes on. */
bool guest_run(struct domain *domain, char *const *argv, int64_t timeout_ms, GError **error);
/* Wait until the command with that PID has ended; END is zeroed by the caller, and its output is freed by it. */
bool guest_wait_end(struct domain *domain, uint64_t pid, int64_t timeout_ms,
                    struct domain_exec_end *end, GError **error);
/* A pause between two looks; false after an interrupt. */
bool guest_pause(GError **error);
