/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "metadata/sketch.h"

#define SAMPLE_BYTES sizeof(uint64_t)

/* The finalizer of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators):
 * any of its bits depends on all of the number, so guests that align what they write do not decide
 * what is sampled. */
uint32_t sketch_place(uint64_t cluster)
{
    uint64_t mixed = cluster + UINT64_C(0x9e3779b97f4a7c15);

    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (uint32_t)(mixed ^ (mixed >> 31));
}

static bool is_at(unsigned level, uint64_t sample)
{
    return (sample & ((UINT64_C(1) << level) - 1)) == 0;
}

bool sketch_takes(unsigned level, uint64_t cluster)
{
    return is_at(level, sketch_place(cluster));
}

static void raise_level(struct sketch *sketch)
{
    unsigned kept = 0;

    sketch->level++;
    for (unsigned i = 0; i < sketch->count; i++)
        if (is_at(sketch->level, sketch->samples[i]))
            sketch->samples[kept++] = sketch->samples[i];
    sketch->count = kept;
}

void sketch_add(struct sketch *sketch, uint64_t cluster, const uint8_t digest[DIGEST_SIZE])
{
    uint32_t content;

    while (sketch->count == SKETCH_SAMPLES && sketch_takes(sketch->level, cluster))
        raise_level(sketch);
    if (!sketch_takes(sketch->level, cluster))
        return;
    memcpy(&content, digest, sizeof content);
    sketch->samples[sketch->count++] =
        (uint64_t)GUINT32_FROM_BE(content) << 32 | sketch_place(cluster);
}

void sketch_forget(struct sketch *sketch, uint64_t cluster)
{
    uint32_t place = sketch_place(cluster);
    unsigned kept = 0;

    for (unsigned i = 0; i < sketch->count; i++)
        if ((uint32_t)sketch->samples[i] != place)
            sketch->samples[kept++] = sketch->samples[i];
    sketch->count = kept;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

void sketch_finish(struct sketch *sketch)
{
    qsort(sketch->samples, sketch->count, sizeof *sketch->samples, compare);
}

struct sketch_overlap sketch_compare(const struct sketch *disk, const struct sketch *image)
{
    unsigned level = MAX(disk->level, image->level);
    struct sketch_overlap overlap = {0};

    for (unsigned i = 0, j = 0; i < disk->count; i++) {
        uint64_t sample = disk->samples[i];

        if (!is_at(level, sample))
            continue;
        overlap.sampled++;
        while (j < image->count && image->samples[j] < sample)
            j++;
        overlap.matched += j < image->count && image->samples[j] == sample;
    }
    return overlap;
}

json_t *sketch_json(const struct sketch *sketch)
{
    g_autofree uint64_t *samples = g_new(uint64_t, SKETCH_SAMPLES);
    g_autofree char *text = NULL;
    json_t *json = json_object();

    for (unsigned i = 0; i < sketch->count; i++)
        samples[i] = GUINT64_TO_BE(sketch->samples[i]);
    text = g_base64_encode((const uint8_t *)samples, sketch->count * SAMPLE_BYTES);
    json_set_u64(json, "level", sketch->level);
    json_set_string(json, "samples", text);
    return json;
}

static bool check_samples(const struct sketch *sketch, GError **error)
{
    for (unsigned i = 0; i < sketch->count; i++)
        if (!is_at(sketch->level, sketch->samples[i]) ||
            (i > 0 && sketch->samples[i] < sketch->samples[i - 1]))
            return fail(error, ERROR_INTEGRITY,
                        "sample %u of a sketch of level %u is not one, or not in order", i,
                        sketch->level);
    return true;
}

bool sketch_from_json(const json_t *json, struct sketch *sketch, GError **error)
{
    g_autofree struct sketch *parsed = g_new0(struct sketch, 1);
    g_autofree uint8_t *bytes = NULL;
    const char *text;
    uint64_t level;
    size_t len;

    if (!json_need_u64(json, "level", &level, error) ||
        !json_need_string(json, "samples", &text, error))
        return false;
    bytes = g_base64_decode(text, &len);
    if (level > SKETCH_MAX_LEVEL || len % SAMPLE_BYTES != 0 || len > SKETCH_SAMPLES * SAMPLE_BYTES)
        return fail(error, ERROR_INTEGRITY, "%zu bytes of level %" PRIu64 " are not a sketch", len,
                    level);
    parsed->level = (unsigned)level;
    parsed->count = (unsigned)(len / SAMPLE_BYTES);
    for (unsigned i = 0; i < parsed->count; i++) {
        memcpy(&parsed->samples[i], bytes + i * SAMPLE_BYTES, SAMPLE_BYTES);
        parsed->samples[i] = GUINT64_FROM_BE(parsed->samples[i]);
    }
    if (!check_samples(parsed, error))
        return false;
    *sketch = *parsed;
    return true;
}
