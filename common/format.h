/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers and times for people, and back. Instants are int64_t milliseconds since the epoch, UTC;
 * durations in files are "90s", "10min", "2h"; sizes "64KiB", "20MiB" (binary) or plain bytes.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

int64_t time_now_ms(void);       /* wall clock */
int64_t time_monotonic_ms(void); /* for measuring and deadlines */
/* "2026-11-20T22:15:00.123Z"; g_free */
char *time_format(int64_t ms);
/* "2026-11-20 22:15:00" in local time, for tables; g_free */
char *time_format_local(int64_t ms);
bool time_parse(const char *text, int64_t *ms, GError **error);
/* The id of a recovery point taken at MS: "20261120T221500.123Z", which sorts by time; g_free */
char *point_id_format(int64_t ms);
/* False unless TEXT is exactly such an id. */
bool point_id_parse(const char *text, int64_t *ms);

/* "1.2 GiB", "37 MiB", "512 B"; three significant digits; g_free */
char *bytes_format(uint64_t bytes);
/* "4.2 s", "3 min 10 s", "2 h 5 min", "3 d 4 h"; g_free */
char *duration_format(double seconds);
/* "30", "30s", "500ms", "10min" or "10m", "2h", "1d" -> milliseconds */
bool duration_parse(const char *text, int64_t *ms, GError **error);
bool bytes_parse(const char *text, uint64_t *bytes, GError **error);
/* Somebody else's text for people: without what is not printable, and cut where it is longer than MAX; g_free */
char *text_harmless(const char *text, size_t max);
