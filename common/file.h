/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durable files. What these functions report as done survives a power cut: data is fsynced, then
 * renamed into place, then the directory is fsynced. Left-overs of a crash have names that start
 * with ".tmp-" and are ignored and swept by their owner.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cleanup.h"

/* Replace PATH by DATA, atomically and durably, with MODE. */
bool file_write(const char *path, const void *data, size_t len, mode_t mode, GError **error);
/* The same for a file that belongs to somebody else: at no time is it there with another owner or mode. */
bool file_write_owned(const char *path, const void *data, size_t len, mode_t mode, uid_t uid,
                      gid_t gid, GError **error);
/* The same for several files of one directory, which is fsynced once. Each is replaced atomically; after a failure
 * some are. */
GArray *file_texts_new(void);
void file_texts_add(GArray *files, char *path, char *text); /* takes both */
bool file_texts_write(const GArray *files, mode_t mode, GError **error);
/* Read a whole file of at most MAX bytes; larger is ERROR_INTEGRITY. *DATA is NUL-terminated (the
 * NUL is not counted in *LEN, which may be NULL); g_free it. */
bool file_read(const char *path, size_t max, char **data, size_t *len, GError **error);
/* pread/pwrite exactly LEN bytes. A short file is ERROR_INTEGRITY. NAME is for messages. */
bool fd_read_at(int fd, uint64_t offset, void *data, size_t len, const char *name, GError **error);
bool fd_write_at(int fd, uint64_t offset, const void *data, size_t len, const char *name,
                 GError **error);
/* Are all LEN bytes zero? Returns at the first that is not. */
bool bytes_are_zero(const void *data, size_t len);
/* Copy a file's content durably (FICLONE or copy_file_range where possible) to a new file TO. */
bool file_copy(const char *from, const char *to, mode_t mode, GError **error);
bool file_sync(const char *path, GError **error);

/* mkdir -p with MODE for what is created; existing directories are left alone. */
bool dir_make(const char *path, mode_t mode, GError **error);
bool dir_sync(const char *path, GError **error);
/* rename(2) of a file or directory, then fsync of both parents. Fails with ERROR_CONFLICT when TO
 * exists (RENAME_NOREPLACE). */
bool path_rename(const char *from, const char *to, GError **error);
/* Let two files or directories of one file system change places in one instant (RENAME_EXCHANGE), then
 * fsync both parents. On an error they are where they were. ERROR_FAILED where the file system cannot
 * do that. */
bool path_exchange(const char *a, const char *b, GError **error);
/* rm -rf without following links; a missing PATH is fine. */
bool tree_remove(const char *path, GError **error);
/* Names in a directory, sorted by strcmp, without "." and ".." and ".tmp-*"; a missing directory is
 * an empty list. NULL-terminated, g_strfreev. */
char **dir_list(const char *path, GError **error);
/* Bytes free for us and in total on the file system that holds PATH (or its nearest existing parent). */
bool disk_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes, GError **error);
/* Is NAME one harmless path component: 1..255 of [A-Za-z0-9._-], not starting with '.' or '-'?
 * Everything that comes from the other side or from a manifest and becomes part of a path passes
 * through here. */
bool name_is_safe(const char *name);
/* A lower-case UUID of the 8-4-4-4-12 form? */
bool uuid_is_valid(const char *uuid);
