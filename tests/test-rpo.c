/* SPDX-License-Identifier: Apache-2.0 */
/* When the next point is begun, and whether an objective is kept. */
#include "metadata/rpo.h"
#include "tests/unit.h"

#define MIN_MS 60000
#define NEWEST 1000000000000

START_TEST(the_next_point_is_there_before_the_last_is_too_old)
{
    struct rpo rpo = {15 * MIN_MS, NEWEST, 2 * MIN_MS};

    /* 15 min - 2 min - a margin of 1 min */
    ck_assert_int_eq(rpo_next_ms(&rpo), NEWEST + 12 * MIN_MS);
    rpo.target_ms = 5000;
    rpo.took_ms = 200;
    ck_assert_int_eq(rpo_next_ms(&rpo), NEWEST + 4300);
    ck_assert_int_lt(rpo_next_ms(&rpo) + rpo.took_ms, NEWEST + rpo.target_ms);
}
END_TEST

START_TEST(what_takes_too_long_is_begun_again_at_once)
{
    struct rpo rpo = {15 * MIN_MS, NEWEST, 20 * MIN_MS};

    ck_assert_int_eq(rpo_next_ms(&rpo), NEWEST);
}
END_TEST

START_TEST(without_a_point_it_is_due_now)
{
    struct rpo rpo = {15 * MIN_MS, 0, 0};

    ck_assert_int_eq(rpo_next_ms(&rpo), 0);
    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST), RPO_VIOLATED);
}
END_TEST

START_TEST(it_is_at_risk_before_it_is_violated)
{
    struct rpo rpo = {15 * MIN_MS, NEWEST, 2 * MIN_MS};

    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST + MIN_MS), RPO_OK);
    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST + 13 * MIN_MS), RPO_OK);
    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST + 13 * MIN_MS + 1), RPO_AT_RISK);
    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST + 15 * MIN_MS), RPO_AT_RISK);
    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST + 15 * MIN_MS + 1), RPO_VIOLATED);
}
END_TEST

START_TEST(points_that_take_more_than_half_of_it_are_a_risk)
{
    struct rpo rpo = {15 * MIN_MS, NEWEST, 8 * MIN_MS};

    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST + 9 * MIN_MS), RPO_AT_RISK);
    rpo.took_ms = 7 * MIN_MS;
    ck_assert_int_eq(rpo_state_at(&rpo, NEWEST + 7 * MIN_MS), RPO_OK);
}
END_TEST

int main(void)
{
    return UNIT_RUN("rpo", the_next_point_is_there_before_the_last_is_too_old,
                    what_takes_too_long_is_begun_again_at_once, without_a_point_it_is_due_now,
                    it_is_at_risk_before_it_is_violated,
                    points_that_take_more_than_half_of_it_are_a_risk);
}
