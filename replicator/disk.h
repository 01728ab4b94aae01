/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large files past the page cache: the data of a point is written once and read back once, and
 * would only push out what others need. Where the file system or the position does not allow direct
 * I/O, ordinary I/O does the same in smaller comfort.
 */
#pragma once

#include "replicator/lane.h"

struct disk_file {
    int fd;            /* owned */
    const char *name;  /* borrowed, for messages */
    bool direct;       /* is O_DIRECT set? */
    bool no_direct;    /* it cannot be */
    uint64_t started;  /* writeback was started up to here ... */
    uint64_t finished; /* ... and waited for up to here */
};

/* Close; its name stays whose it is. */
void disk_file_close(struct disk_file *file);
/* Write all of PIECE at its offset; if not directly, writeback begins soon and memory is given
 * back. */
bool disk_write(struct disk_file *file, const struct piece *piece, GError **error);
/* Read PIECE->len bytes at its offset from the disk itself; a short file is ERROR_INTEGRITY. */
bool disk_read(struct disk_file *file, struct piece *piece, GError **error);
/* Forget what memory holds of the file, so that it is read from the disk. */
void disk_forget(struct disk_file *file);
