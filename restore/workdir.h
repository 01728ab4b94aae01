/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory for what a command needs only while it runs: sockets, mount points, copies. It goes with the
 * command; what one that was killed has left, the next one in the same place removes. Private to restore/.
 */
#pragma once

#include "common/common.h"

struct workdir {
    char *path;
    struct file_lock *lock; /* tells others that it is in use */
};

/* Below PARENT, which is made if need be; nobody else may look into it. */
struct workdir *workdir_new(const char *parent, GError **error);
void workdir_free(struct workdir *workdir);
DEFINE_CLEANUP(workdir)
