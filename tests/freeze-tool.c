/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that freezes a guest as a point does, and then is no good any more:
 *
 *     freeze-tool URI VM DIR SIGNAL     DIR: for a store; SIGNAL: what it sends itself
 *
 * It says "frozen" before that, and begins the point after it, if there is an after. What thaws the guest is its watchdog, as in drctl.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replicator/replicator.h"
#include "snapshot/job.h"

static const char *const watchdog[] = {"/proc/self/exe", "thaw-watchdog", NULL};

/* Returns only on errors. */
static bool freeze(char **args, GError **error)
{
    g_autofree char *store_path = g_build_filename(args[2], "store", NULL);
    AUTO(host) host = host_open(args[0], error);
    AUTO(domain) domain = host ? host_domain(host, args[1], error) : NULL;
    g_autofree char *xml = domain ? domain_xml(domain, DOMAIN_XML_LIVE, error) : NULL;
    g_autoptr(GPtrArray) disks = xml ? vm_disks(host, xml, error) : NULL;

    if (!disks || !store_create(store_path, "dc1", error))
        return false;
    AUTO(catalog) catalog = catalog_open(store_path, error);
    AUTO(store)
    store = catalog ? store_open_local(store_path, catalog, &snapshot_point_ops, error) : NULL;
    struct point_request request = {
        .domain = domain,
        .destination = store,
        .catalog = catalog,
        .run_dir = args[2],
        .scratch_dir = args[2],
        .quiesce = QUIESCE_REQUIRE,
        .quiesce_timeout_s = 5,
        .force_full = true,
        .watchdog = watchdog,
    };
    AUTO(reference)
    reference = store ? reference_choose(&request, disks, true, error) : NULL;
    AUTO(job) job = reference ? job_prepare(&request, reference, disks, "1", error) : NULL;

    if (!job || !job_freeze(job, error))
        return false;
    puts("frozen");
    fflush(stdout);
    raise(atoi(args[3]));
    return job_begin(job, error);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    bool done =
        argc == 5 && (strcmp(argv[1], "thaw-watchdog") == 0 ? snapshot_watchdog(argv + 2, &error)
                                                            : freeze(argv + 1, &error));

    if (error)
        fprintf(stderr, "freeze-tool: %s\n", error->message);
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}
