/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report of a run, for people: what was decided, what was done and when, what became of each VM.
 * All of it is in what run_show() gives, which is the report as JSON; here it becomes text for a
 * terminal, or one HTML file that needs nothing else: no script, nothing from the network, pictures
 * inside, fit for paper and for dark screens. What guests and other sites have written into the
 * run is shown as text, never as markup.
 *
 * Every kind of run can be reported. These members are understood, where they are there; the rest of
 * plan and result is left out:
 *
 *     plan:   {site, vms: [{vm, order, point, time, consistency, host, blocked, findings: [text]}]}
 *     result: {rto_seconds, verdict: text,
 *              vms: [{vm, state, point, error, rto_seconds, rpo_seconds,
 *                     evidence: [{what: text, value: text, ok: true | false | null}]}]}
 *
 * A VM is named as the subject of its steps is.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

#include "common/common.h"

/* What a VM's screen showed, for one. All borrowed. */
struct report_picture {
    const char *vm; /* NULL: of the run */
    const char *caption;
    const char *type; /* "image/png" */
    const void *data;
    size_t len;
};

/* RUN is from run_show(). g_free. */
char *run_report_text(const json_t *run);
char *run_report_html(const json_t *run, const struct report_picture *pictures, size_t n_pictures);
