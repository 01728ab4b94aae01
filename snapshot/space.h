/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room for a point: on the scratch file system, where QEMU keeps what the guest overwrites until it
 * has been read, and at the destination. Private to snapshot/.
 *
 * Of the scratch file system a reserve is left alone: 5 %, but at least 64 MiB and at most 1 GiB.
 * That is what a guest may write between the moment when no more is left and the end of the job,
 * about a tenth of a second.
 */
#pragma once

#include "snapshot/reference.h"

/* Bytes that scratch files in DIR may still grow by without touching the reserve. */
bool space_left(const char *dir, uint64_t *bytes, GError **error);

/* What points need that are taken at the same time, and share both places. */
struct space_need {
    unsigned points, disks;
    uint64_t read; /* bytes, of VMs that run */
    uint64_t sent; /* bytes, before they are compressed */
};

/*
 * Is it worth beginning, together with the points that NEED counts already? If so, this one is added.
 * ERROR_NO_SPACE when it cannot end well:
 * - the scratch file system has less than the reserve and one hundredth of what will be read. The
 *   guest may overwrite more than that, or nothing; then the guard decides.
 * - the destination has less than what is certain: tables. How far data can be compressed is not
 *   known beforehand, and 64 KiB may shrink to some bytes, so what may be too little is only told.
 */
bool space_check(const struct point_request *request, const struct reference *reference,
                 struct space_need *need, GError **error);
