/* SPDX-License-Identifier: Apache-2.0 */
/* When was it tested last? */
#include "restore/test-undo.h"

void test_record_clear(struct test_record *record)
{
    g_clear_pointer(&record->run, g_free);
    *record = (struct test_record){0};
}

/* False for a run that did not come to a verdict. */
static bool verdict_of(const json_t *run, enum proof_verdict *verdict)
{
    static const struct {
        enum run_state state;
        enum proof_verdict verdict;
    } known[] = {
        {RUN_DONE, PROOF_PASSED}, {RUN_PARTIAL, PROOF_UNPROVEN}, {RUN_FAILED, PROOF_FAILED}};
    const char *state = json_get_string(run, "state");

    for (unsigned i = 0; i < G_N_ELEMENTS(known); i++) {
        if (g_strcmp0(state, run_state_name(known[i].state)) != 0)
            continue;
        *verdict = known[i].verdict;
        return true;
    }
    return false;
}

void test_find_last(const json_t *runs, const char *name, struct test_record *record)
{
    const json_t *run;
    size_t i;

    *record = (struct test_record){0};
    json_array_foreach((json_t *)runs, i, run)
    {
        const char *ended = json_get_string(run, "ended");

        if (!test_is_of(run, name) || !verdict_of(run, &record->verdict) || !ended ||
            !time_parse(ended, &record->ended_ms, NULL))
            continue;
        record->run = g_strdup(json_get_string(run, "run"));
        return;
    }
}

int64_t test_due_ms(const struct recovery_plan *plan, const struct test_record *last)
{
    if (!plan->test_every_ms)
        return INT64_MAX;
    return last->run ? last->ended_ms + plan->test_every_ms : 0;
}
