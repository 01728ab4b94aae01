/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of the definition of a vApp, which a pool bundle brings from another site. The input is
 * the file.
 */
#include <string.h>

#include "tests/fuzz.h"
#include "vapp/vapp.h"

/* Whatever VM is waited for comes before, in the order of the file or in one that is lower. */
static void check_order(const struct vapp *vapp)
{
    g_autoptr(GHashTable) before = g_hash_table_new(g_str_hash, g_str_equal);
    unsigned order = 0;

    for (unsigned i = 0; i < vapp->vms->len; i++) {
        struct vapp_vm *vm = vapp->vms->pdata[i];

        fuzz_require(*vm->name && vm->order >= order);
        for (char **name = vm->after; *name; name++)
            fuzz_require(g_hash_table_contains(before, *name));
        fuzz_require(vm->ready != READY_TCP || vm->ready_port > 0);
        fuzz_require(vm->ready_timeout_ms > 0 && vm->delay_ms >= 0 && vm->stop_timeout_ms >= 0);
        fuzz_require(g_hash_table_add(before, vm->name));
        order = vm->order;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    AUTO(vapp) vapp = vapp_parse((const char *)data, len, "shop.vapp", &error);
    AUTO(vapp) again = NULL;

    fuzz_require((vapp != NULL) == (error == NULL));
    if (!vapp)
        return 0;
    fuzz_require(name_is_safe(vapp->name) && vapp->vms->len > 0);
    check_order(vapp);
    again = vapp_parse(vapp->text, strlen(vapp->text), "what it keeps", NULL);
    fuzz_require(again && again->vms->len == vapp->vms->len);
    return 0;
}
