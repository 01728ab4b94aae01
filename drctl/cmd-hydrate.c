/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/hydration.h"
#include "drctl/output.h"

#include <stdio.h>

#define LOOK_US (500 * 1000)
/* What could not begin is tried again after so many looks. */
#define LOOKS_BETWEEN_BEGINNINGS 10

/* ---- Watching */

/* Is it a matter of time? Without a reason it was being pulled a moment ago. */
static bool is_passing(const struct hydrating_disk *disk)
{
    return disk->point && !disk->pull.is_active && (disk->is_passing || !disk->why);
}

/* How many disks there are to wait for. */
static unsigned count_passing(const GPtrArray *hydrations)
{
    unsigned n = 0;

    for (unsigned i = 0; i < hydrations->len; i++) {
        const struct hydration *hydration = hydrations->pdata[i];

        for (unsigned k = 0; k < hydration->disks->len; k++)
            n += is_passing(hydration->disks->pdata[k]);
    }
    return n;
}

static bool look(struct context *context, const GPtrArray *hydrations, GError **error)
{
    g_autofree char *line = NULL;

    for (unsigned i = 0; i < hydrations->len; i++)
        if (!interrupt_check(error) || !hydration_look(hydrations->pdata[i], error))
            return false;
    line = hydrations_line(hydrations);
    progress_terminal_status(context->progress, line);
    return true;
}

/* Until all is done, or nothing goes on. */
static bool watch(struct context *context, const struct site *site, const GPtrArray *hydrations,
                  uint64_t rate, GError **error)
{
    for (unsigned n = 0, pulled = 0;; n++) {
        /* When one is done another has its turn. */
        if (n % LOOKS_BETWEEN_BEGINNINGS == 0 || hydration_pulled(hydrations) < pulled)
            hydration_begin(site, hydrations, rate);
        pulled = hydration_pulled(hydrations);
        if (!look(context, hydrations, error))
            return false;
        if (hydration_pulled(hydrations) == 0 &&
            (hydration_left(hydrations) == 0 || count_passing(hydrations) == 0))
            return true;
        g_usleep(LOOK_US);
    }
}

/* ---- The command */

static bool read_rate(struct context *context, uint64_t *rate, GError **error)
{
    const char *text = option_value(context, "limit");

    *rate = context->config->hydrate_rate;
    if (!text || rate_parse(text, rate, error))
        return true;
    g_prefix_error(error, "--limit: ");
    return false;
}

static bool check_options(struct context *context, GError **error)
{
    bool stop = option_set(context, "stop");

    if (stop && (option_set(context, "background") || option_value(context, "limit")))
        return fail(error, ERROR_USAGE, "--stop goes neither with --background nor with --limit");
    return true;
}

static void show(struct context *context, const GPtrArray *hydrations)
{
    progress_terminal_end(context->progress);
    if (context->json) {
        json_auto_t *json = hydrations_json(hydrations);

        print_json(json);
        return;
    }
    if (hydrations->len == 0)
        fputs("No VM was recovered here.\n", stderr);
    else
        hydrations_print(hydrations, false);
    fflush(stdout);
}

/* All are on their way, or at its end. */
static bool judge(struct context *context, const GPtrArray *hydrations, GError **error)
{
    unsigned left = hydration_left(hydrations), pulled = hydration_pulled(hydrations);
    unsigned passing = count_passing(hydrations);

    if (pulled + passing < left)
        return fail(error, ERROR_PARTIAL, "%u disks stay on their points; why stands %s",
                    left - pulled - passing, context->json ? "in the result" : "above");
    if (pulled > 0 && !context->json)
        puts(
            "QEMU copies by itself, one disk of a VM at a time; drctl status shows how far it is.");
    if (passing > 0 && !context->json)
        puts("The same command again begins with the next disks.");
    return true;
}

static bool execute(struct context *context, const struct site *site, const GPtrArray *hydrations,
                    uint64_t rate, GError **error)
{
    if (option_set(context, "dry-run"))
        return true;
    if (option_set(context, "stop"))
        return hydration_end(hydrations, error);
    if (option_set(context, "background")) {
        hydration_begin(site, hydrations, rate);
        return true;
    }
    if (watch(context, site, hydrations, rate, error))
        return true;
    if (error_is(*error, ERROR_CANCELLED))
        g_prefix_error(error, "QEMU goes on without being watched, `drctl hydrate --stop` ends "
                              "that: ");
    return false;
}

static bool cmd_hydrate(struct context *context, GError **error)
{
    g_autoptr(GPtrArray) hydrations = NULL;
    struct site site;
    uint64_t rate;

    if (!check_options(context, error) || !context_site(context, true, &site, error) ||
        !read_rate(context, &rate, error) ||
        !(hydrations = hydration_find(&site, context->args, error)) ||
        !execute(context, &site, hydrations, rate, error))
        return false;
    show(context, hydrations);
    return option_set(context, "stop") || option_set(context, "dry-run") ||
           judge(context, hydrations, error);
}

static const struct option hydrate_options[] = {
    {"limit", "RATE", "this much a second at most, all disks together: 50MiB/s, or none"},
    {"background", NULL, "do not wait until all is copied"},
    {"stop", NULL, "stop copying; what was copied stays"},
    {"dry-run", NULL, "show which disks lie upon points, and change nothing"},
    {0},
};

const struct command hydrate_commands[] = {
    {
        .name = "hydrate",
        .args = "[VM|VAPP]...",
        .max_args = -1,
        .flags = COMMAND_JSON | COMMAND_CHANGES,
        .summary = "make recovered VMs independent of the points that they run on",
        .text = "A recovered VM runs on overlays over the files of its point, which stays as long "
                "as\n"
                "that is so. This lets QEMU copy what is missing into the overlays, while the VM "
                "runs.\n"
                "What is interrupted, by whatever, is gone on with by the same command.",
        .options = hydrate_options,
        .run = cmd_hydrate,
    },
    {0},
};
