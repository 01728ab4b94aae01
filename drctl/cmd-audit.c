/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"
#include "drctl/period.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LIST_DEFAULT_MS (INT64_C(7) * 24 * 3600 * 1000)

/* --- list ------------------------------------------------------------------------------------ */

struct listing {
    struct period period;
    json_t *entries;   /* what was done, oldest first */
    GHashTable *begun; /* seq -> entry, borrowed: has not ended as far as we have come */
};

static uint64_t u64_of(const json_t *entry, const char *key)
{
    uint64_t value = 0;

    json_need_u64(entry, key, &value, NULL);
    return value;
}

/* The end takes the place of the beginning. */
static void list_entry(const json_t *entry, void *data)
{
    struct listing *listing = data;
    uint64_t began = u64_of(entry, "began");
    json_t *first = began ? g_hash_table_lookup(listing->begun, &began) : NULL;
    uint64_t seq = u64_of(entry, "seq");
    json_t *copy;

    if (first) {
        json_t *end = json_deep_copy(entry);

        /* When it was done is when it was begun. */
        json_object_set(end, "ended", json_object_get(entry, "time"));
        json_object_set(end, "time", json_object_get(first, "time"));
        json_object_update(first, end);
        json_decref(end);
        g_hash_table_remove(listing->begun, &began);
        return;
    }
    if (!period_has(&listing->period, entry, "time"))
        return;
    copy = json_deep_copy(entry);
    json_array_append_new(listing->entries, copy);
    if (g_strcmp0(json_get_string(entry, "event"), "began") == 0)
        g_hash_table_insert(listing->begun, g_memdup2(&seq, sizeof(seq)), copy);
}

/* "root (ann)"; g_free */
static char *who_text(const json_t *entry)
{
    const char *user = json_get_string(entry, "user"), *sudo = json_get_string(entry, "sudo_user");

    return sudo ? g_strdup_printf("%s (%s)", user, sudo) : g_strdup(user);
}

static char *result_text(const json_t *entry)
{
    const char *result = json_get_string(entry, "result"), *error = json_get_string(entry, "error");

    if (!result)
        return g_strdup("runs, or was killed");
    return error ? g_strdup_printf("%s: %s", result, error) : g_strdup(result);
}

static void print_entries(const json_t *entries)
{
    static const char *const headers[] = {"TIME", "WHO", "FROM", "COMMAND", "RUN", "RESULT", NULL};
    AUTO(table) table = table_new(headers);
    const json_t *entry;
    size_t i;

    json_array_foreach(entries, i, entry)
    {
        g_autofree char *who = who_text(entry);
        g_autofree char *result = result_text(entry);
        g_autofree char *when = time_text(entry, "time");

        table_row(table, (const char *[]){when, who, json_get_string(entry, "from"),
                                          json_get_string(entry, "command"),
                                          json_get_string(entry, "run"), result});
    }
    table_print(table);
}

static void tell_chain(struct context *context, const struct audit_chain *chain)
{
    if (chain->problem)
        progress_note(context->progress,
                      "the audit log was changed by somebody, or is damaged: %s; see: drctl audit "
                      "verify",
                      chain->problem);
    if (chain->ends_torn)
        progress_note(context->progress,
                      "the last line of the audit log is cut off: drctl or the host was killed "
                      "while it was written");
}

static bool cmd_audit_list(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    json_auto_t *entries = json_array();
    g_autoptr(GHashTable) begun = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct listing listing = {.entries = entries, .begun = begun};
    AUTO_AUDIT_CHAIN chain = {0};

    if (!config || !period_read(context, LIST_DEFAULT_MS, &listing.period, error))
        return false;
    /* Whoever sets the clock ahead for a while hides nothing. */
    if (!option_set(context, "to"))
        listing.period.to_ms = INT64_MAX;
    if (!audit_walk(config->store, NULL, list_entry, &listing, &chain, error))
        return false;
    if (context->json)
        print_json(entries);
    else if (json_array_size(entries) > 0)
        print_entries(entries);
    else
        fprintf(stderr, "Nothing that changes something was done in that time.\n");
    tell_chain(context, &chain);
    return true;
}

/* --- verify ---------------------------------------------------------------------------------- */

static json_t *chain_json(const struct audit_chain *chain)
{
    json_t *json = json_object();

    json_set_u64(json, "entries", chain->entries);
    json_set_u64(json, "first", chain->first_seq);
    json_set_string(json, "from", chain->first_time);
    json_set_string(json, "to", chain->last_time);
    json_set_string(json, "digest", *chain->last_digest ? chain->last_digest : NULL);
    json_set_u64(json, "torn", chain->torn);
    json_object_set_new(json, "ends_torn", json_boolean(chain->ends_torn));
    json_set_string(json, "problem", chain->problem);
    return json;
}

static void print_chain(const struct audit_chain *chain)
{
    if (chain->entries == 0) {
        puts("The audit log is empty.");
        return;
    }
    printf("%" PRIu64 " %s from %s to %s: one chain.\n", chain->entries,
           chain->entries == 1 ? "entry" : "entries", chain->first_time, chain->last_time);
    if (chain->first_seq > 1)
        printf("It begins with number %" PRIu64 ": older ones were dropped.\n", chain->first_seq);
    if (chain->torn > 0)
        printf("%u line%s cut off by a crash%s.\n", chain->torn,
               chain->torn == 1 ? " was" : "s were",
               chain->ends_torn ? ", the last one among them" : "");
    printf(
        "Its last line has the digest\n    %s\nKeep that elsewhere: drctl audit verify --contains "
        "DIGEST\ntells later that nothing up to here was changed or removed.\n",
        chain->last_digest);
}

static bool cmd_audit_verify(struct context *context, GError **error)
{
    const struct config *config = context_config(context, error);
    const char *digest = option_value(context, "contains");
    uint8_t bytes[DIGEST_SIZE];
    AUTO_AUDIT_CHAIN chain = {0};

    if (digest && !digest_from_hex(digest, bytes))
        return fail(error, ERROR_USAGE, "--contains: \"%s\" is no SHA-256 in hex", digest);
    if (!config || !audit_walk(config->store, digest, NULL, NULL, &chain, error))
        return false;
    if (context->json) {
        json_auto_t *json = chain_json(&chain);

        print_json(json);
    }
    if (chain.problem)
        return fail(error, ERROR_INTEGRITY,
                    "the audit log in %s/audit was changed, or is damaged: %s; what stands before "
                    "is one chain, compare what follows with a copy",
                    config->store, chain.problem);
    if (digest && !chain.contains)
        return fail(error, ERROR_INTEGRITY,
                    "the audit log in %s/audit has no line with that digest: it was made anew, or "
                    "lines at its end were removed",
                    config->store);
    if (!context->json)
        print_chain(&chain);
    return true;
}

static const struct option list_options[] = {PERIOD_FROM_OPTION, PERIOD_TO_OPTION, {0}};

static const struct option verify_options[] = {
    {"contains", "DIGEST", "and that of this line is among them"},
    {0},
};

const struct command audit_commands[] = {
    {
        .name = "audit list",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "show who did what here, and what came of it",
        .text =
            "All commands that change something, and what other sites did here. The last 7 days,\n"
            "unless --from says otherwise.",
        .options = list_options,
        .run = cmd_audit_list,
    },
    {
        .name = "audit verify",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "see whether the audit log is as it was written",
        .options = verify_options,
        .run = cmd_audit_verify,
    },
    {0},
};
