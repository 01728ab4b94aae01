/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside vapp/: one look whether a VM is ready. A probe keeps what is known between looks: the
 * command in the guest that has not ended, how far its console was read. probe.c decides by the kind
 * of rule; connect.c speaks to ports, console.c reads what the guest prints.
 *
 * The error of a look that says no is what was seen, for people, of one line.
 */
#pragma once

#include "vapp/vapp.h"

struct probe {
    const struct vapp_vm *vm;
    struct domain *domain;   /* or NULL, where nothing of it is asked for */
    uint64_t log_offset;     /* a log file that is appended to is read from here */
    uint64_t command_pid;    /* a command that runs in the guest, 0: none */
    struct console *console; /* NULL: not opened yet */
};

void probe_clear(struct probe *probe);
#define AUTO_PROBE __attribute__((cleanup(probe_clear))) struct probe

/* Before the domain of PROBE starts: what its console has printed until now does not count. */
void probe_mark(struct probe *probe);
/* Look, until DEADLINE_MS at most. */
bool probe_look(struct probe *probe, int64_t deadline_ms, GError **error);
/* vapp_is_ready() and vapp_wait_ready() with one probe: a command that has not ended is looked at again,
 * not started once more. */
bool probe_is_ready(struct probe *probe);
bool probe_wait(struct probe *probe, GError **error);

/* ---- connect.c */

/* Does one of ADDRESSES accept a connection to PORT? */
bool connect_try(char *const *addresses, uint16_t port, int64_t deadline_ms, GError **error);
/* Does the first of ADDRESSES that accepts answer GET PATH with STATUS? */
bool http_try(char *const *addresses, uint16_t port, const char *path, unsigned status,
              int64_t deadline_ms, GError **error);

/* ---- console.c */

/* What a guest prints on its first serial console: the log file that libvirt writes of it, from OFFSET
 * on if it is appended to, else what is printed from now on. */
struct console *console_open(struct domain *domain, uint64_t offset, GError **error);
/* Read what there is, until DEADLINE_MS at most. Has a line that matches REGEX been printed since it
 * was opened? *ERROR is set if not: what was printed last. */
bool console_match(struct console *console, const GRegex *regex, int64_t deadline_ms,
                   GError **error);
void console_free(struct console *console);
/* How long the log file is now, 0 if there is none. */
uint64_t console_log_size(struct domain *domain);
/* Why a guest of DEFINITION has no console that can be read, or NULL; a constant. */
const char *console_problem(const struct xml_node *definition);
