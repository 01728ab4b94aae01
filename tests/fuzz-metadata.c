/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what metadata/ reads. The first byte of the input says what the rest is:
 *
 *     'c'  drctl.conf
 *     'm'  manifest.json
 *     'b'  a pool bundle
 *     'a'  an address
 *     'd'  damage.json
 *     's'  a sketch, as JSON
 *     'l'  a bandwidth limit: lines "WINDOW = RATE", or "RATE"
 *     'k'  a retention policy, a newline, and the distances of points in hours, 2 bytes each
 */
#include <string.h>

#include "metadata/metadata.h"
#include "tests/fuzz.h"

/* An error without a message, or a result with one, is a fault of the parser. */
static void require(bool ok, const GError *error)
{
    if (ok == (error != NULL))
        fuzz_fail("result and error disagree: %s", error ? error->message : "no error");
}

static void read_config(const char *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(config) config = config_parse(data, len, "/etc/drctl", &error);

    require(config != NULL, error);
}

/* What was accepted once is written so that it is accepted again. */
static void read_manifest(const char *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(manifest) manifest = manifest_parse(data, len, "manifest", &error);
    AUTO(manifest) again = NULL;
    g_autofree char *text = NULL;

    require(manifest != NULL, error);
    if (!manifest)
        return;
    text = manifest_text(manifest);
    if (strlen(text) > MANIFEST_MAX_BYTES)
        return;
    again = manifest_parse(text, strlen(text), "what we wrote", &error);
    require(again != NULL, error);
    if (!again)
        fuzz_fail("%s", error->message);
}

static void read_bundle(const char *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(bundle) bundle = bundle_unpack(data, len, "bundle", &error);
    g_autofree char *packed = NULL;
    size_t packed_len;

    require(bundle != NULL, error);
    if (bundle && !bundle_pack(bundle, &packed, &packed_len, &error))
        fuzz_fail("%s", error->message);
}

static void read_address(const char *data, size_t len)
{
    g_autofree char *text = g_strndup(data, len);
    g_autofree char *user = NULL, *host = NULL;
    g_autoptr(GError) error = NULL;
    uint16_t port = 0;
    bool ok = address_parse(text, &user, &host, &port, &error);

    require(ok, error);
    if (ok && (port == 0 || *user == '-' || *host == '-'))
        fuzz_fail("accepted %s", text);
}

/* Stretches ascend and are apart; they are found, and are written so that they are read again. */
static void check_ranges(const GArray *ranges)
{
    g_autoptr(GArray) again = g_array_new(FALSE, FALSE, sizeof(struct cluster_range));
    json_auto_t *json = cluster_ranges_json(ranges);
    uint64_t end = 0;

    for (unsigned i = 0; i < ranges->len; i++) {
        const struct cluster_range *range = &g_array_index(ranges, struct cluster_range, i);

        fuzz_require(range->count > 0 && (i == 0 || range->first > end));
        end = range->first + range->count;
        fuzz_require(cluster_ranges_has(ranges, range->first) &&
                     cluster_ranges_has(ranges, end - 1) && !cluster_ranges_has(ranges, end));
    }
    fuzz_require(cluster_ranges_parse(json, again, NULL) && again->len == ranges->len);
}

static void read_damage(const char *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(damage) damage = damage_parse(data, len, &error);
    g_autofree char *text = NULL;

    require(damage != NULL, error);
    if (!damage)
        return;
    text = damage_text(damage);
    for (unsigned i = 0; i < damage->files->len; i++) {
        const struct damaged_file *file = damage->files->pdata[i];

        fuzz_require(name_is_safe(file->name) && damage_file(damage, file->name) == file);
        check_ranges(file->clusters);
    }
}

static void read_sketch(const char *data, size_t len)
{
    static struct sketch sketch, again;
    g_autoptr(GError) error = NULL;
    json_auto_t *json = json_parse(data, len, "sketch", NULL);
    json_auto_t *written = NULL;
    struct sketch_overlap overlap;
    bool ok;

    if (!json)
        return;
    ok = sketch_from_json(json, &sketch, &error);
    require(ok, error);
    if (!ok)
        return;
    written = sketch_json(&sketch);
    fuzz_require(sketch_from_json(written, &again, NULL));
    fuzz_require(memcmp(&sketch, &again, sizeof sketch) == 0);
    overlap = sketch_compare(&sketch, &again);
    fuzz_require(overlap.matched == overlap.sampled && overlap.sampled == sketch.count);
}

/* A rate that was accepted lets a frame through, at any time. */
static void read_limit(const char *data, size_t len)
{
    g_autofree char *text = g_strndup(data, len);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    AUTO(limit) limit = limit_new();

    for (char **line = lines; *line; line++) {
        g_auto(GStrv) parts = g_strsplit(*line, " = ", 2);
        g_autoptr(GError) error = NULL;
        bool ok = g_strv_length(parts) == 2 ? limit_add_window(limit, parts[0], parts[1], &error)
                                            : limit_set(limit, *line, &error);

        require(ok, error);
    }
    for (int64_t hour = 0; hour < 7 * 24; hour++) {
        const char *window;
        uint64_t rate = limit_rate(limit, hour * 3600 * 1000, &window);
        g_autofree char *shown = rate_format(rate);

        fuzz_require(*shown && (rate == 0 || rate >= LIMIT_MIN));
        fuzz_require(!window || limit_is_any(limit));
    }
}

/* A policy is written so that it is read again. It keeps the newest point. */
static void read_retention(const char *data, size_t len)
{
    const char *end = memchr(data, '\n', len);
    g_autofree char *text = g_strndup(data, end ? (size_t)(end - data) : len);
    const uint8_t *steps = (const uint8_t *)(end ? end + 1 : data + len);
    unsigned count = (unsigned)(data + len - (const char *)steps) / 2;
    g_autofree struct retention_point *points = g_new0(struct retention_point, count + 1);
    g_autofree char *written = NULL;
    struct retention retention, again;
    g_autoptr(GError) error = NULL;
    int64_t time_ms = INT64_C(4000000000000);
    bool ok = retention_parse(text, &retention, &error);

    require(ok, error);
    if (!ok)
        return;
    written = retention_text(&retention);
    fuzz_require(retention_parse(written, &again, NULL) &&
                 memcmp(&retention, &again, sizeof retention) == 0);
    for (unsigned i = 0; i < count; i++) {
        time_ms -= (1 + ((int64_t)steps[2 * i] << 8 | steps[2 * i + 1])) * 3600 * 1000;
        points[i].time_ms = time_ms;
    }
    retention_decide(&retention, points, count);
    fuzz_require(count == 0 || points[0].keep);
    for (unsigned i = 0; i < count; i++) {
        fuzz_require(points[i].rule != NULL);
        retention_point_clear(&points[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *rest = (const char *)data + 1;

    if (len < 1)
        return 0;
    if (data[0] == 'c')
        read_config(rest, len - 1);
    else if (data[0] == 'm')
        read_manifest(rest, len - 1);
    else if (data[0] == 'b')
        read_bundle(rest, len - 1);
    else if (data[0] == 'a')
        read_address(rest, len - 1);
    else if (data[0] == 'd')
        read_damage(rest, len - 1);
    else if (data[0] == 's')
        read_sketch(rest, len - 1);
    else if (data[0] == 'l')
        read_limit(rest, len - 1);
    else if (data[0] == 'k')
        read_retention(rest, len - 1);
    return 0;
}
