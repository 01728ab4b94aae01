/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image file made by qemu-img, or by us: PATH appears when it is whole and durable, or not at all. Once it
 * is there it is never made again, so it is safe to repeat.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

#include "common/common.h"

/* Who must be able to open the files. */
struct qemu_user {
    bool other; /* QEMU is another user than we are; else the rest means nothing */
    uid_t uid;
    gid_t gid;
};

/* Make the file PATH. */
typedef bool image_maker(void *context, const char *path, GError **error);

/* Make PATH by MAKER, with mode 0600, for USER. What killed processes left is removed. */
bool image_make_by(const char *path, image_maker *maker, void *context,
                   const struct qemu_user *user, GError **error);
/* Make PATH by COMMAND (NULL-terminated, "qemu-img" and so on), to which the name of the file to be
 * written is appended; likewise. */
bool image_make(const char *path, const char *const *command, unsigned timeout_s,
                const struct qemu_user *user, GError **error);
/* Remove PATH and what image_make() may have left of it. */
bool image_remove(const char *path, GError **error);
/* Make PATH the property of USER. */
bool image_give(const char *path, const struct qemu_user *user, mode_t mode, GError **error);
