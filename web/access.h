/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may ask: whoever has the token, by itself or by the session that it has opened. Secrets are compared by their
 * SHA-256 digests, so the time that takes tells nothing of them. Instants are of time_monotonic_ms(), given by the caller. For any number of threads.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/common.h"

#define ACCESS_TOKEN_MIN 32 /* characters */
#define ACCESS_SESSIONS_MAX 64
#define ACCESS_SESSION_MS (INT64_C(12) * 3600 * 1000)
#define ACCESS_FAILURES_MAX 10
#define ACCESS_FAILURES_MS 60000

struct access;
struct access *access_new(const char *token_file);
void access_free(struct access *access);
DEFINE_CLEANUP(access)

/* Write a token of 256 random bits into PATH, for its owner only, unless there is one. */
bool access_token_make(const char *path, GError **error);
/* The token of PATH: its first line. ERROR_CONFIG: others may read or write it, or it is too short. g_free */
char *access_token_read(const char *path, GError **error);

enum access_answer {
    ACCESS_GRANTED,
    ACCESS_REFUSED,
    ACCESS_LATER,  /* too many wrong ones came from there */
    ACCESS_CLOSED, /* the token cannot be read: *ERROR says why */
};
/* Is TOKEN right? PEER is the numeric address that it comes from. The file is read each time, so a new token holds at once. */
enum access_answer access_try(struct access *access, const char *peer, const char *token,
                              int64_t now_ms, GError **error);

/* A session begins: what its cookie says; g_free. Of too many the oldest ends. */
char *access_begin(struct access *access, int64_t now_ms);
/* Is COOKIE (may be NULL) one of a session? */
bool access_goes_on(struct access *access, const char *cookie, int64_t now_ms);
void access_end(struct access *access, const char *cookie);
/* What a form of that session must bring with it; g_free. It does not tell the cookie. */
char *access_form_token(const char *cookie);
/* Are the secrets A and B the same? NULL is like nothing. */
bool access_same(const char *a, const char *b);
