/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A site of very many VMs that is lost: bench-site STORE FROM VAPPS VMS. FROM is a store of another site with points of one
 * VM; STORE is empty. VAPPS vApps, v0 and so on, of VMS VMs each, v0-db and v0-1 and so on that are after it, get the points of
 * that VM, each under its own name and UUID, and STORE the pool bundle that tells of them. Images are hard links: nobody
 * writes to them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "metadata/metadata.h"
#include "replicator/replicator.h"
#include "snapshot/snapshot.h"

#define DEFINITION "domain.xml"
#define TEXT_MAX_BYTES (1u << 20)

struct making {
    const char *store;
    const char *from;
    GPtrArray *points; /* of struct manifest: what each VM gets */
    struct bundle *bundle;
};

G_GNUC_NORETURN static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench-site: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static char *read_text(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    if (!file_read(path, TEXT_MAX_BYTES, &text, NULL, &error))
        die(path, error->message);
    return text;
}

static void write_text(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) error = NULL;

    if (!g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, &error))
        die(path, error->message);
}

static char *definition_of(const char *dir, const char *vm, const char *uuid)
{
    g_autofree char *text = read_text(dir, DEFINITION);
    g_autoptr(GError) error = NULL;
    AUTO(xml) xml = xml_parse(text, DEFINITION, &error);

    if (!xml)
        die(dir, error->message);
    xml_set_text(xml_child(xml_root(xml), "name"), vm);
    xml_set_text(xml_child(xml_root(xml), "uuid"), uuid);
    return xml_dump(xml);
}

static void link_files(const struct manifest *manifest, const char *from, const char *to)
{
    for (unsigned i = 0; i < manifest->files->len; i++) {
        const struct manifest_file *file = manifest->files->pdata[i];
        g_autofree char *old = g_build_filename(from, file->name, NULL);
        g_autofree char *new = g_build_filename(to, file->name, NULL);

        if (!g_str_equal(file->name, DEFINITION) && link(old, new) < 0)
            die(new, g_strerror(errno));
    }
}

static void append_sum(GString *sums, const char *name, const char *text)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);

    g_string_append_printf(sums, "%s  %s\n", sum, name);
}

/* Those of the images are the same as in FROM. */
static void write_sums(const char *from, const char *to, const char *definition,
                       const char *manifest)
{
    g_autofree char *old = read_text(from, SHA256SUMS_NAME);
    g_auto(GStrv) lines = g_strsplit(old, "\n", -1);
    g_autoptr(GString) sums = g_string_new(NULL);

    for (char **line = lines; *line && **line; line++)
        if (!g_str_has_suffix(*line, "  " DEFINITION) &&
            !g_str_has_suffix(*line, "  " MANIFEST_NAME))
            g_string_append_printf(sums, "%s\n", *line);
    append_sum(sums, DEFINITION, definition);
    append_sum(sums, MANIFEST_NAME, manifest);
    write_text(to, SHA256SUMS_NAME, sums->str);
}

/* As POINT, of VM; its definition. */
static char *copy_point(const struct making *making, const struct manifest *point, const char *vm,
                        const char *uuid)
{
    g_autofree char *from = store_point_dir(making->from, point->uuid, point->point);
    g_autofree char *path = g_build_filename(from, MANIFEST_NAME, NULL);
    g_autofree char *to = store_point_dir(making->store, uuid, point->point);
    char *definition = definition_of(from, vm, uuid);
    g_autofree char *text = NULL;
    AUTO(manifest) manifest = manifest_load(path, NULL);

    if (!manifest || g_mkdir_with_parents(to, 0755) < 0)
        die(to, g_strerror(errno));
    g_free(manifest->vm);
    g_free(manifest->uuid);
    manifest->vm = g_strdup(vm);
    manifest->uuid = g_strdup(uuid);
    manifest_remove_file(manifest, DEFINITION);
    link_files(manifest, from, to);
    manifest_add_file(manifest, DEFINITION, strlen(definition));
    write_text(to, DEFINITION, definition);
    text = manifest_text(manifest);
    write_text(to, MANIFEST_NAME, text);
    write_sums(from, to, definition, text);
    return definition;
}

static void make_vm(const struct making *making, const char *vm)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *definition = NULL;

    for (unsigned i = 0; i < making->points->len; i++) {
        g_free(definition);
        definition = copy_point(making, making->points->pdata[i], vm, uuid);
    }
    bundle_add_domain(making->bundle, vm, uuid, definition);
}

static void make_vapp(const struct making *making, unsigned number, unsigned vms)
{
    g_autofree char *path = g_strdup_printf("vapps/v%u.vapp", number);
    g_autofree char *db = g_strdup_printf("v%u-db", number);
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_append_printf(text, "[vapp]\nname = v%u\n[vm %s]\n", number, db);
    make_vm(making, db);
    for (unsigned i = 1; i < vms; i++) {
        g_autofree char *vm = g_strdup_printf("v%u-%u", number, i);

        g_string_append_printf(text, "[vm %s]\norder = 1\nafter = %s\n", vm, db);
        make_vm(making, vm);
    }
    bundle_add(making->bundle, path, text->str);
}

/* The catalog learns of the points when they are listed first. */
static void open_and_publish(const struct making *making)
{
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = catalog_open(making->store, &error);
    AUTO(store)
    store = catalog ? store_open_local(making->store, catalog, &snapshot_point_ops, &error) : NULL;
    g_autoptr(GPtrArray) points = store ? store_points(store, NULL, &error) : NULL;
    bool sent;

    if (!points || !bundle_publish(making->bundle, store, &sent, &error))
        die(making->store, error->message);
}

static GPtrArray *points_of(const char *from)
{
    g_autoptr(GError) error = NULL;
    AUTO(catalog) catalog = catalog_open(from, &error);
    AUTO(store)
    store = catalog ? store_open_local(from, catalog, &snapshot_point_ops, &error) : NULL;
    GPtrArray *points = store ? store_points(store, NULL, &error) : NULL;

    if (!points || points->len == 0)
        die(from, error ? error->message : "there is no point");
    return points;
}

int main(int argc, char **argv)
{
    unsigned vapps = argc == 5 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    unsigned vms = argc == 5 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;
    g_autoptr(GPtrArray) points = NULL;
    AUTO(bundle) bundle = NULL;

    if (vapps == 0 || vms == 0)
        die("usage", "bench-site STORE FROM VAPPS VMS");
    points = points_of(argv[2]);
    bundle = bundle_new(((const struct manifest *)points->pdata[0])->site);
    struct making making = {.store = argv[1], .from = argv[2], .points = points, .bundle = bundle};

    for (unsigned i = 0; i < vapps; i++)
        make_vapp(&making, i, vms);
    open_and_publish(&making);
    return EXIT_SUCCESS;
}
