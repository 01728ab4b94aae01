/* SPDX-License-Identifier: Apache-2.0 */
/* A restore over the VM itself; a part of restore_execute(), and as that one. Private to restore/. */
#pragma once

#include "restore/restore.h"

bool restore_over(const struct site *site, const struct restore_request *request,
                  struct restore_result *result, GError **error);
