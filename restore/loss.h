/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What disks of a point have lost (struct lost_disk of restore.h): how it is told, kept in a journal, and
 * compared with what somebody has accepted. Lists are GPtrArrays of struct lost_disk. Private to restore/.
 */
#pragma once

#include "restore/restore.h"

/* Of disk TARGET; LOSS says what. Where it is very scattered, some of what is good counts as lost, too. */
struct lost_disk *lost_disk_new(const char *target, const struct chain_loss *loss);
struct lost_disk *lost_disk_copy(const struct lost_disk *lost);
void lost_disk_free(void *lost);
GPtrArray *lost_disks_new(void);
/* From lost_disks_json(); ERROR_INTEGRITY. JSON may be NULL: nothing is lost. */
GPtrArray *lost_disks_parse(const json_t *json, GError **error);
/* What of TARGET is lost, or NULL. */
const struct lost_disk *lost_disk_of(const GPtrArray *lost, const char *target);
/* All of them in one line, as lost_disk_text(); g_free. */
char *lost_disks_text(const GPtrArray *lost);
/* How what is lost can be had again, for messages about VM. */
#define LOST_WAY_OUT "`drctl heal %s`, or with --from another store, may get it back"
