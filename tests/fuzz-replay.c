/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What drives a harness (tests/fuzz-<name>.c) in the ordinary tests: each file of the directory
 * that is named by the argument, once. A harness that finds something crashes, as under libFuzzer.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz.h"

int main(int argc, char **argv)
{
    g_autoptr(GDir) dir = argc == 2 ? g_dir_open(argv[1], 0, NULL) : NULL;
    unsigned count = 0;
    const char *name;

    if (!dir) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return EXIT_FAILURE;
    }
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(argv[1], name, NULL);
        g_autofree char *data = NULL;
        size_t len;

        if (!g_file_get_contents(path, &data, &len, NULL)) {
            fprintf(stderr, "cannot read %s\n", path);
            return EXIT_FAILURE;
        }
        printf("%s\n", name);
        fflush(stdout);
        LLVMFuzzerTestOneInput((const uint8_t *)data, len);
        count++;
    }
    return count ? EXIT_SUCCESS : EXIT_FAILURE;
}
