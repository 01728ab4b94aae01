/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM that the guard of this site watches: guard/<uuid> in the configuration directory, which is there as soon
 * as the host is, when the store may not be. Lines that a shell can read, because the hook of libvirt decides by
 * them when drctl itself cannot:
 *
 *     vm=db
 *     mode=known                       or strict, off: what drctl.conf said when it was written
 *     autostart=yes                    libvirt's flag was set, and drctl has taken it away
 *     fenced=2026-11-20T22:15:00Z      it must not start here, whatever the records of owners say
 *     claimed=3 <boot id>              an operator has made this site the owner, as of epoch 3, in this boot
 *                                      of the host: nobody needs to be asked whether it may start
 *
 * A VM without such a file is none of ours, and nothing of drctl is ever in the way of its start.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/config.h"
#include "metadata/owner.h"

struct guarded {
    char uuid[37];
    char *vm;
    enum guard_mode mode;
    bool autostart;
    int64_t fenced_ms;      /* 0: it is not */
    uint64_t claimed_epoch; /* 0: not since the host was booted */
};

struct guarded *guarded_new(const char *uuid, const char *vm, enum guard_mode mode);
void guarded_free(struct guarded *guarded);
DEFINE_CLEANUP(guarded)

/* CONFIG_DIR/guard; g_free. */
char *guarded_dir(const char *config_dir);
/* *OUT is NULL when the VM is none of ours. One that cannot be read is ERROR_INTEGRITY. */
bool guarded_read(const char *config_dir, const char *uuid, struct guarded **out, GError **error);
/* Durably. */
bool guarded_write(const char *config_dir, const struct guarded *guarded, GError **error);
bool guarded_remove(const char *config_dir, const char *uuid, GError **error);
/* All, also those that cannot be read: then only the uuid is known, and vm is the same. Of struct
 * guarded. */
GPtrArray *guarded_list(const char *config_dir, GError **error);

/* Does libvirt run hooks for the VMs of the host URI? Only in system mode. */
bool guarded_uri_has_hooks(const char *uri);

/* From now on the VM is watched in MODE. What else is known of it stays. */
bool guarded_arm(const char *config_dir, const char *uuid, const char *vm, enum guard_mode mode,
                 GError **error);
/* This site owns them, as OWNERS (of struct owner) say, by the word of an operator: they are no longer fenced. What
 * cannot be read is replaced. As they are now, in that order; of struct guarded. Their directory is fsynced once. */
GPtrArray *guarded_claim(const char *config_dir, const GPtrArray *owners, enum guard_mode mode,
                         GError **error);
