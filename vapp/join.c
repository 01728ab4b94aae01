/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions that are put together or cut down: what a recovery plan makes of them. */
#include <string.h>

#include "vapp/definition.h"

static bool fail_twice(const struct vapp *joined, const struct vapp *vapp, const char *vm,
                       GError **error)
{
    return fail(error, ERROR_CONFIG,
                "%s: VM '%s' of vApp '%s' is in another vApp of the plan already: each VM is "
                "brought up once",
                joined->name, vm, vapp->name);
}

static bool check_disjoint(const struct vapp *joined, const struct vapp *vapp, GHashTable *names,
                           GError **error)
{
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        struct vapp_vm *vm = vapp->vms->pdata[i];

        if (!g_hash_table_add(names, vm->name))
            return fail_twice(joined, vapp, vm->name, error);
    }
    return true;
}

static unsigned highest_order(const struct vapp *vapp)
{
    unsigned highest = 0;

    for (unsigned i = 0; i < vapp->vms->len; i++)
        highest = MAX(highest, ((const struct vapp_vm *)vapp->vms->pdata[i])->order);
    return highest;
}

/* Behind all that is there. */
static void append(struct vapp *joined, struct vapp *vapp)
{
    unsigned first = joined->vms->len > 0 ? highest_order(joined) + 1 : 0;
    GPtrArray *vms = g_steal_pointer(&vapp->vms);

    vapp->vms = g_ptr_array_new();
    for (unsigned i = 0; i < vms->len; i++)
        ((struct vapp_vm *)vms->pdata[i])->order += first;
    g_ptr_array_extend_and_steal(joined->vms, vms);
}

struct vapp *vapp_join(const char *name, GPtrArray *vapps, GError **error)
{
    AUTO(vapp) joined = g_ptr_array_steal_index(vapps, 0);
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

    check_disjoint(joined, joined, names, NULL);
    g_free(joined->name);
    joined->name = g_strdup(name);
    if (vapps->len > 0) {
        g_free(joined->text);
        joined->text = g_strdup("");
    }
    for (unsigned i = 0; i < vapps->len; i++) {
        if (!check_disjoint(joined, vapps->pdata[i], names, error))
            return NULL;
        append(joined, vapps->pdata[i]);
    }
    if (joined->vms->len > VAPP_VMS_MAX) {
        fail(error, ERROR_CONFIG,
             "%s: %u VMs, at most %d can be brought up together: make it "
             "several plans",
             name, joined->vms->len, VAPP_VMS_MAX);
        return NULL;
    }
    return g_steal_pointer(&joined);
}

static void forget(char **names, const char *name)
{
    char **to = names;

    for (char **from = names; *from; from++) {
        if (strcmp(*from, name) == 0)
            g_free(*from);
        else
            *to++ = *from;
    }
    *to = NULL;
}

void vapp_remove(struct vapp *vapp, const char *name)
{
    for (unsigned i = vapp->vms->len; i-- > 0;) {
        struct vapp_vm *vm = vapp->vms->pdata[i];

        if (strcmp(vm->name, name) != 0)
            forget(vm->after, name);
        else
            g_ptr_array_remove_index(vapp->vms, i);
    }
}
