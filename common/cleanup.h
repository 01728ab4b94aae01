/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-exit clean-up for our own structs and for file descriptors, as g_autoptr does for GLib's
 * types (those need a typedef, our structs have none):
 *
 *     DEFINE_CLEANUP(manifest)                  in the header, after manifest_free()
 *     AUTO(manifest) m = manifest_parse(...);   freed at the end of the scope
 *     return g_steal_pointer(&m);               unless it is handed on
 */
#pragma once

#include <glib.h>
#include <unistd.h>

#define DEFINE_CLEANUP(name)                                                                       \
    G_GNUC_UNUSED static inline void name##_cleanup(struct name **object)                          \
    {                                                                                              \
        name##_free(*object);                                                                      \
    }
#define AUTO(name) __attribute__((cleanup(name##_cleanup), unused)) struct name *

G_GNUC_UNUSED static inline void fd_cleanup(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
/* AUTO_FD fd = open(...); */
#define AUTO_FD __attribute__((cleanup(fd_cleanup), unused)) int

static inline int fd_steal(int *fd)
{
    int stolen = *fd;

    *fd = -1;
    return stolen;
}
