/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's definition from the other site becomes one that this host can run. It is read by
 * definition_parse(), so that we see in it what libvirt will; then there are three passes over the
 * same document, in this order:
 *
 *     rewrite_rename()  only for a copy: nothing in it may meet the original on the same host.
 *     rewrite_adapt()   decides by what this host offers; every change is a remark, what must not be
 *                       tried a blocker. The result is what the plan keeps: it has no overlays yet.
 *     rewrite_place()   mechanical: disks onto their files, with the whole chain written down.
 *
 * The definition comes from another site and is not trusted to be well-formed in our sense: what is
 * missing is left missing, and libvirt judges when it is defined.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "metadata/metadata.h"
#include "restore/finding.h"
#include "restore/loss.h"
#include "restore/platform.h"

#define RECOVERED_NAMESPACE "https://drctl.org/ns/1"

struct recovery_plan;
struct rewrite {
    struct xml_node *domain; /* <domain> */
    const struct manifest *manifest;
    struct platform *platform;
    struct findings *findings;
    const GPtrArray *lost;            /* of struct lost_disk: what the disks have lost; or NULL */
    const struct recovery_plan *plan; /* NULL: nothing is to be changed */
    const char *vm;                   /* as the plan calls it */
    const struct xml_node *before;    /* <domain> of the VM when it ran here before, or NULL */
};

/* ERROR_INTEGRITY unless TEXT is a <domain>. What is in a namespace is left out, but for metadata and
 * what stands directly in <domain>, such as qemu:commandline: libvirt takes attributes by their names
 * alone, so one in a namespace would be believed and not looked at. */
struct xml *definition_parse(const char *text, const char *what, GError **error);

void rewrite_adapt(const struct rewrite *rewrite);
/* Parts of rewrite_adapt(). */
void rewrite_disks(const struct rewrite *rewrite);
void rewrite_devices(const struct rewrite *rewrite);
/* What the recovery plan says: memory, CPUs, networks; and what it does not say of networks as it was here
 * before. Comes first. */
void rewrite_plan(const struct rewrite *rewrite);
/* Pull the cable of an <interface>. */
void rewrite_unplug(struct xml_node *nic);
/* What an <interface> is plugged into: network, bridge or link; NULL: nothing that has a name here; g_free. */
char *nic_network(const struct xml_node *nic);

/* Another NAME and UUID, new MAC addresses, and other paths, ports and sockets. */
void rewrite_rename(struct xml_node *domain, const char *name, const char *uuid,
                    struct findings *findings);

/* The same for a copy into a network of its own, whose NICs keep their MAC addresses. */
void rewrite_rename_alone(struct xml_node *domain, const char *name, const char *uuid,
                          struct findings *findings);
/* Leave of a NIC what the guest sees of it, without what it is plugged into. */
void rewrite_bare_nic(struct xml_node *nic);

/* Without the disks TARGETS: where the original is at the same host, they would be its own. */
void rewrite_leave_out(struct xml_node *domain, char *const *targets);

/* NAME and UUID, whatever the definition says. */
void rewrite_identify(struct xml_node *domain, const char *name, const char *uuid);

/* Where one disk of the point is now. */
struct placement_disk {
    const char *target;
    const char *file;         /* absolute */
    const char *const *chain; /* layers under FILE, top first; NULL: FILE stands alone */
};
/* Where a domain came from, kept in its <metadata>. */
struct recovered {
    char *site;
    char *vm; /* UUID that it had there */
    char *point;
    char *run;
};
struct placement {
    const struct placement_disk *disks;
    unsigned n_disks;
    const char *nvram; /* absolute, or NULL: libvirt makes a new one from the template */
    bool keep_owners;  /* libvirt must not change owners of the layers */
    const struct recovered *origin; /* or NULL */
};
void rewrite_place(struct xml_node *domain, const struct placement *placement);

/* What rewrite_place() wrote; false when the domain is not one of ours. */
bool recovered_read(const char *domain_xml, struct recovered *recovered);
void recovered_clear(struct recovered *recovered);

/* <memory> in bytes, 0 when there is none. */
uint64_t definition_memory_bytes(const struct xml_node *domain);
/* <vcpu>, 1 when there is none. */
unsigned definition_cpus(const struct xml_node *domain);
