/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/live.h"

#include "drctl/output.h"
#include "drctl/vm-results.h"

#define REDRAW_US (1000 * 1000)
/* Of the line: no terminal shows more, and there may be a thousand VMs. */
#define LINE_BYTES 512

/* A VM that something was reported of. */
struct live_vm {
    char *name;
    enum vapp_vm_state state;
    int64_t since_ms; /* monotonic */
};

struct live {
    struct context *context;
    char *title;
    json_t *forecast;
    int64_t begun_ms; /* monotonic */
    GThread *thread;
    GMutex lock; /* of all that follows */
    GCond freed;
    GPtrArray *vms; /* of struct live_vm */
    bool over;
};

static void live_vm_free(void *data)
{
    struct live_vm *vm = data;

    g_free(vm->name);
    g_free(vm);
}

static double seconds_since(int64_t ms)
{
    return (double)(time_monotonic_ms() - ms) / 1000;
}

/* "about 25 s left" of EXPECTED; g_free. */
static char *left_text(double expected, double elapsed)
{
    g_autofree char *left = expected > elapsed ? duration_format(expected - elapsed) : NULL;

    return left ? g_strdup_printf("about %s left", left) : g_strdup("longer than usual");
}

char *forecast_text(const json_t *forecast, double elapsed_seconds)
{
    double expected = json_number_value(json_object_get(forecast, "rto_seconds"));

    return expected > 0 ? left_text(expected, elapsed_seconds) : NULL;
}

/* ---- The line */

static const char *word(enum vapp_vm_state state)
{
    switch (state) {
    case VAPP_VM_UP:
        return "not ready yet";
    case VAPP_VM_DONE:
        return "ready";
    default:
        return vapp_vm_state_name(state);
    }
}

static void append_vm(GString *line, const struct live_vm *vm)
{
    bool is_busy = vm->state == VAPP_VM_STARTING || vm->state == VAPP_VM_UP;
    g_autofree char *since = duration_format((double)(int64_t)seconds_since(vm->since_ms));

    g_string_append_printf(line, ", %s %s", vm->name, word(vm->state));
    if (is_busy)
        g_string_append_printf(line, " %s", since);
}

/* What changes comes first: the line may be cut. */
static void draw(struct live *live)
{
    double elapsed = seconds_since(live->begun_ms);
    g_autofree char *took = duration_format((double)(int64_t)elapsed);
    g_autofree char *left = forecast_text(live->forecast, elapsed);
    g_autoptr(GString) line = g_string_new(NULL);

    g_string_printf(line, "%s %s", live->title, took);
    if (left)
        g_string_append_printf(line, ", %s", left);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < live->vms->len && line->len < LINE_BYTES; i++) {
            const struct live_vm *vm = live->vms->pdata[i];

            if ((vm->state == VAPP_VM_DONE) == (pass == 1))
                append_vm(line, vm);
        }
    progress_terminal_status(live->context->progress, line->str);
}

static void *live_main(void *data)
{
    struct live *live = data;

    g_mutex_lock(&live->lock);
    while (!live->over) {
        draw(live);
        g_cond_wait_until(&live->freed, &live->lock, g_get_monotonic_time() + REDRAW_US);
    }
    g_mutex_unlock(&live->lock);
    return NULL;
}

/* ---- Begin, report, end */

static void note_forecast(const struct live *live)
{
    double seconds = json_number_value(json_object_get(live->forecast, "rto_seconds"));
    g_autofree char *text = duration_format(seconds);
    uint64_t runs = 0;

    json_need_u64(live->forecast, "runs", &runs, NULL);
    if (seconds > 0)
        progress_note(live->context->progress, "%s: ready after %s, if it is as the last time%s",
                      live->title, text, runs == 1 ? "" : "s");
}

struct live *live_new(struct context *context, const char *kind, const char *title)
{
    struct live *live = g_new0(struct live, 1);

    live->context = context;
    live->title = g_strdup(title);
    /* Without one it does without. */
    live->forecast = run_forecast(context->catalog, kind, title, NULL);
    live->begun_ms = time_monotonic_ms();
    live->vms = g_ptr_array_new_with_free_func(live_vm_free);
    g_mutex_init(&live->lock);
    g_cond_init(&live->freed);
    note_forecast(live);
    live->thread = g_thread_new("live", live_main, live);
    return live;
}

void live_free(struct live *live)
{
    if (!live)
        return;
    g_mutex_lock(&live->lock);
    live->over = true;
    g_cond_signal(&live->freed);
    g_mutex_unlock(&live->lock);
    g_thread_join(live->thread);
    progress_terminal_end(live->context->progress);
    g_mutex_clear(&live->lock);
    g_cond_clear(&live->freed);
    g_ptr_array_unref(live->vms);
    json_decref(live->forecast);
    g_free(live->title);
    g_free(live);
}

static struct live_vm *vm_named(struct live *live, const char *name)
{
    struct live_vm *vm;

    for (unsigned i = 0; i < live->vms->len; i++) {
        vm = live->vms->pdata[i];
        if (g_str_equal(vm->name, name))
            return vm;
    }
    vm = g_new0(struct live_vm, 1);
    vm->name = g_strdup(name);
    g_ptr_array_add(live->vms, vm);
    return vm;
}

void live_report(void *data, const struct vapp_result *result)
{
    struct live *live = data;
    struct live_vm *vm;

    vm_result_note(live->context, result);
    g_mutex_lock(&live->lock);
    vm = vm_named(live, result->vm->name);
    vm->state = result->state;
    vm->since_ms = time_monotonic_ms();
    draw(live);
    g_mutex_unlock(&live->lock);
}
