/* SPDX-License-Identifier: Apache-2.0 */
/* Which round of points a failover takes. */
#include "tests/unit.h"

#include "restore/group.h"

/* A VM's points, newest first: each letter is a round, '-' a point of its own. */
static GPtrArray *history(const char *rounds)
{
    GPtrArray *points = g_ptr_array_new_with_free_func((GDestroyNotify)manifest_free);

    for (const char *round = rounds; *round; round++) {
        struct manifest *manifest = manifest_new();

        manifest->group = *round == '-' ? NULL : g_strndup(round, 1);
        g_ptr_array_add(points, manifest);
    }
    return points;
}

static bool is_not(const struct manifest *manifest, void *context)
{
    return g_strcmp0(manifest->group, context) != 0;
}

/* VMS: histories separated by blanks; a round that is DAMAGED cannot be used. */
static void chooses(const char *vms, char *damaged, const char *expected)
{
    g_auto(GStrv) words = g_strsplit(vms, " ", -1);
    g_autoptr(GPtrArray) histories =
        g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    const char *chosen;

    for (char **word = words; *word; word++)
        g_ptr_array_add(histories, history(*word));
    chosen = group_choose(histories, damaged ? is_not : NULL, damaged);
    ck_assert_msg(g_strcmp0(chosen, expected) == 0, "%s: %s instead of %s", vms,
                  chosen ? chosen : "none", expected ? expected : "none");
}

START_TEST(the_newest_complete_round_is_chosen)
{
    chooses("cba cba cba", NULL, "c");
    chooses("c c", NULL, "c");
    chooses("cba", NULL, "c");
}
END_TEST

START_TEST(a_round_that_lacks_a_vm_is_passed_over)
{
    chooses("cba ba cba", NULL, "b");
    chooses("ba cba cba", NULL, "b");
    chooses("ca cba cb", NULL, "c");
    chooses("ca ba", NULL, "a");
    chooses("c b", NULL, NULL);
}
END_TEST

START_TEST(a_round_that_cannot_be_used_is_passed_over)
{
    char damaged[] = "c";

    chooses("cba cba", damaged, "b");
    chooses("c c", damaged, NULL);
}
END_TEST

START_TEST(points_of_their_own_are_not_given_up_for_an_older_round)
{
    chooses("-cba cba", NULL, NULL);
    chooses("cba -cba", NULL, NULL);
    chooses("- -", NULL, NULL);
    chooses("cb- cb-", NULL, "c");
    chooses("c- b-", NULL, NULL);
}
END_TEST

int main(void)
{
    return UNIT_RUN("group", the_newest_complete_round_is_chosen,
                    a_round_that_lacks_a_vm_is_passed_over,
                    a_round_that_cannot_be_used_is_passed_over,
                    points_of_their_own_are_not_given_up_for_an_older_round);
}
