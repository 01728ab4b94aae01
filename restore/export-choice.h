/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an export is of: a vApp or one VM, and a point of each VM: all of one round if there is one, otherwise the
 * newest of each. Private to restore/.
 */
#pragma once

#include "restore/origin.h"
#include "restore/source.h"

struct export_choice {
    struct source source;
    GPtrArray *origins; /* of struct origin, as the VMs of source.order */
};

/* CHOICE is zeroed by the caller, and cleared by him in any case. */
bool export_choose(const struct site *site, const struct export_request *request,
                   struct export_choice *choice, GError **error);
/* Not one VM. */
bool export_is_vapp(const struct export_choice *choice);
void export_choice_clear(struct export_choice *choice);
