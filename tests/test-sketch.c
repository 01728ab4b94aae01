/* SPDX-License-Identifier: Apache-2.0 */
/* What a sample of a disk's clusters tells of its likeness to others. */
#include <string.h>

#include "metadata/metadata.h"
#include "tests/unit.h"

/* The digest of content number CONTENT. */
static void digest_of(uint64_t content, uint8_t digest[DIGEST_SIZE])
{
    digest_buffer(&content, sizeof content, digest);
}

static void add(struct sketch *sketch, uint64_t cluster, uint64_t content)
{
    uint8_t digest[DIGEST_SIZE];

    digest_of(content, digest);
    sketch_add(sketch, cluster, digest);
}

/* Clusters FIRST up to END of a disk; each holds its number plus SALT. */
static void fill(struct sketch *sketch, uint64_t first, uint64_t end, uint64_t salt)
{
    for (uint64_t cluster = first; cluster < end; cluster++)
        add(sketch, cluster, cluster + salt);
}

static unsigned percent(const struct sketch *disk, const struct sketch *image)
{
    struct sketch_overlap overlap = sketch_compare(disk, image);

    return overlap.sampled ? overlap.matched * 100 / overlap.sampled : 0;
}

START_TEST(the_sample_is_of_bounded_size_and_of_the_whole_disk)
{
    struct sketch sketch = {0};

    fill(&sketch, 0, SKETCH_SAMPLES, 0);
    ck_assert_uint_eq(sketch.level, 0);
    ck_assert_uint_eq(sketch.count, SKETCH_SAMPLES);
    fill(&sketch, SKETCH_SAMPLES, 1000000, 0);
    ck_assert_uint_eq(sketch.level, 9);
    ck_assert_uint_gt(sketch.count, SKETCH_SAMPLES / 2);
    ck_assert_uint_le(sketch.count, SKETCH_SAMPLES);
    for (unsigned level = 0; level < 9; level++)
        for (uint64_t cluster = 0; cluster < 10000; cluster++)
            ck_assert(!sketch_takes(level + 1, cluster) || sketch_takes(level, cluster));
}
END_TEST

START_TEST(likeness_is_the_part_of_the_disk_that_an_image_has)
{
    struct sketch disk = {0}, same = {0}, part = {0}, other = {0}, moved = {0};

    fill(&disk, 0, 50000, 0);
    fill(&same, 0, 50000, 0);
    fill(&part, 0, 15000, 0);
    fill(&other, 0, 50000, 1u << 20);
    fill(&moved, 1, 50001, 1);
    sketch_finish(&disk);
    sketch_finish(&same);
    sketch_finish(&part);
    sketch_finish(&other);
    sketch_finish(&moved);
    ck_assert_uint_eq(percent(&disk, &same), 100);
    ck_assert_uint_ge(percent(&disk, &part), 26);
    ck_assert_uint_le(percent(&disk, &part), 34);
    ck_assert_uint_eq(percent(&part, &disk), 100);
    ck_assert_uint_eq(percent(&disk, &other), 0);
    ck_assert_uint_eq(percent(&disk, &moved), 0);
}
END_TEST

START_TEST(disks_of_different_size_are_compared_at_a_common_level)
{
    struct sketch small = {0}, large = {0};
    struct sketch_overlap overlap;

    fill(&small, 0, 20000, 0);
    fill(&large, 0, 500000, 0);
    sketch_finish(&small);
    sketch_finish(&large);
    ck_assert_uint_lt(small.level, large.level);
    overlap = sketch_compare(&small, &large);
    ck_assert_uint_eq(overlap.matched, overlap.sampled);
    ck_assert_uint_gt(overlap.sampled, 20);
    overlap = sketch_compare(&large, &small);
    ck_assert_uint_lt(overlap.matched, overlap.sampled / 10);
}
END_TEST

START_TEST(a_sketch_follows_the_changes_of_its_disk)
{
    struct sketch sketch = {0}, fresh = {0};

    fill(&sketch, 0, 100000, 0);
    for (uint64_t cluster = 30000; cluster < 60000; cluster++) {
        sketch_forget(&sketch, cluster);
        if (cluster < 50000)
            add(&sketch, cluster, cluster + 7);
    }
    fill(&fresh, 0, 30000, 0);
    fill(&fresh, 30000, 50000, 7);
    fill(&fresh, 60000, 100000, 0);
    sketch_finish(&sketch);
    sketch_finish(&fresh);
    ck_assert_uint_eq(percent(&sketch, &fresh), 100);
    ck_assert_uint_eq(percent(&fresh, &sketch), 100);
}
END_TEST

START_TEST(survives_json)
{
    struct sketch sketch = {0}, empty = {0}, copy;
    g_autoptr(GError) error = NULL;

    fill(&sketch, 0, 5000, 0);
    sketch_finish(&sketch);
    json_auto_t *json = sketch_json(&sketch);
    json_auto_t *nothing = sketch_json(&empty);

    memset(&copy, 0xff, sizeof copy);
    unit_ok(sketch_from_json(json, &copy, &error), error);
    ck_assert_uint_eq(copy.level, sketch.level);
    ck_assert_uint_eq(copy.count, sketch.count);
    ck_assert_mem_eq(copy.samples, sketch.samples, sketch.count * sizeof *copy.samples);
    unit_ok(sketch_from_json(nothing, &copy, &error), error);
    ck_assert_uint_eq(copy.count, 0);
}
END_TEST

static void refuses(const char *text, const char *part)
{
    g_autoptr(GError) error = NULL;
    struct sketch *sketch = g_new(struct sketch, 1);
    json_auto_t *json = json_parse(text, strlen(text), "sketch", &error);

    unit_ok(json != NULL, error);
    unit_fails(sketch_from_json(json, sketch, &error), error, ERROR_INTEGRITY, part);
    g_free(sketch);
}

START_TEST(refuses_what_is_no_sketch)
{
    g_autofree uint8_t *many = g_malloc0((SKETCH_SAMPLES + 1) * 8);
    g_autofree char *base64 = g_base64_encode(many, (SKETCH_SAMPLES + 1) * 8);
    g_autofree char *too_many = g_strdup_printf("{\"level\": 0, \"samples\": \"%s\"}", base64);

    refuses("{\"samples\": \"\"}", "\"level\" is missing");
    refuses("{\"level\": 0}", "\"samples\" is missing");
    refuses("{\"level\": 33, \"samples\": \"\"}", "are not a sketch");
    refuses("{\"level\": 0, \"samples\": \"AAAA\"}", "are not a sketch");
    refuses(too_many, "are not a sketch");
    /* 2, then 1. */
    refuses("{\"level\": 0, \"samples\": \"AAAAAAAAAAIAAAAAAAAAAQ==\"}", "not in order");
    /* An odd place cannot be at level 1. */
    refuses("{\"level\": 1, \"samples\": \"AAAAAAAAAAE=\"}", "of level 1 is not one");
}
END_TEST

int main(void)
{
    return UNIT_RUN("sketch", the_sample_is_of_bounded_size_and_of_the_whole_disk,
                    likeness_is_the_part_of_the_disk_that_an_image_has,
                    disks_of_different_size_are_compared_at_a_common_level,
                    a_sketch_follows_the_changes_of_its_disk, survives_json,
                    refuses_what_is_no_sketch);
}
