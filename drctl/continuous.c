/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/continuous.h"

/* Older points are dropped once in so many rounds: each time all points of the VM are looked at. */
#define DROP_ROUNDS 12
/* After so many rounds without any point somebody else has to see whether it can go on at all. */
#define FAILED_ROUNDS 3
#define PAUSE_STEP_MS 100

struct count {
    uint64_t rounds, points, failed;
    int64_t slowest_ms;
    /* Of two points of one VM, and between the last one and its being there. */
    int64_t worst_rpo_ms, last_begun_ms;
};

static bool pause_until(int64_t monotonic_ms)
{
    int64_t left_ms;

    while (interrupt_check(NULL)) {
        left_ms = monotonic_ms - time_monotonic_ms();
        if (left_ms <= 0)
            return true;
        g_usleep((gulong)MIN(left_ms, PAUSE_STEP_MS) * 1000);
    }
    return false;
}

/* What is there before this round is as old as the one before last, until this one is there. */
static void count_round(struct count *count, const struct replication *replication,
                        int64_t begun_ms, int64_t ended_ms)
{
    count->rounds++;
    count->points += replication->made->len;
    count->failed += replication->failed;
    count->slowest_ms = MAX(count->slowest_ms, ended_ms - begun_ms);
    if (replication->failed > 0)
        return;
    if (count->last_begun_ms)
        count->worst_rpo_ms = MAX(count->worst_rpo_ms, ended_ms - count->last_begun_ms);
    count->last_begun_ms = begun_ms;
}

static json_t *count_json(const struct count *count)
{
    json_t *json = json_object();

    json_set_u64(json, "rounds", count->rounds);
    json_set_u64(json, "points", count->points);
    json_set_u64(json, "failed", count->failed);
    json_set_real(json, "slowest_seconds", (double)count->slowest_ms / 1000);
    json_set_real(json, "worst_rpo_seconds", (double)count->worst_rpo_ms / 1000);
    return json;
}

/* VMs come and go under its patterns. */
static void select_again(struct replication *replication, const struct protection *protection)
{
    char *name[] = {protection->name, NULL};
    g_autoptr(GError) why = NULL;
    GPtrArray *vms;

    if (!protection_is_open(protection))
        return;
    vms = protected_vms(replication->context, name, &why);
    if (vms && vms->len == 0)
        fail_empty(replication->context->config, protection, &why);
    if (why) {
        g_clear_pointer(&vms, g_ptr_array_unref);
        progress_note(replication->context->progress, "%s", why->message);
        return;
    }
    g_ptr_array_unref(replication->vms);
    replication->vms = vms;
}

bool continuous_run(struct replication *replication, const struct protection *protection,
                    GError **error)
{
    struct count count = {0};
    unsigned failed_rounds = 0;

    do {
        struct rpo rpo = {.target_ms = protection->rpo_ms, .newest_ms = time_monotonic_ms()};
        int64_t begun_ms = rpo.newest_ms;

        replication_begin_round(replication);
        replication_take_points(replication);
        rpo.took_ms = time_monotonic_ms() - begun_ms;
        count_round(&count, replication, begun_ms, begun_ms + rpo.took_ms);
        failed_rounds = replication->made->len == 0 ? failed_rounds + 1 : 0;
        if (count.rounds % DROP_ROUNDS == 0) {
            if (!option_set(replication->context, "keep-all"))
                replication_drop_older(replication);
            select_again(replication, protection);
        }
        if (failed_rounds >= FAILED_ROUNDS || !pause_until(rpo_next_ms(&rpo)))
            break;
    } while (true);
    json_array_clear(replication->results);
    json_array_append_new(replication->results, count_json(&count));
    if (failed_rounds < FAILED_ROUNDS)
        return interrupt_check(error);
    g_propagate_error(error, g_steal_pointer(&replication->first_error));
    return false;
}
