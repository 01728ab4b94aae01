/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which site owns a VM: may run it, and may have points of it taken. STORE/owners/<uuid>.json in the
 * store of every site that has heard of it, see drctl-store(5):
 *
 *     {"format": 1, "uuid", "vm", "site", "epoch": 1.., "since": RFC 3339, "run": id | null}
 *
 * Of two records of a VM the one with the higher epoch is true, whatever the clocks say; each claim makes
 * the next epoch. A VM without a record has never been failed over: its epoch is 0, and it belongs to
 * whoever takes points of it. Records are durable, they are never removed, and an epoch never goes back.
 *
 * Two sites that claim the same epoch, because neither heard of the other, are a conflict that only a
 * person can decide: by a failover at the site that shall have the VM, which makes the next epoch.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

#define OWNER_FORMAT 1
#define OWNER_MAX_BYTES 4096u
/* In one store: far more than there are VMs. */
#define OWNERS_MAX 16384u
/* How far a record may be ahead of the one before it. A failover counts by one; who could jump to the end
 * would own the VM for ever. */
#define OWNER_EPOCHS_AHEAD (UINT64_C(1) << 20)
/* Where the record that was here cannot be read, a claim is so far ahead of all others that are known. */
#define OWNER_EPOCHS_UNKNOWN 1024u

struct owner {
    char uuid[37];
    char *vm;   /* its name when it was claimed */
    char *site; /* that owns it */
    uint64_t epoch;
    int64_t since_ms; /* by the clock of that site */
    char *run;        /* that claimed it, or NULL */
};

struct owner *owner_new(const char *uuid, const char *vm, const char *site, uint64_t epoch,
                        const char *run);
struct owner *owner_copy(const struct owner *owner);
void owner_free(struct owner *owner);
DEFINE_CLEANUP(owner)
GPtrArray *owners_new(void); /* of struct owner */

json_t *owner_json(const struct owner *owner);
/* Everything is checked; ERROR_INTEGRITY. */
struct owner *owner_parse(const json_t *json, GError **error);
/* "dr1 since 2026-11-20T22:15:00Z (epoch 3)"; g_free. */
char *owner_text(const struct owner *owner);

/* The record of a VM in the store at STORE_PATH; *OUT is NULL when there is none. One that cannot be read
 * is ERROR_INTEGRITY, with the way out. */
bool owner_read(const char *store_path, const char *uuid, struct owner **out, GError **error);
/* Why a record was not put down. */
struct owner_refusal {
    char uuid[37];
    GError *why;
};
GPtrArray *owner_refusals_new(void); /* of struct owner_refusal */
/* Takes WHY. */
void owner_refuse(GPtrArray *refused, const char *uuid, GError *why);
/* Fail by the first, if there is one. */
bool owner_refused_none(const GPtrArray *refused, GError **error);
/* Put down OWNERS, durably, with one fsync of the directory for all. Fine if just that site has just that epoch
 * already; those that are not newer, and wrong ones, are added to REFUSED: ERROR_CONFLICT names who has a newer epoch,
 * or the same. */
bool owners_claim(const char *store_path, const GPtrArray *owners, GPtrArray *refused,
                  GError **error);
/* One; a refusal is an error. */
bool owner_claim(const char *store_path, const struct owner *owner, GError **error);
/* Make the site of each of CLAIMS the owner, by the epoch after the one that is known here and after the claim's own,
 * which is the highest that others know. Nothing changes where it is the newest owner already. A record that cannot be
 * read is replaced: a failover must not fail for it. What holds now, in the order of CLAIMS; of struct owner. All are
 * durable then, with one fsync of the directory; after an error some may be. */
GPtrArray *owners_take(const char *store_path, const GPtrArray *claims, GError **error);
/* One, with ABOVE in the place of its own epoch. */
bool owner_take(const char *store_path, const struct owner *claim, uint64_t above,
                struct owner **out, GError **error);
/* All records that can be read; of struct owner, in the order of their UUIDs. */
GPtrArray *owner_list(const char *store_path, GError **error);

/* Who takes a point of a VM now, and as of which epoch. */
struct taker {
    const char *site;
    uint64_t epoch;
};
/* May TAKER add points of the VM to the store at STORE_PATH? ERROR_AUTH, as waiting does not help, names
 * the owner, since when, and the way out. */
bool owner_admits(const char *store_path, const char *uuid, const struct taker *taker,
                  GError **error);
/* The same for the record itself, which may be NULL. */
bool owner_is(const struct owner *owner, const struct taker *taker, GError **error);
