/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test failover leaves: STORE/evidence/<run>/ with evidence.json, see drctl-store(5), and a screenshot
 * of each VM. Private to restore/.
 */
#pragma once

#include "restore/restore.h"

char *evidence_dir(const struct site *site, const char *run); /* g_free */
/* Look at DOMAIN, which VM (name) runs as: adds "guest", "screenshot" and "screenshot_problem" to ENTRY. */
void evidence_look(const char *dir, const char *vm, const char *vm_uuid, struct domain *domain,
                   json_t *entry);
/* All that is in ENTRY for people, as "evidence": [{what, value, ok: true | false | null}]. */
void evidence_list(json_t *entry);
/* EVIDENCE (may be NULL) as the result of the run, which its report shows, with the pictures in DIR. */
json_t *evidence_for_run(const json_t *evidence, const char *dir);
/* What evidence_save() left in DIR; NULL when there is nothing that can be read. */
json_t *evidence_load(const char *dir);
bool evidence_save(const char *dir, const json_t *evidence, GError **error);
