/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/failover-options.h"

/* --- which go together ------------------------------------------------------------------------ */

/* OPTIONS go with MODE only, or, if REFUSED, do not go with it. */
static bool check_mode(const struct context *context, const char *mode, bool refused,
                       const char *const *options, GError **error)
{
    for (; option_set(context, mode) == refused && *options; options++)
        if (option_set(context, *options))
            return fail(error, ERROR_USAGE, "--%s %s with --%s", *options,
                        refused ? "does not go" : "goes", mode);
    return true;
}

/* A planned one has all that there is, and all of the vApp, or does not happen; it is committed at once, as it
 * has a way back of its own. Of a test nothing is committed. */
bool failover_check_options(const struct context *context, GError **error)
{
    static const char *const not_planned[] = {
        "accept-damage", "skip-optional", "test",      "point", "at",
        "commit-after",  "on-timeout",    "host-down", NULL};
    static const char *const not_tests[] = {"commit-after", "on-timeout", "host-down", NULL};
    static const char *const of_planned[] = {"from", NULL};
    static const char *const of_tests[] = {"cap", "keep", NULL};

    return check_mode(context, "planned", true, not_planned, error) &&
           check_mode(context, "planned", false, of_planned, error) &&
           check_mode(context, "test", true, not_tests, error) &&
           check_mode(context, "test", false, of_tests, error);
}

/* --- what they say ---------------------------------------------------------------------------- */

bool failover_read_policy(const struct context *context, struct commit_policy *policy, bool *said,
                          GError **error)
{
    const char *after = option_value(context, "commit-after");
    const char *then = option_value(context, "on-timeout");
    g_autoptr(GError) why = NULL;

    *said = after != NULL;
    if (then && !after)
        return fail(error, ERROR_USAGE, "--on-timeout goes with --commit-after");
    if (then && !g_str_equal(then, "commit") && !g_str_equal(then, "rollback"))
        return fail(error, ERROR_USAGE, "--on-timeout is commit or rollback, not '%s'", then);
    if (after && !duration_parse(after, &policy->after_ms, &why))
        return fail(error, ERROR_USAGE, "--commit-after: %s", why->message);
    if (policy->after_ms > COMMIT_AFTER_MAX_MS)
        return fail(error, ERROR_USAGE, "--commit-after: '%s' is more than 30 days", after);
    policy->rolls_back = g_strcmp0(then, "rollback") == 0;
    return true;
}

/* RFC 3339, or how long ago. */
static bool parse_instant(const char *text, int64_t *ms, GError **error)
{
    int64_t ago_ms;

    if (time_parse(text, ms, NULL))
        return true;
    if (!duration_parse(text, &ago_ms, NULL))
        return fail(
            error, ERROR_USAGE,
            "--at %s: write a time such as 2026-11-20T22:15:00Z, or how long ago, such as 2h",
            text);
    *ms = time_now_ms() - ago_ms;
    return true;
}

bool failover_read_points(const struct context *context, struct failover_request *request,
                          GError **error)
{
    const char *point = option_value(context, "point"), *at = option_value(context, "at");

    request->proven = g_strcmp0(point, "proven") == 0;
    if (point && !request->proven && !g_str_equal(point, "latest"))
        request->point = point;
    if (request->point && at)
        return fail(error, ERROR_USAGE, "--point names the point already: leave out --at");
    return !at || parse_instant(at, &request->until_ms, error);
}
