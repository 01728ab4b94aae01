/* SPDX-License-Identifier: Apache-2.0 */
/* Give an image of a point another backing file, in memory: the header of drctl-store(5). */
#pragma once

#include <string.h>

#include "snapshot/bigendian.h"
#include "tests/unit.h"

static inline void rebase_image(char *image, const char *backing)
{
    uint8_t *header = (uint8_t *)image;

    ck_assert_uint_eq(be64_get(header + 8), 136);
    memset(header + 136, 0, be32_get(header + 16));
    be32_put(header + 16, (uint32_t)strlen(backing));
    memcpy(header + 136, backing, strlen(backing));
}
