/* SPDX-License-Identifier: Apache-2.0 */
#include "vapp/execute.h"
#include "vapp/probe.h"

#define POLL_MS 200
/* A guest that boots or is busy can miss the power button; asking twice does no harm. */
#define ASK_AGAIN_MS 3000

/* ---- Which of the hosts has the VM? */

struct search {
    const char *name;
    GPtrArray *active;   /* of struct domain */
    GPtrArray *inactive; /* of struct domain */
};

/* A host that does not answer is an error, because the VM may be running there. */
static bool search_host(struct search *search, struct host *host, GError **error)
{
    g_autoptr(GError) why = NULL;
    AUTO(domain) domain = host_domain(host, search->name, &why);
    enum domain_state state;

    if (domain && domain_state(domain, &state, &why))
        g_ptr_array_add(state == DOMAIN_OFF ? search->inactive : search->active,
                        g_steal_pointer(&domain));
    if (!why || error_is(why, ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static bool fail_several(const char *name, const char *what, const GPtrArray *domains,
                         const char *way_out, GError **error)
{
    g_autoptr(GString) hosts = g_string_new(NULL);

    for (unsigned i = 0; i < domains->len; i++)
        g_string_append_printf(hosts, "%s%s", i ? " and " : "",
                               host_uri(domain_host(g_ptr_array_index(domains, i))));
    return fail(error, ERROR_CONFLICT, "VM '%s' is %s on several hosts, %s: %s", name, what,
                hosts->str, way_out);
}

/* A VM may be defined on all hosts that share its disks. The one that is active is meant; when none
 * is, stopping has nothing to do, but where to start is not ours to guess. */
static struct domain *search_choose(struct search *search, enum direction direction, GError **error)
{
    if (search->active->len == 1)
        return g_ptr_array_steal_index(search->active, 0);
    if (search->active->len > 1)
        fail_several(search->name, "active", search->active, "stop all but one by hand", error);
    else if (search->inactive->len == 0)
        fail(error, ERROR_NOT_FOUND, "VM '%s' is defined on no host of this site", search->name);
    else if (search->inactive->len == 1 || direction == EXECUTE_STOP)
        return g_ptr_array_steal_index(search->inactive, 0);
    else
        fail_several(search->name, "defined", search->inactive,
                     "start it by hand where it is to run", error);
    return NULL;
}

static void domain_free_element(void *data)
{
    domain_free(data);
}

static struct domain *find_domain(GPtrArray *hosts, const char *name, enum direction direction,
                                  GError **error)
{
    g_autoptr(GPtrArray) active = g_ptr_array_new_with_free_func(domain_free_element);
    g_autoptr(GPtrArray) inactive = g_ptr_array_new_with_free_func(domain_free_element);
    struct search search = {name, active, inactive};

    for (unsigned i = 0; i < hosts->len; i++)
        if (!search_host(&search, g_ptr_array_index(hosts, i), error))
            return NULL;
    return search_choose(&search, direction, error);
}

/* ---- Start */

/* Who starts a vApp wants its VMs to run, so one that is paused goes on. One whose disk failed
 * repeats the request that failed, and pauses again if the disk is still bad. */
static bool resume(struct work *work, struct domain *domain, enum domain_state state,
                   GError **error)
{
    if (!domain_resume(domain, error))
        return false;
    work->note = g_strdup_printf("it was %s and was resumed", domain_state_name(state));
    return true;
}

static bool make_run(struct work *work, struct domain *domain, struct probe *probe, GError **error)
{
    enum domain_state state;

    if (!domain_state(domain, &state, error))
        return false;
    switch (state) {
    case DOMAIN_OFF:
        probe_mark(probe);
        return domain_start(domain, error);
    case DOMAIN_RUNNING:
        /* A console does not print again what it has printed. */
        work->was_already = work->vm->ready == READY_LOG || probe_is_ready(probe);
        return true;
    case DOMAIN_PAUSED:
    case DOMAIN_PAUSED_IO_ERROR:
        return resume(work, domain, state, error);
    case DOMAIN_CRASHED:
        break;
    }
    return fail(error, ERROR_CONFLICT,
                "VM '%s' has crashed and is kept for inspection; stop the vApp first",
                work->vm->name);
}

static bool start_domain(void *context, struct work *work, GError **error)
{
    AUTO(domain) domain = find_domain(context, work->vm->name, EXECUTE_START, error);
    AUTO_PROBE probe = {.vm = work->vm, .domain = domain};

    if (!domain || !make_run(work, domain, &probe, error))
        return false;
    if (work->was_already)
        return true;
    work_is_up(work);
    return probe_wait(&probe, error);
}

bool vapp_start_domains(const struct vapp *vapp, GPtrArray *hosts,
                        void (*report)(void *context, const struct vapp_result *result),
                        void *context, GPtrArray **results, GError **error)
{
    struct executor executor = {
        .direction = EXECUTE_START,
        .work = start_domain,
        .work_context = hosts,
        .report = report,
        .report_context = context,
    };

    return execute(vapp, &executor, results, error);
}

/* ---- Stop */

/* A transient domain does not exist any more when it is off. */
static bool state_or_gone(struct domain *domain, enum domain_state *state, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (domain_state(domain, state, &why))
        return true;
    if (error_is(why, ERROR_NOT_FOUND)) {
        *state = DOMAIN_OFF;
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* Ask for a shutdown until the guest is off or DEADLINE_MS. *REFUSED: what the last request said,
 * or NULL. True also when time is over: STATE tells. */
static bool shut_down(struct domain *domain, int64_t deadline_ms, enum domain_state *state,
                      GError **refused, GError **error)
{
    int64_t ask_ms = time_monotonic_ms();

    while (true) {
        int64_t now_ms = time_monotonic_ms();

        if (!state_or_gone(domain, state, error))
            return false;
        if (*state == DOMAIN_OFF || now_ms >= deadline_ms)
            return true;
        if (!interrupt_check(error))
            return false;
        if (now_ms >= ask_ms) {
            g_clear_error(refused);
            domain_shutdown(domain, refused);
            ask_ms = time_monotonic_ms() + ASK_AGAIN_MS;
        }
        g_usleep(POLL_MS * 1000);
    }
}

static char *plug_note(const struct vapp_vm *vm, const GError *refused)
{
    g_autofree char *timeout = duration_format((double)vm->stop_timeout_ms / 1000);

    if (vm->stop_timeout_ms == 0)
        return g_strdup("the plug was pulled, as its stop-timeout is 0");
    if (refused)
        return g_strdup_printf("it did not shut down within %s, the plug was pulled (%s)", timeout,
                               refused->message);
    return g_strdup_printf("it did not shut down within %s, the plug was pulled", timeout);
}

static bool pull_plug(struct domain *domain, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (domain_destroy(domain, &why) || error_is(why, ERROR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

static bool stop_running(struct work *work, struct domain *domain, GError **error)
{
    int64_t deadline_ms = time_monotonic_ms() + work->vm->stop_timeout_ms;
    g_autoptr(GError) refused = NULL;
    enum domain_state state;

    if (!shut_down(domain, deadline_ms, &state, &refused, error))
        return false;
    if (state == DOMAIN_OFF)
        return true;
    if (!pull_plug(domain, error))
        return false;
    work->note = plug_note(work->vm, refused);
    return true;
}

static bool stop_domain(void *context, struct work *work, GError **error)
{
    AUTO(domain) domain = find_domain(context, work->vm->name, EXECUTE_STOP, error);
    enum domain_state state;

    if (!domain || !state_or_gone(domain, &state, error))
        return false;
    switch (state) {
    case DOMAIN_OFF:
        work->was_already = true;
        return true;
    case DOMAIN_CRASHED:
        work->note = g_strdup("it had crashed, the plug was pulled");
        return pull_plug(domain, error);
    case DOMAIN_PAUSED:
    case DOMAIN_PAUSED_IO_ERROR:
        /* Only a running guest can shut down; if it cannot run, time will tell. */
        domain_resume(domain, NULL);
        break;
    case DOMAIN_RUNNING:
        break;
    }
    return stop_running(work, domain, error);
}

bool vapp_stop_domains(const struct vapp *vapp, GPtrArray *hosts,
                       void (*report)(void *context, const struct vapp_result *result),
                       void *context, GPtrArray **results, GError **error)
{
    struct executor executor = {
        .direction = EXECUTE_STOP,
        .work = stop_domain,
        .work_context = hosts,
        .report = report,
        .report_context = context,
    };

    return execute(vapp, &executor, results, error);
}
