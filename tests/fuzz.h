/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface between a fuzzing harness and what drives it: libFuzzer when configured with
 * -Dfuzzing=true, tests/fuzz-replay.c otherwise. A harness calls fuzz_fail() when something is wrong.
 */
#pragma once

#include <glib.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Not g_error(): that ends by SIGTRAP, of which libFuzzer keeps no input. */
G_GNUC_PRINTF(1, 2) G_NORETURN static inline void fuzz_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

#define fuzz_require(condition)                                                                    \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fuzz_fail("%s: not so: %s", G_STRLOC, #condition);                                     \
    } while (0)
