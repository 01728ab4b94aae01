/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptor of an OVA: OVF 1.x (DMTF DSP0243), as far as it tells what machines are made of: one VM, or a
 * collection of them and the order in which they start; CPUs and memory, disks and how they are attached, NICs. What
 * VMware and VirtualBox write beyond that is left aside. It comes from anywhere: names in it are only compared with those of members, and texts are
 * only ever written as XML text. Private to restore/.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "metadata/metadata.h"

#define OVF_MAX_BYTES (4u << 20)

enum ovf_bus { OVF_IDE, OVF_SATA, OVF_SCSI, OVF_VIRTIO, OVF_BUSES };

struct ovf_disk {
    char *file; /* member of the archive */
    enum ovf_bus bus;
    uint64_t capacity_bytes;
    uint64_t file_bytes; /* only to be written */
};

struct ovf_nic {
    char *network;
    char *model; /* libvirt's word: "e1000" */
    char *mac;   /* or NULL */
};

struct ovf {
    char *name;
    uint64_t memory_bytes;
    unsigned cpus;
    bool efi;
    bool local_time;        /* its clock shows local time, as Windows has it */
    const char *scsi_model; /* libvirt's word, of all its SCSI controllers; NULL: it has none */
    GPtrArray *disks;       /* of struct ovf_disk, in the order in which they are attached */
    GPtrArray *nics;        /* of struct ovf_nic */
    unsigned order;         /* in a collection: lower ones start first */
    unsigned delay_s;       /* likewise: what comes next waits so long */
};

/* What a descriptor describes. */
struct ovf_package {
    char *name;     /* of the collection; NULL: it is one VM */
    GPtrArray *vms; /* of struct ovf, never empty */
};

struct ovf_package *ovf_package_new(void);
void ovf_package_free(struct ovf_package *package);
DEFINE_CLEANUP(ovf_package)
/* The disks of all VMs, of struct ovf_disk, borrowed. */
GPtrArray *ovf_package_disks(const struct ovf_package *package);

struct ovf *ovf_new(void);
void ovf_free(struct ovf *ovf);
DEFINE_CLEANUP(ovf)
struct ovf_disk *ovf_add_disk(struct ovf *ovf);
struct ovf_nic *ovf_add_nic(struct ovf *ovf);

/* ERROR_INTEGRITY names WHAT; what we cannot do (packed or split disks, collections in collections) says so. */
struct ovf_package *ovf_parse(const char *text, const char *what, GError **error);
/* The descriptor; g_free. */
char *ovf_text(const struct ovf_package *package);

/* A definition for libvirt, with its disks as TARGETS (ovf_target()), and without their sources; g_free. */
char *ovf_definition(const struct ovf *ovf, const char *name, const char *uuid);
/* What disk number INDEX is called in the guest: "sda"; g_free. */
char *ovf_target(const struct ovf *ovf, unsigned index);
/* What DEFINITION (a <domain>) says; the disks are added by the caller, each by ovf_bus_of(). */
struct ovf *ovf_of_definition(const struct xml_node *domain);
/* How disk TARGET of the definition is attached. */
enum ovf_bus ovf_bus_of(const struct xml_node *domain, const char *target);
