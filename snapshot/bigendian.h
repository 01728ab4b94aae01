/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Big-endian integers in byte buffers, as all files of snapshot/ have them, at any alignment.
 */
#pragma once

#include <glib.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t be32_get(const void *from)
{
    uint32_t value;

    memcpy(&value, from, sizeof value);
    return GUINT32_FROM_BE(value);
}

static inline uint64_t be64_get(const void *from)
{
    uint64_t value;

    memcpy(&value, from, sizeof value);
    return GUINT64_FROM_BE(value);
}

static inline void be32_put(void *to, uint32_t value)
{
    value = GUINT32_TO_BE(value);
    memcpy(to, &value, sizeof value);
}

static inline void be64_put(void *to, uint64_t value)
{
    value = GUINT64_TO_BE(value);
    memcpy(to, &value, sizeof value);
}
