/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the step runner costs: bench-steps STORE SUBJECTS. A run of 20 steps that do nothing for each of SUBJECTS, each in a
 * thread of its own, journaled in the catalog of STORE; prints how many steps were done, and how many seconds that took.
 */
#include <stdio.h>
#include <stdlib.h>

#include "metadata/metadata.h"

#define STEPS 20

struct subject {
    struct run *run;
    char name[16];
};

static struct step steps[STEPS];
static char names[STEPS][8];

G_GNUC_NORETURN static void die(const char *why)
{
    fprintf(stderr, "bench-steps: %s\n", why);
    exit(EXIT_FAILURE);
}

static bool do_nothing(void *context, GError **error)
{
    return true;
}

static void work(void *item)
{
    struct subject *subject = item;
    g_autoptr(GError) error = NULL;

    if (!run_steps(subject->run, subject->name, steps, STEPS, NULL, &error))
        die(error->message);
}

int main(int argc, char **argv)
{
    unsigned count = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    g_autofree struct subject *subjects = g_new0(struct subject, count);
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = count > 0 ? catalog_open(argv[1], &error) : NULL;
    AUTO(run) run = catalog ? run_begin(catalog, "bench", "steps", NULL, &error) : NULL;
    int64_t begun_ms = time_monotonic_ms();

    if (!run)
        die(error ? error->message : "usage: bench-steps STORE SUBJECTS");
    for (unsigned i = 0; i < STEPS; i++) {
        g_snprintf(names[i], sizeof(names[i]), "s%u", i);
        steps[i] = (struct step){.name = names[i], .run = do_nothing};
    }
    for (unsigned i = 0; i < count; i++) {
        subjects[i].run = run;
        g_snprintf(subjects[i].name, sizeof(subjects[i].name), "vm-%u", i);
    }
    in_parallel(subjects, count, sizeof(*subjects), work);
    printf("{\"steps\": %u, \"seconds\": %.3f}\n", count * STEPS,
           (double)(time_monotonic_ms() - begun_ms) / 1000);
    if (!run_finish(run, RUN_DONE, NULL, &error))
        die(error->message);
    return EXIT_SUCCESS;
}
