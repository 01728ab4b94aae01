/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/site-report.h"

#include <inttypes.h>
#include <string.h>

#include "drctl/jobs.h"
#include "drctl/output.h"

#define REPORT_FORMAT 1

static bool is_one_of(const char *text, const char *const *list)
{
    return text && g_strv_contains(list, text);
}

/* --- RPOs ------------------------------------------------------------------------------------ */

static bool is_accounted(const json_t *vms, const struct protected_vm *vm)
{
    const json_t *entry;
    size_t i;

    json_array_foreach(vms, i, entry) if (g_strcmp0(json_get_string(entry, "vm"), vm->vm) == 0 &&
                                          g_strcmp0(json_get_string(entry, "destination"),
                                                    vm->protection->destination) == 0) return true;
    return false;
}

/* Protected, and without a point in all that is known: the worst that there is. */
static void add_unaccounted(struct context *context, json_t *report)
{
    char *all[] = {NULL};
    g_autoptr(GError) why = NULL;
    g_autoptr(GPtrArray) vms = protected_vms(context, all, &why);
    json_t *list = json_array();

    for (unsigned i = 0; vms && i < vms->len; i++) {
        const struct protected_vm *vm = vms->pdata[i];
        json_t *entry;

        if (is_accounted(json_object_get(report, "vms"), vm))
            continue;
        entry = json_object();
        json_set_string(entry, "vm", vm->vm);
        json_set_string(entry, "protection", vm->protection->name);
        json_set_string(entry, "destination", vm->protection->destination);
        json_array_append_new(list, entry);
    }
    json_object_set_new(report, "without_points", list);
    json_set_string(report, "problem", why ? why->message : NULL);
}

/* --- runs ------------------------------------------------------------------------------------ */

/* What the first step that failed says; borrowed. */
static const char *first_error(const json_t *run)
{
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step)
    {
        const char *error = json_get_string(step, "error");

        if (error)
            return error;
    }
    return NULL;
}

static json_t *head_of(const json_t *run)
{
    static const char *const keys[] = {"run", "kind", "title", "state", "started", "ended"};
    json_t *head = json_object();

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++)
        json_set_string(head, keys[i], json_get_string(run, keys[i]));
    return head;
}

/* The digests bind the pictures, which are files, to the report. */
static json_t *pictures_json(const json_t *run)
{
    g_autoptr(GPtrArray) pictures = run_report_pictures(run);
    json_t *list = json_array();

    for (unsigned i = 0; i < pictures->len; i++) {
        const struct report_picture *picture = pictures->pdata[i];
        json_t *entry = json_object();
        uint8_t digest[DIGEST_SIZE];
        char hex[DIGEST_HEX_SIZE] = "";

        if (picture->data) {
            digest_buffer(picture->data, picture->len, digest);
            digest_to_hex(digest, hex);
        }
        json_set_string(entry, "vm", picture->vm);
        json_set_string(entry, "caption", picture->caption);
        json_set_string(entry, "sha256", *hex ? hex : NULL);
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *proof_of(const json_t *run)
{
    const json_t *result = json_object_get(run, "result"), *vm;
    json_t *head = head_of(run), *vms = json_array();
    json_t *rto = json_object_get(result, "rto_seconds");
    size_t i;

    json_set_string(head, "verdict", json_get_string(result, "verdict"));
    json_object_set_new(head, "rto_seconds", rto ? json_incref(rto) : json_null());
    json_array_foreach(json_object_get(result, "vms"), i, vm)
    {
        static const char *const keys[] = {"vm", "state", "verdict", "point", "error"};
        json_t *entry = json_object();
        json_t *took = json_object_get(vm, "rto_seconds"),
               *lost = json_object_get(vm, "rpo_seconds");

        for (unsigned k = 0; k < G_N_ELEMENTS(keys); k++)
            json_set_string(entry, keys[k], json_get_string(vm, keys[k]));
        json_object_set_new(entry, "rto_seconds", took ? json_incref(took) : json_null());
        json_object_set_new(entry, "rpo_seconds", lost ? json_incref(lost) : json_null());
        json_array_append_new(vms, entry);
    }
    json_object_set_new(head, "vms", vms);
    json_object_set_new(head, "pictures", pictures_json(run));
    return head;
}

/* RUN is one of run_list(). */
static bool add_run(struct context *context, json_t *report, const json_t *run, GError **error)
{
    static const char *const proving[] = {"test", "failover", "planned", "failback", NULL};
    static const char *const failed[] = {"failed", "partially-failed", "interrupted", NULL};
    bool proves = is_one_of(json_get_string(run, "kind"), proving);
    bool fails = is_one_of(json_get_string(run, "state"), failed);
    json_auto_t *whole = NULL;

    if (!proves && !fails)
        return true;
    whole = run_show(context->catalog, json_get_string(run, "run"), error);
    if (!whole)
        return false;
    if (proves)
        json_array_append_new(json_object_get(report, "proofs"), proof_of(whole));
    if (fails) {
        json_t *head = head_of(whole);

        json_set_string(head, "error", first_error(whole));
        json_array_append_new(json_object_get(report, "failures"), head);
    }
    return true;
}

/* Oldest first. */
static bool add_runs(struct context *context, json_t *report, const struct period *period,
                     GError **error)
{
    json_auto_t *runs = run_list(context->catalog, error);

    json_object_set_new(report, "proofs", json_array());
    json_object_set_new(report, "failures", json_array());
    for (size_t i = json_array_size(runs); i > 0; i--) {
        const json_t *run = json_array_get(runs, i - 1);

        if (period_has(period, run, "started") && !add_run(context, report, run, error))
            return false;
    }
    return runs != NULL;
}

/* --- points ---------------------------------------------------------------------------------- */

static json_t *store_json(struct context *context, const char *name)
{
    g_autoptr(GError) why = NULL;
    bool is_local = g_str_equal(name, "local");
    AUTO(store) opened = is_local ? NULL : context_open(context, name, &why);
    struct store *store = is_local ? context_store(context, &why) : opened;
    g_autoptr(GPtrArray) points = store ? store_points(store, NULL, &why) : NULL;
    json_t *json = json_object(), *list = json_array();

    for (unsigned i = 0; points && i < points->len; i++)
        json_array_append_new(list, manifest_summary(points->pdata[i], NULL));
    json_set_string(json, "store", name);
    json_set_string(json, "error", why ? why->message : NULL);
    json_object_set_new(json, "points", list);
    return json;
}

static void add_points(struct context *context, json_t *report)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    const GPtrArray *protections = context->config->protections;
    json_t *stores = json_array();

    g_hash_table_add(seen, (void *)"local");
    json_array_append_new(stores, store_json(context, "local"));
    for (unsigned i = 0; i < protections->len; i++) {
        const struct protection *protection = protections->pdata[i];

        if (g_hash_table_add(seen, protection->destination))
            json_array_append_new(stores, store_json(context, protection->destination));
    }
    json_object_set_new(report, "stores", stores);
}

/* --- all of it ------------------------------------------------------------------------------- */

/* Whoever has the signed report can tell later that the log up to here is the same. */
static void add_audit(struct context *context, json_t *report)
{
    AUTO_AUDIT_CHAIN chain = {0};
    g_autoptr(GError) why = NULL;
    bool read = audit_walk(context->config->store, NULL, NULL, NULL, &chain, &why);
    json_t *json = json_object();

    json_set_u64(json, "entries", chain.entries);
    json_set_string(json, "digest", read && *chain.last_digest ? chain.last_digest : NULL);
    json_set_string(json, "problem", read ? chain.problem : why->message);
    json_object_set_new(report, "audit", json);
}

static void set_time(json_t *json, const char *key, int64_t ms)
{
    g_autofree char *text = time_format(ms);

    json_set_string(json, key, text);
}

json_t *site_report(struct context *context, const struct period *period, bool only_rpo,
                    GError **error)
{
    json_auto_t *report = json_object();
    g_autoptr(GPtrArray) history = NULL;

    if (!context_catalog(context, error))
        return NULL;
    history = history_read(context->catalog, period->from_ms, period->to_ms, error);
    if (!history)
        return NULL;
    json_set_u64(report, "format", REPORT_FORMAT);
    json_set_string(report, "site", context->config->site);
    json_set_string(report, "drctl", DRCTL_VERSION);
    set_time(report, "from", period->from_ms);
    set_time(report, "to", period->to_ms);
    set_time(report, "written", time_now_ms());
    json_object_set_new(report, "vms", account_rpo(history, period->from_ms, period->to_ms));
    add_unaccounted(context, report);
    if (only_rpo)
        return g_steal_pointer(&report);
    if (!add_runs(context, report, period, error))
        return NULL;
    add_points(context, report);
    add_audit(context, report);
    return g_steal_pointer(&report);
}

/* --- for people ------------------------------------------------------------------------------ */

static char *kept_text(const json_t *vm)
{
    const json_t *kept = json_object_get(vm, "kept_percent");

    return json_is_number(kept) ? g_strdup_printf("%.2f %%", json_number_value(kept))
                                : g_strdup("-");
}

/* "3 times, 12 min"; g_free. */
static char *late_text(const json_t *vm)
{
    json_int_t late = json_integer_value(json_object_get(vm, "late"));
    g_autofree char *together = seconds_text(vm, "late_seconds");

    return late == 0 ? g_strdup("never")
                     : g_strdup_printf("%" JSON_INTEGER_FORMAT " %s, %s", late,
                                       late == 1 ? "time" : "times", together);
}

static void write_rpo_table(struct sheet *sheet, const json_t *report)
{
    static const char *const headers[] = {"VM",   "To",   "RPO",    "Worst", "Mean",
                                          "Kept", "Over", "Points", "Age",   NULL};
    const json_t *vm;
    size_t i;

    sheet_table(sheet, headers);
    json_array_foreach(json_object_get(report, "vms"), i, vm)
    {
        g_autofree char *rpo = seconds_text(vm, "rpo_seconds");
        g_autofree char *worst = seconds_text(vm, "worst_seconds");
        g_autofree char *mean = seconds_text(vm, "mean_seconds");
        g_autofree char *age = seconds_text(vm, "age_seconds");
        g_autofree char *kept = kept_text(vm);
        g_autofree char *over = late_text(vm);
        g_autofree char *points = g_strdup_printf(
            "%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(vm, "points")));

        sheet_row(sheet,
                  (const char *[]){json_get_string(vm, "vm"), json_get_string(vm, "destination"),
                                   rpo ? rpo : "none", worst, mean, kept, over, points, age});
    }
    json_array_foreach(json_object_get(report, "without_points"), i, vm) sheet_row(
        sheet, (const char *[]){json_get_string(vm, "vm"), json_get_string(vm, "destination"), "",
                                "never a point", "", "", "", "0", ""});
}

static void write_violations(struct sheet *sheet, const json_t *vm)
{
    static const char *const headers[] = {"Until", "Newest state was then", NULL};
    const json_t *violation;
    size_t i;

    if (json_array_size(json_object_get(vm, "violations")) == 0)
        return;
    sheet_table(sheet, headers);
    json_array_foreach(json_object_get(vm, "violations"), i, violation)
    {
        g_autofree char *until = time_text(violation, "until");
        g_autofree char *took = seconds_text(violation, "seconds");
        g_autofree char *old = g_strconcat(took, " old", NULL);

        sheet_row(sheet, (const char *[]){until, old});
    }
}

static void write_rpo(struct sheet *sheet, const json_t *report, const struct period *period)
{
    const json_t *vm;
    size_t i;

    sheet_section(sheet, "Recovery point objectives");
    sheet_paragraph(sheet,
                    "How old the newest state became that a failover could have started from, just "
                    "before the next point was there.");
    write_rpo_table(sheet, report);
    json_array_foreach(json_object_get(report, "vms"), i, vm)
    {
        g_autofree char *title = g_strdup_printf("%s to %s", json_get_string(vm, "vm"),
                                                 json_get_string(vm, "destination"));
        g_autofree char *svg = account_drawing(vm, period->from_ms, period->to_ms);

        sheet_part(sheet, title);
        sheet_drawing(sheet, svg);
        write_violations(sheet, vm);
    }
}

static void write_pictures(struct context *context, struct sheet *sheet, const char *id)
{
    json_auto_t *run = run_show(context->catalog, id, NULL);
    g_autoptr(GPtrArray) pictures = run ? run_report_pictures(run) : NULL;

    for (unsigned i = 0; pictures && i < pictures->len; i++) {
        struct report_picture picture = *(const struct report_picture *)pictures->pdata[i];
        g_autofree char *caption =
            g_strdup_printf("%s: %s", picture.vm ? picture.vm : id, picture.caption);

        picture.caption = caption;
        sheet_picture(sheet, &picture);
    }
}

static void write_proof_vms(struct sheet *sheet, const json_t *proof)
{
    static const char *const headers[] = {"VM", "Result", "Ready after", "Lost", "Point", NULL};
    const json_t *vm;
    size_t i;

    sheet_table(sheet, headers);
    json_array_foreach(json_object_get(proof, "vms"), i, vm)
    {
        g_autofree char *rto = seconds_text(vm, "rto_seconds");
        g_autofree char *lost = seconds_text(vm, "rpo_seconds");
        const char *verdict = json_get_string(vm, "verdict");

        sheet_row(sheet, (const char *[]){json_get_string(vm, "vm"),
                                          verdict ? verdict : json_get_string(vm, "state"), rto,
                                          lost, json_get_string(vm, "point")});
    }
}

static void write_proofs(struct context *context, struct sheet *sheet, const json_t *report)
{
    const json_t *proofs = json_object_get(report, "proofs"), *proof;
    size_t i;

    sheet_section(sheet, "Tests and failovers");
    if (json_array_size(proofs) == 0)
        sheet_paragraph(sheet, "There was none in this time: nothing proves that these VMs start.");
    json_array_foreach(proofs, i, proof)
    {
        g_autofree char *when = time_text(proof, "started");
        g_autofree char *rto = seconds_text(proof, "rto_seconds");
        const char *verdict = json_get_string(proof, "verdict");
        g_autofree char *title = g_strdup_printf("%s of %s, %s", json_get_string(proof, "kind"),
                                                 json_get_string(proof, "title"), when);

        sheet_part(sheet, title);
        sheet_paragraph(sheet, "%s (run %s). Measured RTO: %s.",
                        verdict ? verdict : json_get_string(proof, "state"),
                        json_get_string(proof, "run"), rto ? rto : "none, it was not ready");
        write_proof_vms(sheet, proof);
        write_pictures(context, sheet, json_get_string(proof, "run"));
    }
}

static void write_failures(struct sheet *sheet, const json_t *report)
{
    static const char *const headers[] = {"When", "Run", "What", "State", "Why", NULL};
    const json_t *failures = json_object_get(report, "failures"), *failure;
    size_t i;

    sheet_section(sheet, "What failed");
    if (json_array_size(failures) == 0) {
        sheet_paragraph(sheet, "No run failed.");
        return;
    }
    sheet_table(sheet, headers);
    json_array_foreach(failures, i, failure)
    {
        g_autofree char *when = time_text(failure, "started");
        g_autofree char *what = g_strdup_printf("%s %s", json_get_string(failure, "kind"),
                                                json_get_string(failure, "title"));

        sheet_row(sheet, (const char *[]){when, json_get_string(failure, "run"), what,
                                          json_get_string(failure, "state"),
                                          json_get_string(failure, "error")});
    }
}

static void write_points(struct sheet *sheet, const json_t *report)
{
    static const char *const headers[] = {"VM", "Point", "Consistency", "Base", NULL};
    const json_t *store, *point;
    size_t i, k;

    sheet_section(sheet, "Recovery points, now");
    json_array_foreach(json_object_get(report, "stores"), i, store)
    {
        const char *problem = json_get_string(store, "error");

        sheet_part(sheet, json_get_string(store, "store"));
        if (problem)
            sheet_paragraph(sheet, "It could not be asked: %s", problem);
        else if (json_array_size(json_object_get(store, "points")) == 0)
            sheet_paragraph(sheet, "There is none.");
        if (json_array_size(json_object_get(store, "points")) == 0)
            continue;
        sheet_table(sheet, headers);
        json_array_foreach(json_object_get(store, "points"), k, point)
        {
            const char *base = json_get_string(point, "base");

            sheet_row(sheet, (const char *[]){
                                 json_get_string(point, "vm"), json_get_string(point, "point"),
                                 json_get_string(point, "consistency"), base ? base : "full"});
        }
    }
}

static void write_audit(struct sheet *sheet, const json_t *report)
{
    const json_t *audit = json_object_get(report, "audit");
    const char *digest = json_get_string(audit, "digest"),
               *problem = json_get_string(audit, "problem");

    sheet_section(sheet, "Audit log");
    sheet_paragraph(sheet, "%" JSON_INTEGER_FORMAT " lines, the last of which has the SHA-256 %s.",
                    json_integer_value(json_object_get(audit, "entries")),
                    digest ? digest : "of nothing: it is empty");
    if (problem)
        sheet_paragraph(sheet, "It is not as it was written: %s", problem);
}

struct sheet *site_report_sheet(struct context *context, const json_t *report,
                                const struct period *period)
{
    g_autofree char *from = time_format_local(period->from_ms);
    g_autofree char *to = time_format_local(period->to_ms);
    g_autofree char *title = g_strdup_printf("site %s", json_get_string(report, "site"));
    g_autofree char *note = g_strdup_printf("%s to %s", from, to);
    struct sheet *sheet = sheet_new("Disaster recovery report", title, note);
    const char *problem = json_get_string(report, "problem");

    if (problem)
        sheet_paragraph(sheet, "What is protected is not known: %s", problem);
    write_rpo(sheet, report, period);
    if (!json_object_get(report, "proofs"))
        return sheet;
    write_proofs(context, sheet, report);
    write_failures(sheet, report);
    write_points(sheet, report);
    write_audit(sheet, report);
    return sheet;
}
