/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the host that the configuration chooses, for the pool bundle, and back. Only regular files and
 * directories are read, links are never followed, and all is bounded: what is left out is named with the reason, of
 * those that are too many the first one. Only names that are no line of UTF-8 are passed over.
 * Values of libvirt's secrets are always left out. Modes are the nine permission bits.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/common.h"

#define HOST_FILE_MAX_BYTES ((size_t)1 << 20)   /* each */
#define HOST_FILES_MAX_BYTES ((size_t)16 << 20) /* all */
#define HOST_FILES_MAX 2000u

struct host_file {
    char *path; /* absolute, canonical */
    bool is_directory;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    char *user, *group; /* names, or NULL where there are none */
    char *data;         /* NUL-terminated; NULL for directories and what was left out */
    size_t len;
    char *left_out; /* why, or NULL */
};
void host_file_free(struct host_file *file);
DEFINE_CLEANUP(host_file)

/* PATHS and all that is below them, sorted by path, but what lies at LEAVE_OUT (both may be NULL); what is not
 * there is no file. Of struct host_file. */
GPtrArray *host_files_read(char *const *paths, char *const *leave_out);
/* Is PATH one that can be written: absolute, canonical, one line of UTF-8? */
bool host_path_is_valid(const char *path);
/* Is PATH one of PATHS or below one of them? */
bool host_path_is_chosen(const char *path, char *const *paths);

enum host_file_state {
    HOST_FILE_MISSING,
    HOST_FILE_SAME,    /* content, mode, and owner where we may set it */
    HOST_FILE_DIFFERS, /* something else is there */
};
enum host_file_state host_file_state(const struct host_file *file);
/* Write it to its place, durably, with its mode, and its owner if we are root: by name where there is such a
 * user here, else by number. Directories above it are made. ERROR_CONFLICT if what is there is of another kind, or
 * a link leads there. */
bool host_file_write(const struct host_file *file, GError **error);
