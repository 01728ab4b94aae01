/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/cluster-ranges.h"

GArray *cluster_ranges_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct cluster_range));
}

static const struct cluster_range *range_at(const GArray *ranges, unsigned i)
{
    return &g_array_index(ranges, struct cluster_range, i);
}

static void append(GArray *ranges, uint64_t first, uint64_t count, unsigned max)
{
    struct cluster_range range = {first, count};
    struct cluster_range *last =
        ranges->len ? &g_array_index(ranges, struct cluster_range, ranges->len - 1) : NULL;

    if (last && (first <= last->first + last->count || ranges->len >= max))
        last->count = MAX(last->count, first + count - last->first);
    else
        g_array_append_val(ranges, range);
}

void cluster_ranges_append(GArray *ranges, uint64_t first, uint64_t count)
{
    append(ranges, first, count, UINT_MAX);
}

void cluster_ranges_add(GArray *ranges, uint64_t first, uint64_t count)
{
    append(ranges, first, count, CLUSTER_RANGES_MAX);
}

/* The last stretch that begins at CLUSTER or below, or NULL. */
static const struct cluster_range *find(const GArray *ranges, uint64_t cluster)
{
    unsigned low = 0, high = ranges->len;

    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (range_at(ranges, middle)->first <= cluster)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? range_at(ranges, low - 1) : NULL;
}

bool cluster_ranges_has(const GArray *ranges, uint64_t cluster)
{
    const struct cluster_range *range = find(ranges, cluster);

    return range && cluster - range->first < range->count;
}

uint64_t cluster_ranges_count(const GArray *ranges)
{
    uint64_t count = 0;

    for (unsigned i = 0; ranges && i < ranges->len; i++)
        count += range_at(ranges, i)->count;
    return count;
}

uint64_t cluster_ranges_bytes(const GArray *ranges)
{
    return cluster_ranges_count(ranges) * CLUSTER_RANGES_UNIT;
}

uint64_t cluster_ranges_common(const GArray *a, const GArray *b)
{
    uint64_t common = 0;
    unsigned i = 0, k = 0;

    while (i < a->len && k < b->len) {
        const struct cluster_range *left = range_at(a, i), *right = range_at(b, k);
        uint64_t left_end = left->first + left->count, right_end = right->first + right->count;
        uint64_t first = MAX(left->first, right->first), end = MIN(left_end, right_end);

        common += end > first ? end - first : 0;
        if (left_end <= right_end)
            i++;
        else
            k++;
    }
    return common;
}

GArray *cluster_ranges_union(const GArray *a, const GArray *b)
{
    GArray *both = cluster_ranges_new();
    unsigned i = 0, k = 0;

    while ((a && i < a->len) || (b && k < b->len)) {
        bool from_a = a && i < a->len &&
                      (!b || k >= b->len || range_at(a, i)->first <= range_at(b, k)->first);
        const struct cluster_range *next = from_a ? range_at(a, i++) : range_at(b, k++);

        cluster_ranges_append(both, next->first, next->count);
    }
    return both;
}

/* What RANGE has outside of B, of which all before *AT lie below it. */
static void append_outside(GArray *result, const struct cluster_range *range, const GArray *b,
                           unsigned *at)
{
    uint64_t first = range->first, end = range->first + range->count;

    for (; *at < b->len && range_at(b, *at)->first < end; (*at)++) {
        const struct cluster_range *hole = range_at(b, *at);
        uint64_t hole_end = hole->first + hole->count;

        if (hole->first > first)
            cluster_ranges_append(result, first, hole->first - first);
        first = MAX(first, hole_end);
        /* It may go on into the next stretch of A. */
        if (hole_end > end)
            break;
    }
    if (first < end)
        cluster_ranges_append(result, first, end - first);
}

GArray *cluster_ranges_minus(const GArray *a, const GArray *b)
{
    GArray *result = cluster_ranges_new();
    unsigned at = 0;

    for (unsigned i = 0; i < a->len; i++)
        append_outside(result, range_at(a, i), b, &at);
    return result;
}

GArray *cluster_ranges_below(const GArray *ranges, uint64_t end)
{
    GArray *below = cluster_ranges_new();

    for (unsigned i = 0; i < ranges->len && range_at(ranges, i)->first < end; i++)
        cluster_ranges_append(below, range_at(ranges, i)->first,
                              MIN(range_at(ranges, i)->count, end - range_at(ranges, i)->first));
    return below;
}

bool cluster_ranges_within(const GArray *ranges, const GArray *outer)
{
    for (unsigned i = 0; i < ranges->len; i++) {
        const struct cluster_range *range = range_at(ranges, i);
        const struct cluster_range *around = find(outer, range->first);

        if (!around || range->first + range->count > around->first + around->count)
            return false;
    }
    return true;
}

json_t *cluster_ranges_json(const GArray *ranges)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < ranges->len; i++) {
        json_t *pair = json_array();

        json_array_append_new(pair, json_integer((json_int_t)range_at(ranges, i)->first));
        json_array_append_new(pair, json_integer((json_int_t)range_at(ranges, i)->count));
        json_array_append_new(list, pair);
    }
    return list;
}

static bool parse_range(const json_t *pair, struct cluster_range *range)
{
    json_int_t first = json_integer_value(json_array_get(pair, 0));
    json_int_t count = json_integer_value(json_array_get(pair, 1));

    /* No disk has as many clusters; and sums of two cannot overflow. */
    if (json_array_size(pair) != 2 || first < 0 || count <= 0 || first > INT64_MAX / 4 ||
        count > INT64_MAX / 4)
        return false;
    *range = (struct cluster_range){(uint64_t)first, (uint64_t)count};
    return true;
}

bool cluster_ranges_parse(const json_t *json, GArray *ranges, GError **error)
{
    uint64_t end = 0;
    size_t i;
    json_t *pair;

    g_array_set_size(ranges, 0);
    json_array_foreach((json_t *)json, i, pair)
    {
        struct cluster_range range;

        if (!parse_range(pair, &range) || (i > 0 && range.first <= end) || i >= CLUSTER_RANGES_MAX)
            return fail(error, ERROR_INTEGRITY, "stretch %zu of clusters is wrong", i);
        g_array_append_val(ranges, range);
        end = range.first + range.count;
    }
    return true;
}
