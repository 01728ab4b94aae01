/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Showing a run: as text, and as a file to hand on.
 */
#pragma once

#include "drctl/command.h"

/* REPORT is from run_report(). */
void run_report_print(struct context *context, const json_t *report);
/* What of it was not executed, "db: start, ready"; nothing if all was. */
void run_report_print_left(const json_t *report);
/* Write the HTML report of RUN, from run_show(), with the pictures that it names, to PATH. */
bool run_report_write(const json_t *run, const char *path, GError **error);
