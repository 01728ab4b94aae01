/* SPDX-License-Identifier: Apache-2.0 */
#include "metadata/proof.h"

#include <inttypes.h>
#include <string.h>

#define PROOF_MODE 0600

static const char *const verdict_names[] = {
    [PROOF_PASSED] = "passed",
    [PROOF_UNPROVEN] = "unproven",
    [PROOF_FAILED] = "failed",
};

const char *proof_verdict_name(enum proof_verdict verdict)
{
    return verdict_names[verdict];
}

bool proof_verdict_parse(const char *name, enum proof_verdict *verdict)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(verdict_names); i++) {
        if (g_strcmp0(name, verdict_names[i]) != 0)
            continue;
        *verdict = i;
        return true;
    }
    return false;
}

void proof_free(struct proof *proof)
{
    if (!proof)
        return;
    g_free(proof->run);
    g_free(proof);
}

static bool parse(const json_t *json, struct proof *proof, GError **error)
{
    const char *run, *time, *verdict;
    uint64_t format;

    if (!json_need_u64(json, "format", &format, error))
        return false;
    if (format != PROOF_FORMAT)
        return fail(error, ERROR_INTEGRITY, "format %" PRIu64 " is not known", format);
    if (!json_need_string(json, "run", &run, error) ||
        !json_need_string(json, "time", &time, error) ||
        !json_need_string(json, "verdict", &verdict, error))
        return false;
    if (!time_parse(time, &proof->time_ms, NULL))
        return fail(error, ERROR_INTEGRITY, "'%s' is no time", time);
    proof->run = g_strdup(run);
    proof->rto_seconds = json_number_value(json_object_get(json, "rto_seconds"));
    return proof_verdict_parse(verdict, &proof->verdict) ||
           fail(error, ERROR_INTEGRITY, "verdict '%s' is not known", verdict);
}

struct proof *proof_parse(const char *text, size_t len, GError **error)
{
    json_auto_t *json = json_parse(text, len, PROOF_NAME, error);
    AUTO(proof) proof = g_new0(struct proof, 1);

    return json && parse(json, proof, error) ? g_steal_pointer(&proof) : NULL;
}

struct proof *proof_load(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, PROOF_NAME, NULL);
    g_autofree char *text = NULL;
    size_t len;

    return file_read(path, PROOF_MAX_BYTES, &text, &len, NULL) ? proof_parse(text, len, NULL)
                                                               : NULL;
}

bool proof_passed(const char *dir)
{
    AUTO(proof) proof = proof_load(dir);

    return proof && proof->verdict == PROOF_PASSED;
}

bool proof_save(const char *dir, const struct proof *proof, GError **error)
{
    g_autofree char *path = g_build_filename(dir, PROOF_NAME, NULL);
    g_autofree char *time = time_format(proof->time_ms);
    AUTO(proof) before = proof_load(dir);
    json_auto_t *json = NULL;
    g_autofree char *text = NULL;

    if (proof->verdict == PROOF_UNPROVEN && before && before->verdict != PROOF_UNPROVEN)
        return true;
    json = json_object();
    json_set_u64(json, "format", PROOF_FORMAT);
    json_set_string(json, "run", proof->run);
    json_set_string(json, "time", time);
    json_set_string(json, "verdict", proof_verdict_name(proof->verdict));
    if (proof->rto_seconds > 0)
        json_set_real(json, "rto_seconds", proof->rto_seconds);
    else
        json_set_string(json, "rto_seconds", NULL);
    text = json_text(json, 0);
    return file_write(path, text, strlen(text), PROOF_MODE, error);
}

bool proof_copy(const char *from, const char *to, GError **error)
{
    AUTO(proof) proof = proof_load(from);

    return !proof || proof_save(to, proof, error);
}
