/* SPDX-License-Identifier: Apache-2.0 */
/* What keeps a point until nothing of it is needed for sure. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "restore/hydrate.h"
#include "restore/restore.h"

/* When all is copied QEMU takes the backing file out of the header at once, and keeps the tables that say where the
 * copies are in its memory until the guest flushes its disk. If the host dies before that, the image has not what was
 * copied, and its header no name of where it was. libvirt may die, too, before it has taken the chain out of the
 * definition, which must lead somewhere then. So beside an image that is pulled lies a copy of its first cluster, which
 * replicator/usage.h follows as it does every image. */
#define PIN_SUFFIX ".pulled"
#define HEAD_BYTES 65536u
#define MAP_TIMEOUT_S 600

static char *pin_path(const struct hydrating_disk *disk)
{
    return g_strconcat(disk->path, PIN_SUFFIX, NULL);
}

bool hydration_pin(const struct hydrating_disk *disk, GError **error)
{
    g_autofree char *pin = pin_path(disk);
    g_autofree char *head = g_malloc(HEAD_BYTES);
    AUTO_FD fd = open(disk->path, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (g_file_test(pin, G_FILE_TEST_EXISTS))
        return true;
    got = fd < 0 ? -1 : pread(fd, head, HEAD_BYTES, 0);
    if (got < 0)
        return fail_errno(error, errno, "cannot read %s", disk->path);
    return file_write(pin, head, (size_t)got, 0600, error);
}

/* PATH above BELOW, whatever its header says; g_free. */
static char *above(const char *path, const char *below)
{
    json_auto_t *image = json_object();
    json_t *file = json_object(), *backing = json_object(), *backing_file = json_object();
    g_autofree char *text = NULL;

    json_set_string(file, "driver", "file");
    json_set_string(file, "filename", path);
    json_set_string(backing_file, "driver", "file");
    json_set_string(backing_file, "filename", below);
    json_set_string(backing, "driver", "qcow2");
    json_object_set_new(backing, "file", backing_file);
    json_set_string(image, "driver", "qcow2");
    json_object_set_new(image, "file", file);
    json_object_set_new(image, "backing", backing);
    text = json_text(image, 0);
    return g_strconcat("json:", text, NULL);
}

/* Does the file PATH hold all data that BELOW has, at its place? */
static bool holds_all(const char *path, const char *below)
{
    g_autofree char *image = above(path, below);
    const char *const argv[] = {"qemu-img", "map", "-U", "--output=json", image, NULL};
    g_autofree char *text = NULL;
    json_auto_t *map = NULL;
    const json_t *extent;
    size_t i;

    if (!process_run(argv, MAP_TIMEOUT_S, &text, NULL))
        return false;
    map = json_parse(text, strlen(text), "the output of qemu-img", NULL);
    json_array_foreach(map, i, extent)
    {
        if (json_is_true(json_object_get(extent, "data")) &&
            json_integer_value(json_object_get(extent, "depth")) > 0)
            return false;
    }
    return map != NULL;
}

static bool sync_file(const char *path)
{
    AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd >= 0 && fdatasync(fd) == 0;
}

/* Does the definition that the next start uses say that DISK stands alone? */
static bool is_defined_alone(const struct xml_node *domain, const struct hydrating_disk *disk)
{
    g_autoptr(GPtrArray) disks = xml_find_all(domain, "devices/disk");

    for (unsigned i = 0; i < disks->len; i++) {
        g_autofree char *target = xml_string(disks->pdata[i], "target/@dev");

        if (g_strcmp0(target, disk->target) == 0)
            return !xml_find(disks->pdata[i], "backingStore/source");
    }
    return false;
}

static void unpin(const struct xml_node *domain, const struct hydrating_disk *disk)
{
    g_autofree char *pin = pin_path(disk);
    g_autofree char *below = NULL;

    if (is_defined_alone(domain, disk) && store_backing_name(pin, &below, NULL) &&
        (!below || (holds_all(disk->path, below) && sync_file(disk->path))))
        tree_remove(pin, NULL);
}

/* Whatever fails, the pin stays. */
void hydration_unpin(const struct hydration *hydration)
{
    AUTO(xml) xml = NULL;

    for (unsigned i = 0; i < hydration->disks->len; i++) {
        const struct hydrating_disk *disk = hydration->disks->pdata[i];
        g_autofree char *pin = pin_path(disk);
        g_autofree char *text = NULL;

        if (disk->point || !g_file_test(pin, G_FILE_TEST_EXISTS))
            continue;
        text = xml ? NULL : domain_xml(hydration->domain, DOMAIN_XML_INACTIVE, NULL);
        if (text)
            xml = xml_parse(text, hydration->vm, NULL);
        if (xml)
            unpin(xml_root(xml), disk);
    }
}
