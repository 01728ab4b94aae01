/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "vapp/definition.h"

/* A depth-first walk: a VM gets its place when all that it is after have theirs. */
struct solver {
    const char *what;
    GPtrArray *vms;    /* of struct vapp_vm, by order, then as in the file */
    GHashTable *index; /* name -> index in vms */
    bool *placed;
    GPtrArray *path;   /* of struct vapp_vm: each is after the next one; none has a place yet */
    GPtrArray *sorted; /* of struct vapp_vm: the result */
};

static struct vapp_vm *vm_at(const struct solver *solver, unsigned i)
{
    return g_ptr_array_index(solver->vms, i);
}

static bool index_of(const struct solver *solver, const char *name, unsigned *i)
{
    void *value;

    if (!g_hash_table_lookup_extended(solver->index, name, NULL, &value))
        return false;
    *i = GPOINTER_TO_UINT(value);
    return true;
}

static bool fail_unknown(const struct solver *solver, const struct vapp_vm *vm, const char *name,
                         GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);

    for (unsigned i = 0; i < solver->vms->len; i++)
        g_string_append_printf(known, "%s%s", i ? ", " : "", vm_at(solver, i)->name);
    return fail(error, ERROR_CONFIG,
                "%s: [vm %s] after: there is no VM '%s' in this vApp, it has: %s", solver->what,
                vm->name, name, known->str);
}

static bool check_dependency(const struct solver *solver, const struct vapp_vm *vm,
                             const char *name, GError **error)
{
    const struct vapp_vm *other;
    unsigned i;

    if (!index_of(solver, name, &i))
        return fail_unknown(solver, vm, name, error);
    other = vm_at(solver, i);
    if (other->order > vm->order)
        return fail(error, ERROR_CONFIG,
                    "%s: [vm %s] after: '%s' has order %u, which starts later than order %u of "
                    "'%s'; a VM can only be after VMs of its own or a lower order",
                    solver->what, vm->name, name, other->order, vm->order, vm->name);
    return true;
}

static bool check_dependencies(const struct solver *solver, GError **error)
{
    for (unsigned i = 0; i < solver->vms->len; i++) {
        const struct vapp_vm *vm = vm_at(solver, i);

        for (char **name = vm->after; *name; name++)
            if (!check_dependency(solver, vm, *name, error))
                return false;
    }
    return true;
}

/* VM stands on the path already: from there to the end is the cycle. */
static bool fail_cycle(const struct solver *solver, const struct vapp_vm *vm, unsigned start,
                       GError **error)
{
    g_autoptr(GString) cycle = g_string_new(NULL);

    for (unsigned i = start; i < solver->path->len; i++) {
        const struct vapp_vm *step = g_ptr_array_index(solver->path, i);

        g_string_append_printf(cycle, "%s -> ", step->name);
    }
    return fail(error, ERROR_CONFIG,
                "%s: [vm %s] after: a cycle in which each waits for the next: %s%s", solver->what,
                vm->name, cycle->str, vm->name);
}

static bool place(struct solver *solver, unsigned i, GError **error)
{
    struct vapp_vm *vm = vm_at(solver, i);
    unsigned other;

    if (solver->placed[i])
        return true;
    if (g_ptr_array_find(solver->path, vm, &other))
        return fail_cycle(solver, vm, other, error);
    g_ptr_array_add(solver->path, vm);
    for (char **name = vm->after; *name; name++)
        if (index_of(solver, *name, &other) && !place(solver, other, error))
            return false;
    g_ptr_array_remove_index(solver->path, solver->path->len - 1);
    solver->placed[i] = true;
    g_ptr_array_add(solver->sorted, vm);
    return true;
}

/* Dependencies never lead to a later order, so a VM is never placed before one of a lower order. */
static bool place_all(struct solver *solver, GError **error)
{
    for (unsigned i = 0; i < solver->vms->len; i++)
        if (!place(solver, i, error))
            return false;
    return true;
}

static int compare_order(const void *a, const void *b)
{
    const struct vapp_vm *const *left = a, *const *right = b;

    return ((*left)->order > (*right)->order) - ((*left)->order < (*right)->order);
}

bool order_solve(const char *what, GPtrArray *vms, GError **error)
{
    g_autoptr(GPtrArray) by_order = g_ptr_array_copy(vms, NULL, NULL);
    g_autoptr(GHashTable) index = g_hash_table_new(g_str_hash, g_str_equal);
    g_autofree bool *placed = g_new0(bool, vms->len);
    g_autoptr(GPtrArray) path = g_ptr_array_new();
    g_autoptr(GPtrArray) sorted = g_ptr_array_new();
    struct solver solver = {what, by_order, index, placed, path, sorted};

    g_ptr_array_set_free_func(by_order, NULL);
    g_ptr_array_sort(by_order, compare_order); /* stable, by GLib's promise */
    for (unsigned i = 0; i < by_order->len; i++)
        g_hash_table_insert(index, vm_at(&solver, i)->name, GUINT_TO_POINTER(i));
    if (!check_dependencies(&solver, error) || !place_all(&solver, error))
        return false;
    memcpy(vms->pdata, sorted->pdata, vms->len * sizeof(*vms->pdata));
    return true;
}
