/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Documents: what read-only commands of drctl print, each by a process of its own, and kept for some seconds. Whoever asks
 * for one that is kept gets that; otherwise it is collected once for all who ask, at most DATA_COMMANDS_MAX at a time. What takes longer than somebody
 * waits, or fails, leaves the last one that there was. For any number of threads.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/common.h"

#define DATA_COMMANDS_MAX 4
#define DATA_KEPT_MAX 256
#define DATA_BYTES_MAX (64u << 20)

enum document_kind {
    DOCUMENT_STATUS,
    DOCUMENT_SCHEDULE,
    DOCUMENT_POINTS,    /* of one VM, or of all */
    DOCUMENT_POINTS_AT, /* of "REMOTE/VM" in the store of that site */
    DOCUMENT_RUNS,
    DOCUMENT_RUN, /* of one run */
    DOCUMENT_VAPPS,
    DOCUMENT_PLANS,
    DOCUMENT_SITES,
    DOCUMENT_METRICS,
    DOCUMENT_RPO_DAY, /* what was achieved of them since then */
    DOCUMENT_RPO_WEEK,
    DOCUMENT_RPO_MONTH,
    DOCUMENT_KINDS,
};

struct document {
    char *text; /* what was printed, or NULL: there was never one */
    size_t len;
    int64_t made_ms; /* wall clock; of TEXT */
    bool current;    /* TEXT is of the last attempt, and nothing newer is being waited for */
    int status;      /* exit status of the last attempt; -1: it could not be made */
    char *error;     /* why there is no newer one than TEXT; NULL: there is none to be had */
    char *notes;     /* what the last attempt said beside its result, or NULL */
};
void document_clear(struct document *document);
#define AUTO_DOCUMENT __attribute__((cleanup(document_clear))) struct document

struct data;
/* PROGRAM is drctl. */
struct data *data_new(const char *program, const char *config_dir);
/* After interrupt_request(): what is collected stops. */
void data_free(struct data *data);
DEFINE_CLEANUP(data)

/* The document of KIND, of ARG (NULL where it is of nothing in particular; else argument_is_safe()). Who is PATIENT
 * waits until it is there or cannot be had; others not for long, if there is an older one, and not at all if it has been
 * waited for already. */
void data_get(struct data *data, enum document_kind kind, const char *arg, bool patient,
              struct document *document);
/* Somebody is going to ask for it: without waiting. */
void data_want(struct data *data, enum document_kind kind);
/* The next one who asks for it gets a new one. */
void data_forget(struct data *data, enum document_kind kind);
