/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface between a fuzzing harness and what drives it: libFuzzer when configured with
 * -Dfuzzing=true, tests/fuzz-replay.c otherwise. A harness aborts when something is wrong.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
