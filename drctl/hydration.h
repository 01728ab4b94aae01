/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Showing how far VMs are with coming off their points, for the commands hydrate and status.
 */
#pragma once

#include "drctl/command.h"

/* A table of the disks of HYDRATIONS; only those that still lie upon a point if ONLY_LEFT. */
void hydrations_print(const GPtrArray *hydrations, bool only_left);
/* The same, as far as they are being pulled, in one line for a terminal; g_free. */
char *hydrations_line(const GPtrArray *hydrations);
