/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sketches (metadata/sketch.h) of a disk that is being read and of one that is in a store. Private to
 * snapshot/.
 */
#pragma once

#include "snapshot/reader.h"

/* The sketch of the whole disk of READER, which must be without a bitmap. Reads about 100 MiB of it,
 * whatever its size, with many requests in flight. After an error the reader can only be freed. */
bool sketch_read(struct reader *reader, struct sketch *sketch, GError **error);
