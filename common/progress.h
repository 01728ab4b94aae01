/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How libraries tell what they are doing: the caller passes a struct progress (or NULL for silence),
 * drctl/ shows it. Calls may come from any thread.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

struct progress {
    /* One thing worth a line: "db: bitmap of vda lost, reading the whole disk". */
    void (*note)(struct progress *progress, const char *text);
    /* SUBJECT ("db/vda") has done DONE of TOTAL bytes; TOTAL may grow; 0 = not known. */
    void (*bytes)(struct progress *progress, const char *subject, uint64_t done, uint64_t total);
};

void progress_note(struct progress *progress, const char *format, ...) G_GNUC_PRINTF(2, 3);
void progress_bytes(struct progress *progress, const char *subject, uint64_t done, uint64_t total);
