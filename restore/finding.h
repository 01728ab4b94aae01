/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What planning finds out about a VM: remarks (it comes up, but not exactly as it was) and blockers
 * (it must not be tried). Texts are for people, one line each: what is wrong and what that means, then,
 * behind REMEDY, what can be done about it; a remark that calls for nothing has none.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/common.h"

#define REMEDY " -> "

struct findings {
    GPtrArray *remarks;  /* of char * */
    GPtrArray *blockers; /* of char * */
};

struct findings *findings_new(void);
void findings_free(struct findings *findings);
DEFINE_CLEANUP(findings)
void remark(struct findings *findings, const char *format, ...) G_GNUC_PRINTF(2, 3);
void block(struct findings *findings, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Those of FROM behind those of FINDINGS. */
void findings_append(struct findings *findings, const struct findings *from);
/* All texts, blockers last; of char *, with free function. *BLOCKED says whether there is one. */
GPtrArray *findings_list(const struct findings *findings, bool *blocked);
