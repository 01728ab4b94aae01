/* SPDX-License-Identifier: Apache-2.0 */
#include "vapp/execute.h"

/* How soon an interrupt or the end of a delay is seen when nothing else happens. */
#define TICK_US (50 * 1000)

/* What a worker posts. */
struct event {
    unsigned index;
    enum vapp_vm_state state; /* UP, DONE or FAILED */
    bool cancelled;           /* instead of FAILED */
    bool was_already;
    char *text; /* error or note; or NULL */
    int64_t at_ms;
};

struct member {
    const struct executor *executor;
    struct work work;
    GThread *thread;   /* NULL until it begins */
    GArray *waits_for; /* of unsigned: indices of members */
};

struct execution {
    const struct executor *executor;
    const struct vapp *vapp;
    struct member *members; /* as vapp->vms */
    GPtrArray *results;     /* of struct vapp_result, as vapp->vms */
    GAsyncQueue *events;    /* of struct event */
    unsigned running;
    bool interrupted; /* nothing begins any more */
};

void vapp_result_free(struct vapp_result *result)
{
    if (!result)
        return;
    g_free(result->error);
    g_free(result);
}

static void result_free_element(void *data)
{
    vapp_result_free(data);
}

const char *vapp_vm_state_name(enum vapp_vm_state state)
{
    static const char *const names[] = {
        [VAPP_VM_WAITING] = "waiting", [VAPP_VM_STARTING] = "starting",
        [VAPP_VM_UP] = "up",           [VAPP_VM_DONE] = "done",
        [VAPP_VM_FAILED] = "failed",   [VAPP_VM_SKIPPED] = "skipped",
    };

    return names[state];
}

/* ---- In the thread of a VM */

static void post(struct work *work, struct event event)
{
    event.index = work->index;
    event.at_ms = time_monotonic_ms();
    g_async_queue_push(work->events, g_memdup2(&event, sizeof(event)));
}

void work_is_up(struct work *work)
{
    post(work, (struct event){.state = VAPP_VM_UP});
}

static void *member_run(void *data)
{
    struct member *member = data;
    struct work *work = &member->work;
    g_autoptr(GError) error = NULL;

    if (member->executor->work(member->executor->work_context, work, &error))
        post(work, (struct event){.state = VAPP_VM_DONE,
                                  .was_already = work->was_already,
                                  .text = g_steal_pointer(&work->note)});
    else
        post(work, (struct event){.state = VAPP_VM_FAILED,
                                  .cancelled = error_is(error, ERROR_CANCELLED),
                                  .text = g_strdup(error->message)});
    g_free(g_steal_pointer(&work->note));
    return NULL;
}

/* ---- In the caller's thread */

static struct vapp_result *result_at(const struct execution *execution, unsigned i)
{
    return g_ptr_array_index(execution->results, i);
}

static void change(struct execution *execution, struct vapp_result *result,
                   enum vapp_vm_state state)
{
    const struct executor *executor = execution->executor;

    result->state = state;
    if (executor->report)
        executor->report(executor->report_context, result);
}

static bool is_final(const struct vapp_result *result)
{
    return result->state == VAPP_VM_DONE || result->state == VAPP_VM_FAILED ||
           result->state == VAPP_VM_SKIPPED;
}

/* May those that wait for it go on? */
static bool is_through(const struct execution *execution, const struct vapp_result *result)
{
    if (!is_final(result))
        return false;
    if (result->state != VAPP_VM_DONE || result->was_already ||
        execution->executor->direction == EXECUTE_STOP)
        return true;
    return time_monotonic_ms() >= result->finished_ms + result->vm->delay_ms;
}

/* The first that failed or was skipped of those that member I waits for, or NULL. */
static const struct vapp_result *cause_to_skip(const struct execution *execution, unsigned i)
{
    const GArray *waits_for = execution->members[i].waits_for;

    for (unsigned k = 0; k < waits_for->len; k++) {
        const struct vapp_result *other =
            result_at(execution, g_array_index(waits_for, unsigned, k));

        if (other->state == VAPP_VM_FAILED || other->state == VAPP_VM_SKIPPED)
            return other;
    }
    return NULL;
}

static bool all_through(const struct execution *execution, const GArray *members)
{
    for (unsigned k = 0; k < members->len; k++)
        if (!is_through(execution, result_at(execution, g_array_index(members, unsigned, k))))
            return false;
    return true;
}

static void skip(struct execution *execution, struct vapp_result *result,
                 const struct vapp_result *cause)
{
    const char *what = cause->state == VAPP_VM_FAILED ? "failed" : "was skipped";

    if (execution->executor->direction == EXECUTE_START)
        result->error =
            g_strdup_printf("not started: it is after '%s', which %s", cause->vm->name, what);
    else
        result->error =
            g_strdup_printf("not stopped: '%s', which is after it, %s", cause->vm->name, what);
    result->finished_ms = time_monotonic_ms();
    change(execution, result, VAPP_VM_SKIPPED);
}

static void begin(struct execution *execution, unsigned i)
{
    struct vapp_result *result = result_at(execution, i);
    struct member *member = &execution->members[i];
    g_autoptr(GError) error = NULL;

    result->started_ms = time_monotonic_ms();
    change(execution, result, VAPP_VM_STARTING);
    member->thread = g_thread_try_new("vapp-vm", member_run, member, &error);
    if (member->thread) {
        execution->running++;
        return;
    }
    result->error = g_strdup(error->message);
    result->finished_ms = result->started_ms;
    change(execution, result, VAPP_VM_FAILED);
}

/* Begin what may begin and skip what cannot. VMs are visited in the order in which they may begin,
 * so one round is enough: a VM comes after all that it waits for, and the first one that is not
 * through tells which order is open. */
static void advance(struct execution *execution)
{
    unsigned len = execution->vapp->vms->len;
    const struct vapp_result *barrier = NULL;

    for (unsigned k = 0; k < len; k++) {
        unsigned i = execution->executor->direction == EXECUTE_START ? k : len - 1 - k;
        struct vapp_result *result = result_at(execution, i);

        if (result->state == VAPP_VM_WAITING) {
            const struct vapp_result *cause = cause_to_skip(execution, i);

            if (cause)
                skip(execution, result, cause);
            else if ((!barrier || barrier->vm->order == result->vm->order) &&
                     all_through(execution, execution->members[i].waits_for))
                begin(execution, i);
        }
        if (!barrier && !is_through(execution, result))
            barrier = result;
    }
}

static void take_event(struct execution *execution, struct event *event)
{
    struct vapp_result *result = result_at(execution, event->index);

    if (event->state != VAPP_VM_UP) {
        execution->running--;
        result->error = g_steal_pointer(&event->text);
        result->was_already = event->was_already;
    }
    if (event->cancelled) {
        execution->interrupted = true;
        return;
    }
    if (event->state != VAPP_VM_UP)
        result->finished_ms = event->at_ms;
    change(execution, result, event->state);
}

static void event_free(struct event *event)
{
    g_free(event->text);
    g_free(event);
}

static bool all_final(const struct execution *execution)
{
    for (unsigned i = 0; i < execution->results->len; i++)
        if (!is_final(result_at(execution, i)))
            return false;
    return true;
}

static void execution_run(struct execution *execution)
{
    while (true) {
        struct event *event;

        if (!interrupt_check(NULL))
            execution->interrupted = true;
        if (!execution->interrupted)
            advance(execution);
        if (execution->running == 0 && (execution->interrupted || all_final(execution)))
            return;
        event = g_async_queue_timeout_pop(execution->events, TICK_US);
        if (event) {
            take_event(execution, event);
            event_free(event);
        }
    }
}

/* "db (failed), app (skipped)" and how many they are. */
static char *name_unfinished(const struct execution *execution, unsigned *count)
{
    GString *names = g_string_new(NULL);

    *count = 0;
    for (unsigned i = 0; i < execution->results->len; i++) {
        const struct vapp_result *result = result_at(execution, i);
        const char *state = vapp_vm_state_name(result->state);

        if (result->state == VAPP_VM_DONE)
            continue;
        if (result->state == VAPP_VM_STARTING && execution->executor->direction == EXECUTE_STOP)
            state = "stopping";
        g_string_append_printf(names, "%s%s (%s)", *count ? ", " : "", result->vm->name, state);
        ++*count;
    }
    return g_string_free(names, FALSE);
}

static enum error_kind verdict_kind(const struct execution *execution, unsigned unfinished)
{
    if (!all_final(execution))
        return ERROR_CANCELLED;
    return unfinished == execution->results->len ? ERROR_FAILED : ERROR_PARTIAL;
}

static bool execution_verdict(const struct execution *execution, GError **error)
{
    bool starting = execution->executor->direction == EXECUTE_START;
    unsigned count;
    g_autofree char *names = name_unfinished(execution, &count);
    bool complete = all_final(execution);

    if (count == 0)
        return true;
    return fail(error, verdict_kind(execution, count), "vApp '%s': %s%u of %u VMs not %s: %s",
                execution->vapp->name, complete ? "" : "interrupted with ", count,
                execution->results->len, starting ? "ready" : "off", names);
}

/* A VM waits for those that it is after; stopping, for those that are after it. */
static void connect_members(struct execution *execution)
{
    const GPtrArray *vms = execution->vapp->vms;
    bool starting = execution->executor->direction == EXECUTE_START;
    g_autoptr(GHashTable) index = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < vms->len; i++) {
        const struct vapp_vm *vm = g_ptr_array_index(vms, i);

        g_hash_table_insert(index, vm->name, GUINT_TO_POINTER(i));
    }
    for (unsigned i = 0; i < vms->len; i++) {
        const struct vapp_vm *vm = g_ptr_array_index(vms, i);

        for (char **name = vm->after; *name; name++) {
            unsigned other = GPOINTER_TO_UINT(g_hash_table_lookup(index, *name));
            unsigned waiting = starting ? i : other, needed = starting ? other : i;

            g_array_append_val(execution->members[waiting].waits_for, needed);
        }
    }
}

static void execution_init(struct execution *execution)
{
    const GPtrArray *vms = execution->vapp->vms;

    execution->members = g_new0(struct member, vms->len);
    execution->results = g_ptr_array_new_with_free_func(result_free_element);
    execution->events = g_async_queue_new();
    for (unsigned i = 0; i < vms->len; i++) {
        const struct vapp_vm *vm = g_ptr_array_index(vms, i);
        struct vapp_result *result = g_new0(struct vapp_result, 1);

        result->vm = vm;
        g_ptr_array_add(execution->results, result);
        execution->members[i] = (struct member){
            .executor = execution->executor,
            .work = {.vm = vm, .events = execution->events, .index = i},
            .waits_for = g_array_new(false, false, sizeof(unsigned)),
        };
    }
    connect_members(execution);
}

static void execution_clear(struct execution *execution)
{
    for (unsigned i = 0; i < execution->vapp->vms->len; i++) {
        struct member *member = &execution->members[i];

        if (member->thread)
            g_thread_join(member->thread);
        g_array_unref(member->waits_for);
    }
    g_free(execution->members);
    g_async_queue_unref(execution->events);
    g_clear_pointer(&execution->results, g_ptr_array_unref);
}

bool execute(const struct vapp *vapp, const struct executor *executor, GPtrArray **results,
             GError **error)
{
    struct execution execution = {.executor = executor, .vapp = vapp};
    bool done;

    execution_init(&execution);
    execution_run(&execution);
    done = execution_verdict(&execution, error);
    *results = g_steal_pointer(&execution.results);
    execution_clear(&execution);
    return done;
}

static bool start_by_action(void *context, struct work *work, GError **error)
{
    const struct vapp_actions *actions = context;
    AUTO(domain) domain = NULL;

    if (!actions->start(actions->context, work->vm, &domain, error))
        return false;
    work_is_up(work);
    return actions->ready ? actions->ready(actions->context, work->vm, domain, error)
                          : vapp_wait_ready(work->vm, domain, error);
}

bool vapp_start(const struct vapp *vapp, const struct vapp_actions *actions, GPtrArray **results,
                GError **error)
{
    struct vapp_actions copy = *actions;
    struct executor executor = {
        .direction = EXECUTE_START,
        .work = start_by_action,
        .work_context = &copy,
        .report = actions->report,
        .report_context = actions->context,
    };

    return execute(vapp, &executor, results, error);
}
