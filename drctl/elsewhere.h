/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points that the store of this site does not have, or not whole, and other stores of drctl.conf do: the nearest healthy
 * copy is used. What is needed is brought here first, so that all that can be done with a point can be done with it. The
 * stores are asked in the order of drctl.conf; one that does not answer is told, and left alone.
 */
#pragma once

#include "drctl/command.h"

/* Copy POINT of VM (a name or a UUID; POINT NULL: the newest) here from the store FROM (NULL: from any, unless it is
 * here already), with all that it is based on. *FOUND (g_free) is the id of what came; NULL if it was here, or nobody has
 * it: then whoever looks for it here says so. ERROR_NOT_FOUND if FROM does not have it. */
bool elsewhere_fetch(struct context *context, const char *vm, const char *point, const char *from,
                     char **found, GError **error);

/* Make whole what is damaged of POINT of VM (NULL: the newest) and of all that it is based on, as far as anybody can:
 * from this store, else from others. With LOOK they are verified first, else what is noted counts. *MENDED: something was.
 * False only when interrupted. */
bool elsewhere_mend(struct context *context, const char *vm, const char *point, bool look,
                    bool *mended, GError **error);
