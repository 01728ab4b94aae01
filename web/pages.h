/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages. Each makes of documents that were collected, parsed, what a browser shows. What is NULL is not known; what has
 * not the shape that drctl(1) describes is left out.
 */
#pragma once

#include "web/markup.h"

struct papers {
    const json_t *status, *schedule, *runs, *run, *points, *vapps, *plans, *sites, *rpo;
    unsigned rpo_kind;          /* enum document_kind of RPO */
    struct document *documents; /* DOCUMENT_KINDS of them: how new they are */
    const char *subject;        /* the VM or the run that the page is about */
};

void page_overview(struct page *page, const struct papers *papers);
void page_vapps(struct page *page, const struct papers *papers);
void page_rpo(struct page *page, const struct papers *papers);
void page_vms(struct page *page, const struct papers *papers);
void page_points(struct page *page, const struct papers *papers);
void page_jobs(struct page *page, const struct papers *papers);
void page_runs(struct page *page, const struct papers *papers);
void page_run(struct page *page, const struct papers *papers);
/* PROBLEM may be NULL. NEXT is where to go on then. */
void page_login(struct page *page, const char *next, const char *problem);
void page_problem(struct page *page, const char *title, const char *text);

/* What is told in one word of a VM of "protected" of drctl status. */
const char *protected_state(const json_t *vm);
/* Of two such words, or severities of problems, the one that is worse; NULL is better than all. */
const char *worse_state(const char *a, const char *b);
/* The last SOME runs as a table; all: 0. */
void runs_table(struct page *page, const json_t *runs, const char *label, size_t some);
void jobs_table(struct page *page, const json_t *schedule, const char *label, size_t some);

/* Is the picture PATH, which a run names, there, and of what may be shown? */
bool evidence_is_ours(const struct config *config, const char *path);

/* What is not of the report's style sheet. */
extern const char web_style[];
extern const char web_icon[];
