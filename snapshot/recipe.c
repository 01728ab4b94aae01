/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/recipe.h"

static void add_disk(GString *text, const struct manifest *manifest, const struct vm_disk *disk)
{
    g_autofree char *quoted = g_shell_quote(manifest_disk(manifest, disk->target)->file);

    g_string_append_printf(text, "    qemu-img convert -p -O qcow2 %s \"$DEST\"/%s-%s.qcow2\n",
                           quoted, manifest->point, disk->target);
}

/* One sed expression for each disk that had a file of its own. */
static void add_sed(GString *text, const struct manifest *manifest, const struct vm_disk *disk)
{
    g_autofree char *escaped = disk->source ? g_markup_escape_text(disk->source, -1) : NULL;
    g_autofree char *pattern = escaped ? g_regex_escape_string(escaped, -1) : NULL;
    g_autofree char *expression = NULL;
    g_autofree char *quoted = NULL;

    if (!pattern)
        return;
    expression =
        g_strdup_printf("s|'%s'|'@DEST@/%s-%s.qcow2'|", pattern, manifest->point, disk->target);
    quoted = g_shell_quote(expression);
    g_string_append_printf(text, "        -e %s \\\n", quoted);
}

static bool stands_on_other_vms(const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->disks->len; i++)
        if (((const struct manifest_disk *)manifest->disks->pdata[i])->base_vm)
            return true;
    return false;
}

char *recipe_text(const struct manifest *manifest, GPtrArray *disks, bool has_nvram)
{
    GString *text = g_string_new(NULL);
    g_autofree char *time = time_format(manifest->time_ms);
    g_autofree char *vm = g_shell_quote(manifest->vm);

    g_string_append_printf(
        text,
        "Recovery point %s of the VM \"%s\" (UUID %s), taken at %s at site \"%s\",\n"
        "%s-consistent. How to restore it by hand, without drctl, from this directory:\n\n"
        "1. Is it whole? (Do the same in the directories of the points below it; each image names\n"
        "   the one it is based on: qemu-img info --backing-chain FILE.)\n\n"
        "    sha256sum -c SHA256SUMS\n\n"
        "%s2. Disks, complete and independent of this store:\n\n"
        "    DEST=/var/lib/libvirt/images\n",
        manifest->point, manifest->vm, manifest->uuid, time, manifest->site,
        consistency_name(manifest->consistency),
        stands_on_other_vms(manifest) ? "   Some of these points are of other VMs: if you copy "
                                        "them, keep the whole of vms/.\n\n"
                                      : "");
    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (!disk->skipped)
            add_disk(text, manifest, disk);
    }
    g_string_append(text,
                    "\n3. The definition, with the disks at their new places:\n\n    sed \\\n");
    for (unsigned i = 0; i < disks->len; i++) {
        const struct vm_disk *disk = disks->pdata[i];

        if (!disk->skipped)
            add_sed(text, manifest, disk);
    }
    g_string_append_printf(text,
                           "        domain.xml | sed \"s|@DEST@|$DEST|\" > \"$DEST\"/%s.xml\n\n",
                           manifest->point);
    if (has_nvram)
        g_string_append(
            text, "   It boots by UEFI: copy nvram.fd to the path in its <nvram> element.\n\n");
    g_string_append_printf(
        text,
        "   Networks, CD-ROM media and the machine type must exist on this host; edit the file\n"
        "   where they do not. Then:\n\n"
        "    virsh define \"$DEST\"/%s.xml\n    virsh start %s\n\n"
        "Make sure that the original VM does not run any more before you start this one.\n",
        manifest->point, vm);
    return g_string_free(text, FALSE);
}
