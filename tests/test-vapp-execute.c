/* SPDX-License-Identifier: Apache-2.0 */
/* The executor with real threads: what waits for what, what a failure and an interrupt mean. */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "tests/unit.h"
#include "vapp/execute.h"

/* What happened, in the order in which it happened. Shared by all threads of a test. */
struct log {
    GMutex mutex;
    GCond changed;
    GPtrArray *lines; /* "+db" it began, "-db" it ended, "db=done" it was reported */
    GHashTable *bad;  /* names of VMs whose work fails */
    unsigned inside;  /* VMs that work now */
    unsigned gather;  /* each waits until so many work at once */
    const char *interrupted_by;
    const char *already; /* this VM has nothing to do */
    GThread *caller;
};

static struct log *log_new(void)
{
    struct log *log = g_new0(struct log, 1);

    g_mutex_init(&log->mutex);
    g_cond_init(&log->changed);
    log->lines = g_ptr_array_new_with_free_func(g_free);
    log->bad = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    log->caller = g_thread_self();
    return log;
}

static void log_free(struct log *log)
{
    g_mutex_clear(&log->mutex);
    g_cond_clear(&log->changed);
    g_ptr_array_unref(log->lines);
    g_hash_table_unref(log->bad);
    g_free(log);
}
DEFINE_CLEANUP(log)

/* The caller holds the mutex. */
static void log_add(struct log *log, const char *format, const char *name)
{
    GString *line = g_string_new(format);

    g_string_replace(line, "%", name, 1);
    g_ptr_array_add(log->lines, g_string_free(line, FALSE));
    g_cond_broadcast(&log->changed);
}

/* Place of LINE in the log, or -1. */
static int log_find(const struct log *log, const char *format, const char *name)
{
    g_autoptr(GString) line = g_string_new(format);
    unsigned i;

    g_string_replace(line, "%", name, 1);
    return g_ptr_array_find_with_equal_func(log->lines, line->str, g_str_equal, &i) ? (int)i : -1;
}

static void wait_for_others(struct log *log)
{
    int64_t end_us = g_get_monotonic_time() + UNIT_PATIENCE_MS * 1000;

    while (log->inside < log->gather)
        if (!g_cond_wait_until(&log->changed, &log->mutex, end_us))
            g_error("only %u of %u VMs work at once", log->inside, log->gather);
    /* Who leaves must not make the others wait again. */
    log->gather = 0;
    g_cond_broadcast(&log->changed);
}

/* What is done for a VM in these tests: leave a trace, fail if told so. */
static bool work(struct log *log, const char *name, GError **error)
{
    bool bad;

    g_mutex_lock(&log->mutex);
    log_add(log, "+%", name);
    log->inside++;
    g_cond_broadcast(&log->changed);
    wait_for_others(log);
    bad = g_hash_table_contains(log->bad, name);
    if (g_strcmp0(log->interrupted_by, name) == 0)
        interrupt_request();
    log->inside--;
    log_add(log, "-%", name);
    g_mutex_unlock(&log->mutex);
    return !bad || fail(error, ERROR_HYPERVISOR, "%s is broken", name);
}

static bool start_action(void *context, const struct vapp_vm *vm, struct domain **domain,
                         GError **error)
{
    return work(context, vm->name, error);
}

static bool any_work(void *context, struct work *item, GError **error)
{
    struct log *log = context;

    item->was_already = g_strcmp0(log->already, item->vm->name) == 0;
    return work(log, item->vm->name, error);
}

static void report(void *context, const struct vapp_result *result)
{
    struct log *log = context;
    g_autofree char *format = g_strdup_printf("%%=%s", vapp_vm_state_name(result->state));

    ck_assert_ptr_eq(g_thread_self(), log->caller);
    g_mutex_lock(&log->mutex);
    log_add(log, format, result->vm->name);
    g_mutex_unlock(&log->mutex);
}

static struct vapp *parse(const char *text)
{
    g_autofree char *whole = g_strdup_printf("[vapp]\nname = shop\n%s", text);
    g_autoptr(GError) error = NULL;
    struct vapp *vapp = vapp_parse(whole, strlen(whole), "shop.vapp", &error);

    unit_ok(vapp != NULL, error);
    return vapp;
}

static bool run_start(const struct vapp *vapp, struct log *log, GPtrArray **results, GError **error)
{
    const struct vapp_actions actions = {.start = start_action, .report = report, .context = log};

    return vapp_start(vapp, &actions, results, error);
}

static bool run(const struct vapp *vapp, struct log *log, enum direction direction,
                GPtrArray **results, GError **error)
{
    const struct executor executor = {direction, any_work, log, report, log};

    return execute(vapp, &executor, results, error);
}

/* "db=done app=skipped", in the order of the results; g_free. */
static char *states(const GPtrArray *results)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < results->len; i++) {
        const struct vapp_result *result = g_ptr_array_index(results, i);

        g_string_append_printf(text, "%s%s=%s", i ? " " : "", result->vm->name,
                               vapp_vm_state_name(result->state));
    }
    return g_string_free(text, FALSE);
}

static void check_states(const GPtrArray *results, const char *expected)
{
    g_autofree char *text = states(results);

    ck_assert_str_eq(text, expected);
}

static const struct vapp_result *result_of(const GPtrArray *results, const char *name)
{
    for (unsigned i = 0; i < results->len; i++) {
        const struct vapp_result *result = g_ptr_array_index(results, i);

        if (strcmp(result->vm->name, name) == 0)
            return result;
    }
    ck_abort_msg("no result of %s", name);
    return NULL;
}

START_TEST(vms_of_one_order_work_at_the_same_time)
{
    AUTO(vapp) vapp = parse("[vm a]\n[vm b]\n[vm c]\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;

    log->gather = 3;
    unit_ok(run_start(vapp, log, &results, &error), error);
    check_states(results, "a=done b=done c=done");
}
END_TEST

START_TEST(a_start_is_reported_step_by_step)
{
    AUTO(vapp) vapp = parse("[vm a]\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;
    const struct vapp_result *result;

    unit_ok(run_start(vapp, log, &results, &error), error);
    ck_assert_uint_eq(log->lines->len, 5);
    ck_assert_int_eq(log_find(log, "%=starting", "a"), 0);
    ck_assert_int_eq(log_find(log, "+%", "a"), 1);
    ck_assert_int_eq(log_find(log, "-%", "a"), 2);
    ck_assert_int_eq(log_find(log, "%=up", "a"), 3);
    ck_assert_int_eq(log_find(log, "%=done", "a"), 4);
    result = result_of(results, "a");
    ck_assert_int_gt(result->started_ms, 0);
    ck_assert_int_ge(result->finished_ms, result->started_ms);
    ck_assert_ptr_null(result->error);
}
END_TEST

START_TEST(a_failed_vm_fails_its_dependants_and_nothing_else)
{
    AUTO(vapp)
    vapp = parse("[vm db]\norder=1\n[vm mq]\norder=1\n[vm app]\norder=2\nafter=db\n"
                 "[vm web]\norder=3\nafter=app\n[vm mail]\norder=3\nafter=mq\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;

    g_hash_table_add(log->bad, g_strdup("db"));
    unit_fails(run_start(vapp, log, &results, &error), error, ERROR_PARTIAL,
               "vApp 'shop': 3 of 5 VMs not ready: db (failed), app (skipped), web (skipped)");
    check_states(results, "db=failed mq=done app=skipped web=skipped mail=done");
    ck_assert_str_eq(result_of(results, "db")->error, "db is broken");
    ck_assert_str_eq(result_of(results, "app")->error,
                     "not started: it is after 'db', which failed");
    ck_assert_str_eq(result_of(results, "web")->error,
                     "not started: it is after 'app', which was skipped");
    ck_assert_int_eq(result_of(results, "app")->started_ms, 0);
    ck_assert_int_eq(log_find(log, "+%", "app"), -1);
}
END_TEST

START_TEST(a_vm_that_cannot_be_stopped_keeps_what_it_is_after_running)
{
    AUTO(vapp) vapp = parse("[vm db]\norder=1\n[vm mq]\norder=1\n[vm app]\norder=2\nafter=db\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;

    g_hash_table_add(log->bad, g_strdup("app"));
    unit_fails(run(vapp, log, EXECUTE_STOP, &results, &error), error, ERROR_PARTIAL,
               "2 of 3 VMs not off: db (skipped), app (failed)");
    check_states(results, "db=skipped mq=done app=failed");
    ck_assert_str_eq(result_of(results, "db")->error,
                     "not stopped: 'app', which is after it, failed");
}
END_TEST

/* ---- Random plans, checked against the rules rather than against another implementation */

/* What VM I is after: some of those with a lower number whose order is not higher. */
static void append_after(GString *text, GRand *rand, const unsigned *orders, unsigned i)
{
    const char *before = "after = ";

    for (unsigned j = 0; j < i; j++) {
        if (orders[j] > orders[i] || g_rand_int_range(rand, 0, 4) != 0)
            continue;
        g_string_append_printf(text, "%sv%u", before, j);
        before = ";";
    }
    g_string_append(text, "\n");
}

static struct vapp *random_vapp(GRand *rand, struct log *log)
{
    g_autoptr(GString) text = g_string_new(NULL);
    unsigned count = (unsigned)g_rand_int_range(rand, 1, 13);
    unsigned orders[13];

    for (unsigned i = 0; i < count; i++) {
        orders[i] = (unsigned)g_rand_int_range(rand, 0, 3);
        g_string_append_printf(text, "[vm v%u]\norder = %u\n", i, orders[i]);
        append_after(text, rand, orders, i);
        if (g_rand_int_range(rand, 0, 6) == 0)
            g_hash_table_add(log->bad, g_strdup_printf("v%u", i));
    }
    return parse(text->str);
}

/* Must NEEDED be done before WAITING may begin? */
static bool waits_for(const struct vapp_vm *waiting, const struct vapp_vm *needed,
                      enum direction direction)
{
    if (direction == EXECUTE_STOP)
        return g_strv_contains((const char *const *)needed->after, waiting->name);
    return g_strv_contains((const char *const *)waiting->after, needed->name);
}

static bool has_earlier_order(const struct vapp_vm *one, const struct vapp_vm *other,
                              enum direction direction)
{
    return direction == EXECUTE_START ? one->order < other->order : one->order > other->order;
}

/* The rules between a VM and every other one. */
static void check_rules(const struct log *log, const GPtrArray *results,
                        const struct vapp_result *result, enum direction direction)
{
    int began = log_find(log, "+%", result->vm->name);
    bool must_skip = false;

    for (unsigned i = 0; i < results->len; i++) {
        const struct vapp_result *other = g_ptr_array_index(results, i);
        int ended = log_find(log, "-%", other->vm->name);

        if (waits_for(result->vm, other->vm, direction)) {
            must_skip |= other->state != VAPP_VM_DONE;
            ck_assert(began < 0 || (ended >= 0 && ended < began));
        }
        if (has_earlier_order(other->vm, result->vm, direction))
            ck_assert(began < 0 || ended < began);
    }
    ck_assert_int_eq(must_skip, result->state == VAPP_VM_SKIPPED);
    ck_assert_int_eq(must_skip, began < 0);
    if (!must_skip)
        ck_assert_int_eq(result->state == VAPP_VM_FAILED,
                         g_hash_table_contains(log->bad, result->vm->name));
    ck_assert_int_eq(result->error != NULL, result->state != VAPP_VM_DONE);
}

static void check_random_plan(unsigned seed, enum direction direction)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    AUTO(log) log = log_new();
    AUTO(vapp) vapp = random_vapp(rand, log);
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;
    bool all_done = true, any_done = false;
    bool good = run(vapp, log, direction, &results, &error);

    ck_assert_uint_eq(results->len, vapp->vms->len);
    for (unsigned i = 0; i < results->len; i++) {
        const struct vapp_result *result = g_ptr_array_index(results, i);

        ck_assert_ptr_eq(result->vm, g_ptr_array_index(vapp->vms, i));
        check_rules(log, results, result, direction);
        all_done &= result->state == VAPP_VM_DONE;
        any_done |= result->state == VAPP_VM_DONE;
    }
    ck_assert_int_eq(good, all_done);
    ck_assert(good || error_is(error, any_done ? ERROR_PARTIAL : ERROR_FAILED));
}

START_TEST(random_plans_keep_barriers_and_dependencies_when_they_start)
{
    for (unsigned seed = 0; seed < 150; seed++)
        check_random_plan(seed, EXECUTE_START);
}
END_TEST

START_TEST(random_plans_keep_barriers_and_dependencies_when_they_stop)
{
    for (unsigned seed = 1000; seed < 1150; seed++)
        check_random_plan(seed, EXECUTE_STOP);
}
END_TEST

/* ---- Delay */

START_TEST(a_delay_holds_back_dependants_and_the_next_order_only)
{
    AUTO(vapp)
    vapp = parse("[vm db]\norder=1\ndelay=400ms\n[vm app]\norder=1\nafter=db\n"
                 "[vm mq]\norder=1\n[vm web]\norder=2\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;
    const struct vapp_result *db;

    unit_ok(run_start(vapp, log, &results, &error), error);
    db = result_of(results, "db");
    ck_assert_int_ge(result_of(results, "app")->started_ms, db->finished_ms + 400);
    ck_assert_int_ge(result_of(results, "web")->started_ms, db->finished_ms + 400);
    ck_assert_int_lt(result_of(results, "mq")->started_ms, db->finished_ms + 400);
}
END_TEST

START_TEST(a_delay_for_which_nobody_waits_is_not_waited_for)
{
    AUTO(vapp) vapp = parse("[vm db]\ndelay=1h\n[vm app]\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(run_start(vapp, log, &results, &error), error);
}
END_TEST

START_TEST(there_is_no_delay_after_a_vm_that_was_up_or_when_stopping)
{
    AUTO(vapp) vapp = parse("[vm db]\ndelay=1h\n[vm app]\nafter=db\ndelay=1h\norder=2\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) started = NULL;
    g_autoptr(GPtrArray) stopped = NULL;
    g_autoptr(GError) error = NULL;

    log->already = "db";
    unit_ok(run(vapp, log, EXECUTE_START, &started, &error), error);
    ck_assert(result_of(started, "db")->was_already);
    ck_assert(!result_of(started, "app")->was_already);
    log->already = NULL;
    unit_ok(run(vapp, log, EXECUTE_STOP, &stopped, &error), error);
}
END_TEST

/* ---- Interrupt */

START_TEST(after_an_interrupt_nothing_begins_and_what_works_ends_its_call)
{
    AUTO(vapp) vapp = parse("[vm a]\n[vm b]\n[vm app]\nafter=a\n[vm web]\norder=1\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;

    log->gather = 2;
    log->interrupted_by = "a";
    unit_fails(run(vapp, log, EXECUTE_START, &results, &error), error, ERROR_CANCELLED,
               "vApp 'shop': interrupted with 2 of 4 VMs not ready: app (waiting), web (waiting)");
    check_states(results, "a=done b=done app=waiting web=waiting");
    ck_assert_int_eq(result_of(results, "app")->finished_ms, 0);
}
END_TEST

START_TEST(an_interrupt_that_comes_too_late_changes_nothing)
{
    AUTO(vapp) vapp = parse("[vm a]\n[vm b]\nafter=a\n");
    AUTO(log) log = log_new();
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;

    log->interrupted_by = "b";
    unit_ok(run(vapp, log, EXECUTE_START, &results, &error), error);
}
END_TEST

static void interrupt_when_up(void *context, const struct vapp_result *result)
{
    if (result->state == VAPP_VM_UP)
        interrupt_request();
}

/* A port of 127.0.0.1 that refuses connections until somebody listens on *FD. */
static uint16_t reserve_port(int *fd)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(*fd, 0);
    ck_assert_int_eq(bind(*fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(getsockname(*fd, (struct sockaddr *)&address, &len), 0);
    return ntohs(address.sin_port);
}

static struct vapp *parse_tcp(uint16_t port, const char *timeout)
{
    g_autofree char *text =
        g_strdup_printf("[vm db]\nready = tcp:%u\naddress = 127.0.0.1\nready-timeout = %s\n"
                        "[vm app]\nafter = db\n",
                        port, timeout);

    return parse(text);
}

START_TEST(an_interrupt_ends_the_wait_for_readiness_and_leaves_the_vm_up)
{
    AUTO_FD fd = -1;
    AUTO(vapp) vapp = parse_tcp(reserve_port(&fd), "1h");
    AUTO(log) log = log_new();
    const struct vapp_actions actions = {
        .start = start_action, .report = interrupt_when_up, .context = log};
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;

    unit_fails(vapp_start(vapp, &actions, &results, &error), error, ERROR_CANCELLED,
               "db (up), app (waiting)");
    check_states(results, "db=up app=waiting");
}
END_TEST

/* ---- Readiness by TCP; that by agent needs a domain, see test-vapp-domains.c */

static void *begin_to_listen(void *data)
{
    int *fd = data;

    ck_assert_int_eq(listen(*fd, 4), 0);
    return NULL;
}

START_TEST(a_vm_is_ready_when_its_port_accepts_connections)
{
    AUTO_FD fd = -1;
    AUTO(vapp) vapp = parse_tcp(reserve_port(&fd), "20s");
    const struct vapp_vm *db = vapp_vm(vapp, "db");
    g_autoptr(GError) error = NULL;
    GThread *listener;

    ck_assert(!vapp_is_ready(db, NULL));
    listener = g_thread_new("listener", begin_to_listen, &fd);
    unit_ok(vapp_wait_ready(db, NULL, &error), error);
    g_thread_join(listener);
    ck_assert(vapp_is_ready(db, NULL));
}
END_TEST

START_TEST(a_vm_that_does_not_get_ready_fails_with_what_was_seen_last)
{
    AUTO_FD fd = -1;
    uint16_t port = reserve_port(&fd);
    AUTO(vapp) vapp = parse_tcp(port, "700ms");
    AUTO(log) log = log_new();
    g_autofree char *awaited = g_strdup_printf("for a connection to TCP port %u", port);
    g_autoptr(GPtrArray) results = NULL;
    g_autoptr(GError) error = NULL;
    const struct vapp_result *db;

    unit_fails(run_start(vapp, log, &results, &error), error, ERROR_FAILED, "db (failed)");
    check_states(results, "db=failed app=skipped");
    db = result_of(results, "db");
    ck_assert_int_ge(db->finished_ms - db->started_ms, 700);
    ck_assert_ptr_nonnull(strstr(db->error, "VM 'db' is not ready: waited"));
    ck_assert_ptr_nonnull(strstr(db->error, awaited));
    ck_assert_ptr_nonnull(strstr(db->error, "last seen: 127.0.0.1: Connection refused"));
}
END_TEST

int main(void)
{
    return UNIT_RUN("vapp-execute", vms_of_one_order_work_at_the_same_time,
                    a_start_is_reported_step_by_step,
                    a_failed_vm_fails_its_dependants_and_nothing_else,
                    a_vm_that_cannot_be_stopped_keeps_what_it_is_after_running,
                    random_plans_keep_barriers_and_dependencies_when_they_start,
                    random_plans_keep_barriers_and_dependencies_when_they_stop,
                    a_delay_holds_back_dependants_and_the_next_order_only,
                    a_delay_for_which_nobody_waits_is_not_waited_for,
                    there_is_no_delay_after_a_vm_that_was_up_or_when_stopping,
                    after_an_interrupt_nothing_begins_and_what_works_ends_its_call,
                    an_interrupt_that_comes_too_late_changes_nothing,
                    an_interrupt_ends_the_wait_for_readiness_and_leaves_the_vm_up,
                    a_vm_is_ready_when_its_port_accepts_connections,
                    a_vm_that_does_not_get_ready_fails_with_what_was_seen_last);
}
