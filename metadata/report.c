/* SPDX-License-Identifier: Apache-2.0 */
/* What follows from the journal of a run. */
#include "metadata/report.h"

#include <string.h>

#include "metadata/run.h"

#define PICTURE_MAX (16 * 1024 * 1024)

static bool state_is(const json_t *json, const char *state)
{
    return g_strcmp0(json_get_string(json, "state"), state) == 0;
}

static bool was_begun(const json_t *step)
{
    return json_get_string(step, "started") != NULL;
}

static void set_seconds(json_t *json, const char *key, int64_t from_ms, int64_t to_ms)
{
    if (from_ms && to_ms >= from_ms)
        json_set_real(json, key, (double)(to_ms - from_ms) / 1000);
    else
        json_set_string(json, key, NULL);
}

/* ---- VMs */

/* All that has a result, a plan or steps, each once, in the order in which it starts. */
static json_t *names_of_vms(const json_t *run)
{
    const json_t *sources[] = {json_object_get(json_object_get(run, "plan"), "vms"),
                               json_object_get(json_object_get(run, "result"), "vms"),
                               json_object_get(run, "steps")};
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    json_t *names = json_array();

    /* Where VMs are named, steps can have other subjects, too. */
    for (unsigned i = 0; i < (sources[0] || sources[1] ? 2 : G_N_ELEMENTS(sources)); i++) {
        const json_t *element;
        size_t k;

        json_array_foreach(sources[i], k, element)
        {
            const char *name = json_get_string(element, i == 2 ? "subject" : "vm");

            if (name && g_hash_table_add(seen, (void *)name))
                json_array_append_new(names, json_string(name));
        }
    }
    return names;
}

/* The steps of each subject: {subject: [step]}. */
static json_t *steps_by_subject(const json_t *run)
{
    json_t *all = json_object();
    json_t *step;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        const char *subject = json_get_string(step, "subject");

        if (subject && !json_object_get(all, subject))
            json_object_set_new(all, subject, json_array());
        if (subject)
            json_array_append(json_object_get(all, subject), step);
    }
    return all;
}

/* The last step that was begun tells. */
static const char *state_by_steps(const json_t *steps)
{
    const json_t *step, *last = NULL, *next = NULL;
    size_t i;

    json_array_foreach(steps, i, step)
    {
        if (was_begun(step))
            last = step;
        else if (!next)
            next = step;
    }
    if (!last)
        return json_get_string(next, "state");
    if (state_is(last, "running"))
        return json_get_string(last, "step");
    if (!state_is(last, "done") || !next)
        return json_get_string(last, "state");
    return state_is(next, "waiting") ? "waiting" : "interrupted";
}

static void copy_member(json_t *to, const char *key, const json_t *first, const json_t *second)
{
    json_t *value = json_object_get(first, key);

    if (!value || json_is_null(value))
        value = json_object_get(second, key);
    json_object_set(to, key, value ? value : json_null());
}

static json_t *report_vm(const json_t *run, const char *name, json_t *steps)
{
    const json_t *planned =
        json_find(json_object_get(json_object_get(run, "plan"), "vms"), "vm", name);
    const json_t *result =
        json_find(json_object_get(json_object_get(run, "result"), "vms"), "vm", name);
    const char *state = result ? json_get_string(result, "state") : state_by_steps(steps);
    json_t *vm = json_object();

    json_set_string(vm, "vm", name);
    json_set_string(vm, "state", state);
    copy_member(vm, "point", result, planned);
    copy_member(vm, "time", planned, NULL);
    copy_member(vm, "consistency", planned, NULL);
    copy_member(vm, "host", planned, NULL);
    copy_member(vm, "rto_seconds", result, NULL);
    copy_member(vm, "rpo_seconds", result, NULL);
    if (!result)
        set_seconds(vm, "rpo_seconds", json_get_time(planned, "time"),
                    json_get_time(run, "started"));
    copy_member(vm, "error", result, NULL);
    copy_member(vm, "findings", planned, NULL);
    copy_member(vm, "evidence", result, NULL);
    if (steps)
        json_object_set(vm, "steps", steps);
    else
        json_object_set_new(vm, "steps", json_array());
    return vm;
}

/* ---- The whole */

static void count_steps(json_t *report)
{
    const json_t *step;
    uint64_t executed = 0, all = 0;
    size_t i;

    json_array_foreach(json_object_get(report, "steps"), i, step)
    {
        executed += was_begun(step);
        all++;
    }
    json_set_u64(report, "executed", executed);
    json_set_u64(report, "not_executed", all - executed);
}

static void set_longest_rpo(json_t *report)
{
    const json_t *vm;
    double longest = -1;
    size_t i;

    json_array_foreach(json_object_get(report, "vms"), i, vm)
    {
        const json_t *rpo = json_object_get(vm, "rpo_seconds");

        if (json_is_number(rpo))
            longest = MAX(longest, json_number_value(rpo));
    }
    if (longest >= 0)
        json_set_real(report, "rpo_seconds", longest);
    else
        json_set_string(report, "rpo_seconds", NULL);
}

/* How long it has taken; a run that was interrupted has taken nobody knows how long. */
static void set_took(json_t *report)
{
    bool executing = state_is(report, run_state_name(RUN_RUNNING));
    int64_t end_ms = executing ? time_now_ms() : json_get_time(report, "ended");

    set_seconds(report, "seconds", json_get_time(report, "started"), end_ms);
}

json_t *run_report(const json_t *run)
{
    json_t *report = json_copy((json_t *)run);
    json_auto_t *names = names_of_vms(run);
    json_auto_t *steps = steps_by_subject(run);
    json_t *vms = json_array();
    const json_t *name;
    size_t i;

    json_array_foreach(names, i, name)
    {
        const char *text = json_string_value(name);

        json_array_append_new(vms, report_vm(run, text, json_object_get(steps, text)));
    }
    json_object_set_new(report, "vms", vms);
    set_took(report);
    count_steps(report);
    set_longest_rpo(report);
    return report;
}

/* ---- Pictures */

static void picture_free(void *data)
{
    struct report_picture *picture = data;

    g_free((void *)picture->data);
    g_free(picture);
}

static struct report_picture *picture_new(const char *vm, const json_t *entry)
{
    struct report_picture *picture = g_new0(struct report_picture, 1);
    const char *caption = json_get_string(entry, "caption");

    picture->vm = vm;
    picture->path = json_get_string(entry, "path");
    picture->caption = caption ? caption : "";
    picture->type = "image/png";
    return picture;
}

GPtrArray *run_report_picture_names(const json_t *run)
{
    GPtrArray *pictures = g_ptr_array_new_with_free_func(picture_free);
    const json_t *vm, *entry;
    size_t i, k;

    json_array_foreach(json_object_get(json_object_get(run, "result"), "vms"), i, vm)
    {
        json_array_foreach(json_object_get(vm, "pictures"), k, entry)
            g_ptr_array_add(pictures, picture_new(json_get_string(vm, "vm"), entry));
    }
    return pictures;
}

bool report_picture_load(struct report_picture *picture)
{
    char *data = NULL;

    if (!picture->path || !file_read(picture->path, PICTURE_MAX, &data, &picture->len, NULL))
        return false;
    picture->data = data;
    return true;
}

GPtrArray *run_report_pictures(const json_t *run)
{
    GPtrArray *pictures = run_report_picture_names(run);

    for (unsigned i = 0; i < pictures->len; i++)
        report_picture_load(pictures->pdata[i]);
    return pictures;
}
