/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What host.c and domain*.c share and nobody else may see: libvirt's own handles.
 * This header is the only includer of libvirt. Its objects are ours to free by g_autoptr; text that
 * libvirt allocates is freed by g_free, which is free().
 */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdbool.h>

#include "common/host.h"

/* What libvirt does with the owners of files that QEMU opens. */
struct host_owners {
    bool known;    /* it was asked */
    bool managed;  /* it changes them (system mode) */
    bool labelled; /* QEMU is of the next two */
    uid_t uid;
    gid_t gid;
};

struct host {
    gatomicrefcount refs; /* of the owner and of each of its domains */
    virConnectPtr connection;
    char *uri;
    GMutex lock; /* of the rest */
    struct host_owners owners;
};

struct domain {
    struct host *host;
    virDomainPtr handle;
    char *name; /* a copy, because asking libvirt for it resets the last error */
    char uuid[VIR_UUID_STRING_BUFLEN];
};

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomainCheckpoint, virDomainCheckpointFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNetwork, virNetworkFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStream, virStreamFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStoragePool, virStoragePoolFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virStorageVol, virStorageVolFree)

/* This thread's last libvirt error. Every other call of libvirt resets it, even freeing an object
 * or asking for a name, so it is looked at directly after the failed call. */
int libvirt_error_code(void);
const char *libvirt_error_text(void);
/* "cannot <what> <at the host>: <libvirt's text>"; the kind follows libvirt's code. Returns false.
 */
bool host_fail(const struct host *host, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
/* "cannot <what> domain <name> at <host>: <libvirt's text>". Returns false. */
bool domain_fail(const struct domain *domain, GError **error, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
/* Takes over HANDLE. */
struct domain *domain_new(struct host *host, virDomainPtr handle);
/* Keep libvirt's event loop turning: each connection holds it from before it is opened until it is
 * closed. */
void events_hold(void);
void events_release(void);
/* Is it certain that no QEMU runs for it? */
bool domain_is_off(struct domain *domain);
