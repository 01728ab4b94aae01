/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Something that is done in a thread of its own, for somebody who may lose patience: a library that asks another
 * machine may wait for minutes, or for ever, and cannot be told to stop. What is given up goes on with all that it
 * needs, and is cleaned up when it ends.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/cleanup.h"

struct errand;

/* WORK gets INPUT and returns its result, or NULL and an error. Both are freed with the errand. */
typedef void *errand_fn(void *input, GError **error);
struct errand *errand_new(const char *thread, errand_fn *work, void *input,
                          GDestroyNotify free_input, GDestroyNotify free_result);
void errand_free(struct errand *errand);
DEFINE_CLEANUP(errand)
/* Wait until UNTIL_US of g_get_monotonic_time(). The result, borrowed; NULL: it failed, or ERROR_NETWORK: it is not
 * done. */
void *errand_wait(struct errand *errand, int64_t until_us, GError **error);
/* Of one that is done: the result is the caller's now. */
void *errand_steal(struct errand *errand);
