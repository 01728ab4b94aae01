/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report of a run, for people: what was decided, what was done and when, what became of each VM.
 * The data is what run_show() gives and what follows from it; from that come the text on a terminal
 * and one HTML file that needs nothing else: no script, nothing from the network, pictures inside, fit
 * for paper and for dark screens. What guests and other sites have written into the run is shown as
 * text, never as markup.
 *
 * Every kind of run can be reported. These members are understood, where they are there; the rest of
 * plan and result is left out:
 *
 *     plan:   {site, vms: [{vm, point, time, consistency, host, findings: [text]}]}
 *     result: {rto_seconds, verdict: text,
 *              vms: [{vm, state, point, error, rto_seconds, rpo_seconds,
 *                     evidence: [{what: text, value: text, ok: true | false | null}],
 *                     pictures: [{caption: text, path: of a PNG file}]}]}
 *
 * A VM is named as the subject of its steps is.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

#include "common/common.h"

/* RUN, which is from run_show(), with these members more: {seconds (so far, or null), executed,
 * not_executed: how many steps, rpo_seconds: the longest, vms: [{vm, state, point, time, consistency,
 * host, rto_seconds, rpo_seconds, error, findings, evidence, steps: as in RUN}]}. Times that are not
 * known are null. The state of a VM that has no result follows from its steps: waiting, the name of the
 * step that runs, interrupted, failed, done, not-executed. */
json_t *run_report(const json_t *run);

/* What a VM's screen showed, for one. All borrowed. */
struct report_picture {
    const char *vm; /* NULL: of the run */
    const char *caption;
    const char *type; /* "image/png" */
    const void *data; /* NULL: it cannot be read any more */
    size_t len;
    const char *path;  /* of the file that it was read from, or NULL */
    const char *place; /* where a browser gets it; NULL: it lies in the page */
};

/* The pictures that RUN, from run_show(), names, as they are now; of struct report_picture, whose texts are
 * RUN's. */
GPtrArray *run_report_pictures(const json_t *run);
/* The same without what is in them. */
GPtrArray *run_report_picture_names(const json_t *run);
/* Read what is in one of these; false: it cannot be read any more. */
bool report_picture_load(struct report_picture *picture);

/* Append what a page about a run says, from its heading on. REPORT is from run_report(). */
void run_report_body(GString *html, const json_t *report, const struct report_picture *pictures,
                     size_t n_pictures);
/* The report of RUN as one HTML file; g_free. */
char *run_report_html(const json_t *run, const struct report_picture *pictures, size_t n_pictures);
