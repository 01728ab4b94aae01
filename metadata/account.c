/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/account.h"

#include <string.h>

#include "metadata/report-private.h"

/* In units of the drawing. */
#define WIDTH 960
#define HEIGHT 150
#define LEFT 90
#define RIGHT 10
#define BOTTOM 24
#define COLUMNS 430
#define COLUMN_WIDTH ((double)(WIDTH - LEFT - RIGHT) / COLUMNS)
#define TICKS 6

/* One VM and destination. */
struct account {
    int64_t from_ms, to_ms;
    int64_t rpo_ms; /* the newest that was wanted */
    uint64_t points, bytes, n_gaps, late;
    int64_t worst_ms, sum_ms, late_ms;
    json_t *gaps, *violations;
};

static json_t *gap_json(int64_t until_ms, int64_t gap_ms)
{
    json_t *json = json_object();

    json_set_time(json, "until", until_ms);
    json_set_real(json, "seconds", (double)gap_ms / 1000);
    return json;
}

/* LATE gaps were together LATE_MS too long, between FROM_MS and UNTIL_MS. That counts only as far as it lies within the time. */
static void add_late(struct account *self, int64_t from_ms, int64_t until_ms, uint64_t late,
                     int64_t late_ms)
{
    int64_t within_ms = MIN(until_ms, self->to_ms) - MAX(from_ms, self->from_ms);

    self->late += late;
    self->late_ms += MAX(MIN(late_ms, within_ms), 0);
}

/* A gap that ends at UNTIL_MS, against the RPO that STRETCH wanted. False: it is none of this time. */
static bool add_gap(struct account *self, const struct stretch *stretch, int64_t until_ms,
                    int64_t gap_ms)
{
    if (until_ms < self->from_ms || gap_ms < 0)
        return false;
    self->worst_ms = MAX(self->worst_ms, gap_ms);
    json_array_append_new(self->gaps, gap_json(until_ms, gap_ms));
    if (stretch_late_ms(stretch, gap_ms) > 0)
        json_array_append_new(self->violations, gap_json(until_ms, gap_ms));
    return true;
}

/* One between two stretches, or at the end. */
static void add_between(struct account *self, const struct stretch *stretch, int64_t until_ms,
                        int64_t gap_ms)
{
    int64_t late_ms = stretch_late_ms(stretch, gap_ms);

    if (add_gap(self, stretch, until_ms, gap_ms))
        add_late(self, until_ms - late_ms, until_ms, late_ms > 0, late_ms);
}

static void add_stretch(struct account *self, const struct stretch *before,
                        const struct stretch *stretch)
{
    self->rpo_ms = stretch->rpo_ms;
    /* What ended before the time is none of it. */
    if (before && stretch->from_committed_ms >= self->from_ms) {
        int64_t gap_ms = stretch_gap_ms(before, stretch);

        add_between(self, stretch, stretch->from_committed_ms, gap_ms);
        self->sum_ms += gap_ms;
        self->n_gaps++;
    }
    if (stretch->to_committed_ms < self->from_ms)
        return;
    self->points += stretch->points;
    self->bytes += stretch->bytes;
    if (stretch->points < 2)
        return;
    add_gap(self, stretch, stretch->to_committed_ms, stretch->worst_ms);
    add_late(self, stretch->from_committed_ms, stretch->to_committed_ms, stretch->late,
             stretch->late_ms);
    self->sum_ms += stretch->sum_ms;
    self->n_gaps += stretch->points - 1;
}

static void set_seconds(json_t *json, const char *key, bool known, double ms)
{
    if (known)
        json_set_real(json, key, ms / 1000);
    else
        json_set_string(json, key, NULL);
}

static json_t *account_json(const struct account *self, const struct stretch *first,
                            const struct stretch *last)
{
    double span_ms = (double)(self->to_ms - MAX(self->from_ms, first->from_committed_ms));
    json_t *json = json_object();

    json_set_string(json, "vm", last->vm);
    json_set_string(json, "uuid", last->vm_uuid);
    json_set_string(json, "protection", last->protection);
    json_set_string(json, "destination", last->destination);
    set_seconds(json, "rpo_seconds", self->rpo_ms > 0, (double)self->rpo_ms);
    json_set_u64(json, "points", self->points);
    json_set_u64(json, "bytes", self->bytes);
    json_set_time(json, "newest", last->to_ms);
    /* A stretch of a day may go on after the end. */
    set_seconds(json, "age_seconds", true, (double)MAX(self->to_ms - last->to_ms, 0));
    set_seconds(json, "worst_seconds", true, (double)self->worst_ms);
    set_seconds(json, "mean_seconds", self->n_gaps > 0,
                self->n_gaps ? (double)self->sum_ms / (double)self->n_gaps : 0);
    if (self->rpo_ms > 0 && span_ms > 0)
        json_set_real(json, "kept_percent",
                      CLAMP(100 - 100 * (double)self->late_ms / span_ms, 0, 100));
    else
        json_set_string(json, "kept_percent", NULL);
    json_set_u64(json, "late", self->late);
    set_seconds(json, "late_seconds", true, (double)self->late_ms);
    json_object_set(json, "violations", self->violations);
    json_object_set(json, "gaps", self->gaps);
    return json;
}

/* Of COUNT stretches that are of one VM and destination. */
static json_t *account_one(struct stretch *const *stretches, unsigned count, int64_t from_ms,
                           int64_t to_ms)
{
    json_auto_t *gaps = json_array();
    json_auto_t *violations = json_array();
    struct account self = {
        .from_ms = from_ms, .to_ms = to_ms, .gaps = gaps, .violations = violations};
    const struct stretch *last = stretches[count - 1];

    for (unsigned i = 0; i < count; i++)
        add_stretch(&self, i ? stretches[i - 1] : NULL, stretches[i]);
    add_between(&self, last, to_ms, to_ms - last->to_ms);
    return account_json(&self, stretches[0], last);
}

json_t *account_rpo(const GPtrArray *history, int64_t from_ms, int64_t to_ms)
{
    struct stretch *const *stretches = (struct stretch *const *)history->pdata;
    json_t *list = json_array();

    for (unsigned i = 0, n; i < history->len; i += n) {
        for (n = 1; i + n < history->len && stretch_is_of(stretches[i], stretches[i + n]); n++)
            ;
        json_array_append_new(list, account_one(stretches + i, n, from_ms, to_ms));
    }
    return list;
}

/* ---- The drawing */

static void append_number(GString *svg, const char *name, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_printf(svg, " %s=\"%s\"", name,
                           g_ascii_formatd(text, sizeof(text), "%.1f", value));
}

static double y_of(double seconds, double top)
{
    return HEIGHT - MIN(seconds / top, 1) * HEIGHT;
}

/* The worst gap that ends in each column. */
static void fill_columns(const json_t *vm, int64_t from_ms, int64_t to_ms, double *columns)
{
    const json_t *gap;
    size_t i;

    json_array_foreach(json_object_get(vm, "gaps"), i, gap)
    {
        int64_t ms = json_get_time(gap, "until");
        double seconds = json_number_value(json_object_get(gap, "seconds"));
        unsigned column;

        if (ms < from_ms || ms > to_ms)
            continue;
        column = (unsigned)((double)(ms - from_ms) / (double)(to_ms - from_ms) * (COLUMNS - 1));
        columns[column] = MAX(columns[column], seconds);
    }
}

static void draw_level(GString *svg, const char *class, double seconds, double top)
{
    g_autofree char *text = duration_format(seconds);

    g_string_append_printf(svg, "<line class=\"%s\"", class);
    append_number(svg, "x1", LEFT);
    append_number(svg, "x2", WIDTH - RIGHT);
    append_number(svg, "y1", y_of(seconds, top));
    append_number(svg, "y2", y_of(seconds, top));
    g_string_append(svg, "/><text class=\"label\"");
    append_number(svg, "x", LEFT - 6);
    append_number(svg, "y", y_of(seconds, top) + 4);
    g_string_append_printf(svg, ">%s</text>", text);
}

static void draw_days(GString *svg, int64_t from_ms, int64_t to_ms)
{
    for (unsigned i = 0; i <= TICKS; i++) {
        g_autoptr(GDateTime) when =
            g_date_time_new_from_unix_utc((from_ms + (to_ms - from_ms) / TICKS * i) / 1000);
        g_autofree char *text = g_date_time_format(when, "%m-%d %H:%M");

        g_string_append(svg, "<text class=\"tick\"");
        append_number(svg, "x", LEFT + (double)(WIDTH - LEFT - RIGHT - 60) / TICKS * i + 30);
        append_number(svg, "y", HEIGHT + 16);
        g_string_append_printf(svg, ">%s</text>", text);
    }
}

static void draw_bars(GString *svg, const double *columns, double rpo, double top)
{
    for (unsigned i = 0; i < COLUMNS; i++) {
        double y = y_of(columns[i], top);

        if (columns[i] <= 0)
            continue;
        g_string_append_printf(svg, "<rect class=\"%s\"",
                               rpo > 0 && columns[i] > rpo ? "over" : "bar");
        append_number(svg, "x", LEFT + i * COLUMN_WIDTH);
        append_number(svg, "y", MIN(y, HEIGHT - 1));
        append_number(svg, "width", COLUMN_WIDTH);
        append_number(svg, "height", MAX(HEIGHT - y, 1));
        g_string_append(svg, "/>");
    }
}

char *account_drawing(const json_t *vm, int64_t from_ms, int64_t to_ms)
{
    double rpo = json_number_value(json_object_get(vm, "rpo_seconds"));
    double worst = json_number_value(json_object_get(vm, "worst_seconds"));
    double top = MAX(MAX(worst, rpo) * 1.1, 1);
    g_autofree double *columns = g_new0(double, COLUMNS);
    GString *svg = g_string_new(NULL);

    fill_columns(vm, from_ms, to_ms, columns);
    g_string_append_printf(svg,
                           "<svg class=\"timeline rpo\" viewBox=\"0 0 %d %d\" role=\"img\" "
                           "aria-label=\"How old the newest state became, over time, of ",
                           WIDTH, HEIGHT + BOTTOM);
    html_text(svg, json_get_string(vm, "vm"));
    g_string_append(svg, "\">");
    draw_bars(svg, columns, rpo, top);
    if (worst > 0 && (rpo == 0 || worst > 1.3 * rpo || worst < 0.7 * rpo))
        draw_level(svg, "grid", worst, top);
    if (rpo > 0)
        draw_level(svg, "target", rpo, top);
    draw_days(svg, from_ms, to_ms);
    g_string_append(svg, "</svg>");
    return g_string_free(svg, FALSE);
}
