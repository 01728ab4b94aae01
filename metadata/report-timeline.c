/* SPDX-License-Identifier: Apache-2.0 */
/* Who did what when, as a drawing. */
#include "metadata/report-private.h"

#include <string.h>

/* In units of the drawing, which is as wide as the page whatever they are. */
#define WIDTH 960
#define LABEL_WIDTH 150
#define RIGHT_MARGIN 20
#define ROW_HEIGHT 26
#define BAR_HEIGHT 16
#define AXIS_HEIGHT 24
#define BAR_WIDTH_MIN 2.0
#define LABEL_CHARACTERS 20
#define TICKS_MAX 8
#define COLOURS 8 /* classes s0 .. s7 of the style sheet */

struct timeline {
    GString *html;
    const json_t *report;
    int64_t start_ms, end_ms;
    GPtrArray *names; /* of the steps, which give the colours; borrowed */
};

/* SVG wants a point in numbers, whatever the locale. */
static void append_number(GString *html, const char *name, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    g_string_append_printf(html, " %s=\"%s\"", name,
                           g_ascii_formatd(text, sizeof(text), "%.1f", value));
}

static double x_of(const struct timeline *line, int64_t ms)
{
    double span = (double)(line->end_ms - line->start_ms);

    return LABEL_WIDTH +
           (double)(ms - line->start_ms) / span * (WIDTH - LABEL_WIDTH - RIGHT_MARGIN);
}

/* ---- What is drawn */

static unsigned colour_of(struct timeline *line, const char *step)
{
    guint index;

    if (!g_ptr_array_find_with_equal_func(line->names, step, g_str_equal, &index)) {
        index = line->names->len;
        g_ptr_array_add(line->names, (void *)step);
    }
    return index % COLOURS;
}

/* From the first thing to the last, and at least a second. */
static void measure(struct timeline *line)
{
    const json_t *step;
    size_t i;

    line->start_ms = json_get_time(line->report, "started");
    line->end_ms = json_get_time(line->report, "ended");
    if (!line->end_ms && g_strcmp0(json_get_string(line->report, "state"), "running") == 0)
        line->end_ms = time_now_ms();
    json_array_foreach(json_object_get(line->report, "steps"), i, step)
    {
        line->end_ms = MAX(line->end_ms, json_get_time(step, "started"));
        line->end_ms = MAX(line->end_ms, json_get_time(step, "ended"));
    }
    line->end_ms = MAX(line->end_ms, line->start_ms + 1000);
}

/* 1, 2 or 5 times a power of ten below a minute; then what clocks have. */
static double tick_seconds(double seconds)
{
    static const double steps[] = {0.1, 0.2, 0.5, 1,   2,    5,    10,   15,    30,    60,
                                   120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200};

    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++)
        if (seconds / steps[i] <= TICKS_MAX)
            return steps[i];
    return 86400 * (double)(1 + (int64_t)(seconds / TICKS_MAX / 86400));
}

/* g_free */
static char *tick_text(double seconds)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    if (seconds >= 60)
        return duration_format(seconds);
    return g_strdup_printf("%s s", g_ascii_formatd(number, sizeof(number), "%.3g", seconds));
}

static void draw_axis(struct timeline *line, unsigned rows)
{
    double seconds = (double)(line->end_ms - line->start_ms) / 1000;
    double each = tick_seconds(seconds);

    for (unsigned i = 0; i * each <= seconds; i++) {
        double x = x_of(line, line->start_ms + (int64_t)(i * each * 1000));
        g_autofree char *text = tick_text(i * each);

        g_string_append(line->html, "<line class=\"grid\"");
        append_number(line->html, "x1", x);
        append_number(line->html, "x2", x);
        append_number(line->html, "y1", 0);
        append_number(line->html, "y2", rows * ROW_HEIGHT);
        g_string_append(line->html, "/><text class=\"tick\"");
        append_number(line->html, "x", x);
        append_number(line->html, "y", rows * ROW_HEIGHT + 16);
        g_string_append_printf(line->html, ">%s</text>\n", i ? text : "0");
    }
}

/* What the pointer is told. */
static void append_title(GString *html, const json_t *step, double seconds)
{
    g_autofree char *took = duration_format(seconds);

    g_string_append(html, "<title>");
    html_text(html, json_get_string(step, "subject"));
    g_string_append(html, ": ");
    html_text(html, json_get_string(step, "step"));
    g_string_append_printf(html, ", %s, ", took);
    html_text(html, json_get_string(step, "state"));
    g_string_append(html, "</title>");
}

static void draw_step(struct timeline *line, const json_t *step, unsigned row)
{
    int64_t from_ms = json_get_time(step, "started");
    int64_t to_ms = json_get_time(step, "ended");
    const char *state = json_get_string(step, "state");
    bool is_bad = g_strcmp0(html_state_class(state), "bad") == 0;
    double x, width;

    if (!from_ms)
        return;
    /* What runs, runs until now; of what was killed only the beginning is known. */
    if (!to_ms)
        to_ms = g_strcmp0(state, "running") == 0 ? line->end_ms : from_ms;
    x = x_of(line, from_ms);
    width = MAX(x_of(line, to_ms) - x, BAR_WIDTH_MIN);
    g_string_append_printf(line->html, "<rect class=\"s%u%s\"",
                           colour_of(line, json_get_string(step, "step")), is_bad ? " bad" : "");
    append_number(line->html, "x", x);
    append_number(line->html, "y", row * ROW_HEIGHT + (ROW_HEIGHT - BAR_HEIGHT) / 2.0);
    append_number(line->html, "width", width);
    append_number(line->html, "height", BAR_HEIGHT);
    g_string_append(line->html, " rx=\"2\">");
    append_title(line->html, step, (double)(to_ms - from_ms) / 1000);
    g_string_append(line->html, "</rect>\n");
}

static void draw_label(struct timeline *line, const char *name, unsigned row)
{
    bool is_long = g_utf8_strlen(name, -1) > LABEL_CHARACTERS;
    g_autofree char *begin = is_long ? g_utf8_substring(name, 0, LABEL_CHARACTERS - 1) : NULL;

    g_string_append(line->html, "<text class=\"label\"");
    append_number(line->html, "x", LABEL_WIDTH - 10);
    append_number(line->html, "y", row * ROW_HEIGHT + 17);
    g_string_append_c(line->html, '>');
    html_text(line->html, begin ? begin : name);
    g_string_append(line->html, begin ? "…" : "");
    g_string_append(line->html, "</text>\n");
}

/* A mark where the VM was ready, counted from the start of the run. */
static void draw_ready(struct timeline *line, const json_t *vm, unsigned row)
{
    const json_t *rto = json_object_get(vm, "rto_seconds");
    double x;

    if (!json_is_number(rto))
        return;
    x = x_of(line, line->start_ms + (int64_t)(json_number_value(rto) * 1000));
    g_string_append(line->html, "<line class=\"ready\"");
    append_number(line->html, "x1", x);
    append_number(line->html, "x2", x);
    append_number(line->html, "y1", row * ROW_HEIGHT + 3);
    append_number(line->html, "y2", row * ROW_HEIGHT + ROW_HEIGHT - 3);
    g_string_append(line->html, "/>\n");
}

static void draw_legend(struct timeline *line)
{
    g_string_append(line->html, "<ul class=\"legend\">");
    for (guint i = 0; i < line->names->len; i++) {
        g_string_append_printf(line->html, "<li><i class=\"s%u\"></i>", i % COLOURS);
        html_text(line->html, line->names->pdata[i]);
        g_string_append(line->html, "</li>");
    }
    g_string_append(line->html, "<li><i class=\"mark\"></i>VM is ready</li></ul>\n");
}

static void draw_vm(struct timeline *line, const json_t *vm, unsigned row)
{
    const json_t *step;
    size_t i;

    draw_label(line, json_get_string(vm, "vm"), row);
    json_array_foreach(json_object_get(vm, "steps"), i, step) draw_step(line, step, row);
    draw_ready(line, vm, row);
}

void html_timeline(GString *html, const json_t *report)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    struct timeline line = {.html = html, .report = report, .names = names};
    const json_t *vms = json_object_get(report, "vms"), *vm;
    unsigned rows = (unsigned)json_array_size(vms);
    size_t i;

    measure(&line);
    g_string_append_printf(
        html,
        "<div class=\"scroll\"><svg class=\"timeline\" viewBox=\"0 0 %d %u\" role=\"img\" "
        "aria-label=\"Timeline of the steps of each VM\">\n",
        WIDTH, rows * ROW_HEIGHT + AXIS_HEIGHT);
    draw_axis(&line, rows);
    json_array_foreach(vms, i, vm) draw_vm(&line, vm, (unsigned)i);
    g_string_append(html, "</svg></div>\n");
    draw_legend(&line);
}
