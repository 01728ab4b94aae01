/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same for each of several things at once, where it mostly waits: for hosts, for instance.
 */
#pragma once

#include <stddef.h>

/* Call WORK with the address of each of COUNT items of SIZE bytes at ITEMS, each in a thread of its own, and
 * wait for all. */
void in_parallel(void *items, size_t count, size_t size, void (*work)(void *item));
