/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/hydration.h"

#include "drctl/output.h"

#include <stdio.h>
#include <string.h>

/* "43 %", or NULL when nobody knows; g_free. */
static char *done_text(const struct hydrating_disk *disk)
{
    const struct domain_pull *pull = &disk->pull;

    if (!disk->point)
        return g_strdup("100 %");
    if (!pull->is_active || pull->total_bytes == 0)
        return NULL;
    return g_strdup_printf("%u %%",
                           (unsigned)((double)pull->done_bytes * 100 / (double)pull->total_bytes));
}

static void add_disk(struct table *table, const struct hydration *hydration,
                     const struct hydrating_disk *disk)
{
    g_autofree char *done = done_text(disk);
    g_autofree char *rate = disk->pull.is_active ? rate_format(disk->pull.rate) : NULL;

    table_row(table, (const char *[]){hydration->vm, disk->target, hydrating_disk_state(disk), done,
                                      rate, disk->point ? strchr(disk->point, '/') + 1 : NULL});
}

/* Too long for a table. */
static void print_why(const struct hydration *hydration, const struct hydrating_disk *disk)
{
    if (disk->why)
        printf("  - %s %s: %s\n", hydration->vm, disk->target, disk->why);
}

void hydrations_print(const GPtrArray *hydrations, bool only_left)
{
    static const char *const headers[] = {"VM", "DISK", "STATE", ">DONE", ">LIMIT", "POINT", NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < hydrations->len; i++) {
            const struct hydration *hydration = hydrations->pdata[i];

            for (unsigned k = 0; k < hydration->disks->len; k++) {
                const struct hydrating_disk *disk = hydration->disks->pdata[k];

                if (pass == 1)
                    print_why(hydration, disk);
                else if (disk->point || !only_left)
                    add_disk(table, hydration, disk);
            }
        }
        if (pass == 0)
            table_print(table);
    }
}

char *hydrations_line(const GPtrArray *hydrations)
{
    g_autoptr(GString) line = g_string_new(NULL);

    g_string_printf(line, "hydrating: %u disks left", hydration_left(hydrations));
    for (unsigned i = 0; i < hydrations->len; i++) {
        const struct hydration *hydration = hydrations->pdata[i];

        for (unsigned k = 0; k < hydration->disks->len; k++) {
            const struct hydrating_disk *disk = hydration->disks->pdata[k];
            g_autofree char *done = disk->point ? done_text(disk) : NULL;

            if (done)
                g_string_append_printf(line, ", %s %s %s", hydration->vm, disk->target, done);
        }
    }
    return g_strdup(line->str);
}
