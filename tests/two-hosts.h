/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of a site with two hosts: a second libvirtd beside that of the session, for all tests of a
 * binary, which ends with
 *
 *     return session_run("name", both_start, both_stop, tests);
 */
#pragma once

#include "tests/recovery-lab.h"

static char *second_dir;
static char *second_uri;

static void both_start(void)
{
    session_start();
    second_dir = unit_dir();
    second_uri = g_strchomp(run((const char *const[]){SESSION, "up", second_dir, NULL}));
}

static void both_stop(void)
{
    RUN(SESSION, "down", second_dir);
    g_free(second_uri);
    g_free(second_dir);
    session_stop();
}

/* LAB has it from now on; it is LAB's. */
G_GNUC_UNUSED static inline struct host *add_second_host(const struct lab *lab)
{
    g_autoptr(GError) error = NULL;
    struct host *second = host_open(second_uri, &error);

    unit_ok(second != NULL, error);
    g_ptr_array_add(lab->hosts, second);
    return second;
}
