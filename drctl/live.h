/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run that starts VMs is doing, while it does it: a note for each change of a VM's state, and on a
 * terminal one line with all VMs and how long it will take, by the runs before it.
 */
#pragma once

#include "drctl/command.h"

struct live;
/* A run of KIND and TITLE begins, or goes on. */
struct live *live_new(struct context *context, const char *kind, const char *title);
void live_free(struct live *live);
DEFINE_CLEANUP(live)
/* A report function of vapp/ whose CONTEXT is the struct live. */
void live_report(void *live, const struct vapp_result *result);

/* "about 25 s left", "longer than usual"; NULL when FORECAST, from run_forecast(), says nothing. g_free. */
char *forecast_text(const json_t *forecast, double elapsed_seconds);
