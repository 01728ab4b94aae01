/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pulling a disk: QEMU copies what its image has of the images below it into the image itself, while the
 * guest runs, and lets go of them when all is there (libvirt's blockpull). The job is QEMU's: it goes on when
 * this process dies, or libvirtd, and is over when QEMU ends. What was copied until then stays in the image, and
 * the next pull does not copy it again. A pull that fails leaves disk and guest as they were.
 */
#pragma once

#include "common/host.h"

struct domain_pull {
    bool is_active;       /* a pull of this disk runs; the rest is 0 otherwise */
    bool is_taken;        /* another kind of job has the disk */
    uint64_t done_bytes;  /* of the disk that have been looked at */
    uint64_t total_bytes; /* 0 when it has only just begun */
    uint64_t rate;        /* bytes a second at most; 0: no limit */
};

/* Fails while another job, a backup too, has the disk. */
bool domain_pull_begin(struct domain *domain, const char *target, uint64_t rate, GError **error);
bool domain_pull_look(struct domain *domain, const char *target, struct domain_pull *pull,
                      GError **error);
bool domain_pull_limit(struct domain *domain, const char *target, uint64_t rate, GError **error);
/* Waits until it has ended. No pull is fine. */
bool domain_pull_end(struct domain *domain, const char *target, GError **error);
