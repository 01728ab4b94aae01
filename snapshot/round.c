/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A round: several VMs caught at one instant. Each phase is done for all of them before the next one
 * begins, those that touch guests by one thread for each VM:
 *
 *     prepare    look, choose references            one after the other: they share a store
 *     ready      journal, does the agent answer?    at once
 *     freeze     all                                at once
 *     begin      only when all are frozen           at once: this is the instant
 *     thaw       only when all have begun           at once
 *     transfer   and commit                         one after the other
 *
 * The skew is measured from outside: no VM's instant lies before the first call of begin, none after
 * the last return. The watchdogs of job.h bound how long anybody is frozen. Killed anywhere it leaves
 * what that many single points leave.
 */
#include "snapshot/capture.h"

struct member;
typedef bool phase_fn(struct member *member, GError **error);

struct round {
    struct member *members;
    unsigned n;
    enum group_mode mode;
    const char *id;
    struct space_need need; /* of those that are prepared */
    phase_fn *phase;        /* the current one */
};

struct member {
    struct round *round;
    struct round_vm *vm;
    struct capture *capture;     /* NULL once it has failed */
    int64_t before_ms, after_ms; /* of begin */
    GThread *thread;
    bool left_out; /* lost before the transfer */
};

static const struct point_request *request_of(const struct member *member)
{
    return &member->vm->request;
}

static bool prepare(struct member *member, GError **error)
{
    const struct point_request *request = request_of(member);

    member->capture = capture_new(request, error);
    return member->capture && job_reconcile(request, error) &&
           capture_look(member->capture, error) &&
           capture_prepare(member->capture, &member->round->need, error);
}

static bool ready(struct member *member, GError **error)
{
    return capture_ready(member->capture, error);
}

static bool freeze(struct member *member, GError **error)
{
    return capture_freeze(member->capture, error);
}

static bool start(struct member *member, GError **error)
{
    bool started;

    member->before_ms = time_monotonic_ms();
    started = capture_start(member->capture, error);
    member->after_ms = time_monotonic_ms();
    return started;
}

static bool thaw(struct member *member, GError **error)
{
    return capture_thaw(member->capture, error);
}

/* --- all of them ------------------------------------------------------------------------------ */

static void lose(struct member *member, GError *why)
{
    g_clear_pointer(&member->capture, capture_free);
    g_prefix_error(&why, "no recovery point of %s: ", domain_name(request_of(member)->domain));
    member->vm->error = why;
}

static const struct member *first_lost(const struct round *round)
{
    for (unsigned i = 0; i < round->n; i++)
        if (round->members[i].vm->error)
            return &round->members[i];
    return NULL;
}

/* Nobody's point is any use without the lost one. */
static void give_up(struct round *round, const struct member *lost)
{
    for (unsigned i = 0; i < round->n; i++) {
        struct member *member = &round->members[i];
        GError *why = NULL;

        if (member->vm->error)
            continue;
        fail(&why, error_kind_of(lost->vm->error), "group = require, and the round lost %s (%s)",
             domain_name(request_of(lost)->domain), lost->vm->error->message);
        lose(member, why);
    }
}

/* Is it worth going on? */
static bool goes_on(struct round *round)
{
    const struct member *lost = first_lost(round);

    if (!lost || round->mode != GROUP_REQUIRE)
        return true;
    give_up(round, lost);
    return false;
}

static void *run_phase(void *data)
{
    struct member *member = data;
    GError *why = NULL;

    return member->round->phase(member, &why) ? NULL : why;
}

/* PHASE for all members that are not lost; false when the round is over. */
static bool at_once(struct round *round, phase_fn *phase)
{
    round->phase = phase;
    for (unsigned i = 0; i < round->n; i++) {
        struct member *member = &round->members[i];

        member->thread = member->capture ? g_thread_new("round", run_phase, member) : NULL;
    }
    for (unsigned i = 0; i < round->n; i++) {
        struct member *member = &round->members[i];
        GError *why = member->thread ? g_thread_join(member->thread) : NULL;

        if (why)
            lose(member, why);
    }
    return goes_on(round);
}

static bool prepare_all(struct round *round)
{
    for (unsigned i = 0; i < round->n; i++) {
        struct member *member = &round->members[i];
        GError *why = NULL;

        if (interrupt_check(&why) && prepare(member, &why))
            continue;
        lose(member, why);
        if (!goes_on(round))
            return false;
    }
    return true;
}

/* If all have begun, their points are a group. */
static void make_group(struct round *round)
{
    int64_t first_ms = INT64_MAX, last_ms = 0;

    if (first_lost(round))
        return;
    for (unsigned i = 0; i < round->n; i++) {
        first_ms = MIN(first_ms, round->members[i].before_ms);
        last_ms = MAX(last_ms, round->members[i].after_ms);
    }
    for (unsigned i = 0; i < round->n; i++)
        capture_join(round->members[i].capture, round->id, round->n,
                     (uint64_t)(last_ms - first_ms));
}

static bool catch_all(struct round *round)
{
    if (!prepare_all(round) || !at_once(round, ready) || !at_once(round, freeze) ||
        !at_once(round, start) || !at_once(round, thaw))
        return false;
    make_group(round);
    return true;
}

/* --- each of them ----------------------------------------------------------------------------- */

static void finish(struct member *member)
{
    GError *why = NULL;

    if (!member->capture)
        return;
    if (capture_finish(member->capture, &member->vm->result, &why)) {
        g_clear_pointer(&member->capture, capture_free);
        return;
    }
    /* A VM that was off and has been started meanwhile: its point is that of the running VM. */
    member->left_out = capture_was_overtaken(member->capture);
    lose(member, why);
}

/* It could not take part; can it be a point by itself? */
static void take_alone(struct member *member)
{
    const struct point_request *request = request_of(member);
    g_autoptr(GError) before = g_steal_pointer(&member->vm->error);

    progress_note(request->progress, "%s: not at one instant with the others: %s",
                  domain_name(request->domain), before->message);
    snapshot_take_point(request, &member->vm->result, &member->vm->error);
}

static void take_left_out(struct round *round)
{
    for (unsigned i = 0; i < round->n; i++) {
        struct member *member = &round->members[i];

        if (member->left_out)
            take_alone(member);
    }
}

void snapshot_take_round(struct round_vm *vms, unsigned n, enum group_mode mode)
{
    g_autofree struct member *members = g_new0(struct member, n);
    g_autofree char *id = point_id_format(time_now_ms());
    struct round round = {.members = members, .n = n, .mode = mode, .id = id};

    for (unsigned i = 0; i < n; i++)
        members[i] = (struct member){.round = &round, .vm = &vms[i]};
    if (!catch_all(&round))
        return;
    for (unsigned i = 0; i < n; i++)
        members[i].left_out = vms[i].error && !error_is(vms[i].error, ERROR_CANCELLED);
    for (unsigned i = 0; i < n; i++)
        finish(&members[i]);
    take_left_out(&round);
}
