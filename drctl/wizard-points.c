/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/wizard-points.h"

#include <stdio.h>
#include <string.h>

#include "drctl/ask.h"
#include "drctl/failover-options.h"
#include "drctl/output.h"
#include "drctl/verification.h"
#include "drctl/wizard.h"

/* One point, or those of one round, of which the worst is told. */
struct offer {
    const char *name; /* for --point; borrowed, as what follows */
    const char *vm;
    unsigned vms;
    int64_t time_ms; /* of the newest */
    enum consistency consistency;
    int64_t verified_ms; /* 0: not all are */
    bool damaged;
    bool tested; /* all are, with: */
    enum proof_verdict verdict;
    int64_t tested_ms;
};

/* --- what is known of one --------------------------------------------------------------------- */

/* g_free; NULL: nobody has looked since the commit. */
static char *offer_verified(const struct offer *offer)
{
    return offer->damaged       ? g_strdup("DAMAGED")
           : offer->verified_ms ? wizard_rough_age(offer->verified_ms)
                                : NULL;
}

/* "passed 3 d"; g_free; NULL: no test has used it. */
static char *offer_proven(const struct offer *offer)
{
    g_autofree char *age = offer->tested ? wizard_rough_age(offer->tested_ms) : NULL;

    return age ? g_strdup_printf("%s %s", proof_verdict_name(offer->verdict), age) : NULL;
}

static void offer_init(struct offer *offer, struct context *context,
                       const struct manifest *manifest)
{
    AUTO_VERDICT verdict = {0};

    verdict_of(context, manifest, &verdict);
    *offer = (struct offer){
        .name = manifest->group ? manifest->group : manifest->point,
        .vm = manifest->vm,
        .vms = 1,
        .time_ms = manifest->time_ms,
        .consistency = manifest->consistency,
        .verified_ms = verdict.verified_ms,
        .damaged = verdict.damage != NULL,
        .tested = verdict.proof != NULL,
        .verdict = verdict.proof ? verdict.proof->verdict : PROOF_PASSED,
        .tested_ms = verdict.proof ? verdict.proof->time_ms : 0,
    };
}

/* OTHER is of the same round. */
static void offer_join(struct offer *offer, const struct offer *other)
{
    offer->vms += other->vms;
    offer->time_ms = MAX(offer->time_ms, other->time_ms);
    offer->consistency = MIN(offer->consistency, other->consistency);
    offer->verified_ms = MIN(offer->verified_ms, other->verified_ms);
    offer->damaged = offer->damaged || other->damaged;
    offer->tested = offer->tested && other->tested;
    offer->verdict = MAX(offer->verdict, other->verdict);
    offer->tested_ms = MIN(offer->tested_ms, other->tested_ms);
}

/* --- the newest ones -------------------------------------------------------------------------- */

void wizard_points_print(const struct survey *survey, const struct candidate *candidate)
{
    static const char *const headers[] = {"VM",       "NEWEST POINT", "CONSISTENCY",
                                          "VERIFIED", "PROVEN",       NULL};
    AUTO(table) table = table_new(headers);

    for (unsigned i = 0; i < candidate->vms->len; i++) {
        const char *vm = candidate->vms->pdata[i];
        const struct manifest *newest = g_hash_table_lookup(survey->newest, vm);
        struct offer offer;
        g_autofree char *age = NULL;
        g_autofree char *verified = NULL;
        g_autofree char *proven = NULL;

        if (!newest) {
            table_row(table, (const char *[]){vm, "none", NULL, NULL, NULL});
            continue;
        }
        offer_init(&offer, survey->context, newest);
        age = wizard_age(newest->time_ms);
        verified = offer_verified(&offer);
        proven = offer_proven(&offer);
        table_row(table, (const char *[]){vm, age, consistency_name(newest->consistency), verified,
                                          proven});
    }
    putchar('\n');
    table_print(table);
    puts("All are ages. VERIFIED: read and found whole; PROVEN: what a test of it showed.");
}

/* --- one of a list ---------------------------------------------------------------------------- */

static struct offer *find_offer(const GArray *offers, const char *name)
{
    for (unsigned i = 0; i < offers->len; i++) {
        struct offer *offer = &g_array_index(offers, struct offer, i);

        if (g_str_equal(offer->name, name))
            return offer;
    }
    return NULL;
}

/* Those of POINTS, all of them, in their order. */
static GArray *make_offers(struct context *context, const GPtrArray *points)
{
    GArray *offers = g_array_new(FALSE, FALSE, sizeof(struct offer));

    for (unsigned i = 0; i < points->len; i++) {
        struct offer offer, *round;

        offer_init(&offer, context, points->pdata[i]);
        round = find_offer(offers, offer.name);
        if (round)
            offer_join(round, &offer);
        else
            g_array_append_val(offers, offer);
    }
    return offers;
}

/* N_VMS: how many VMs there are; a single one needs no column. */
static void add_offer(struct menu *menu, const struct offer *offer, unsigned n_vms)
{
    g_autofree char *age = wizard_age(offer->time_ms);
    g_autofree char *verified = offer_verified(offer);
    g_autofree char *proven = offer_proven(offer);
    const char *consistency = consistency_name(offer->consistency);
    g_autofree char *of =
        offer->vms > 1 ? g_strdup_printf("%u of %u", offer->vms, n_vms) : g_strdup(offer->vm);

    if (n_vms > 1)
        menu_add(menu, (const char *[]){offer->name, age, of, consistency, verified, proven});
    else
        menu_add(menu, (const char *[]){offer->name, age, consistency, verified, proven});
}

static bool ask_of_list(struct context *context, const GPtrArray *points, unsigned n_vms,
                        GError **error)
{
    static const char *const one[] = {"POINT", ">AGE", "CONSISTENCY", "VERIFIED", "PROVEN", NULL};
    static const char *const several[] = {"POINT",    ">AGE",   "VMS", "CONSISTENCY",
                                          "VERIFIED", "PROVEN", NULL};
    AUTO(menu) menu = menu_new(n_vms > 1 ? several : one);
    g_autoptr(GArray) offers = make_offers(context, points);
    unsigned index;

    for (unsigned i = 0; i < offers->len; i++)
        add_offer(menu, &g_array_index(offers, struct offer, i), n_vms);
    if (!menu_ask(menu, "Which recovery point?", &index, error))
        return false;
    wizard_set_option(context, "point", g_array_index(offers, struct offer, index).name);
    return true;
}

bool wizard_point_ask_one(struct context *context, const GPtrArray *points, const char *uuid,
                          GError **error)
{
    g_autoptr(GPtrArray) of_vm = g_ptr_array_new();

    for (unsigned i = 0; i < points->len; i++)
        if (g_str_equal(((const struct manifest *)points->pdata[i])->uuid, uuid))
            g_ptr_array_add(of_vm, points->pdata[i]);
    return ask_of_list(context, of_vm, 1, error);
}

/* --- which ones ------------------------------------------------------------------------------- */

/* Of the VMs of a candidate, newest first. */
static GPtrArray *points_of(const struct survey *survey, const struct candidate *candidate)
{
    g_autoptr(GHashTable) uuids = g_hash_table_new(g_str_hash, g_str_equal);
    GPtrArray *points = g_ptr_array_new();

    for (unsigned i = 0; i < candidate->vms->len; i++) {
        const struct manifest *newest =
            g_hash_table_lookup(survey->newest, candidate->vms->pdata[i]);

        if (newest)
            g_hash_table_add(uuids, newest->uuid);
    }
    for (unsigned i = 0; i < survey->points->len; i++) {
        const struct manifest *manifest = survey->points->pdata[i];

        if (g_hash_table_contains(uuids, manifest->uuid))
            g_ptr_array_add(points, survey->points->pdata[i]);
    }
    return points;
}

/* How many VMs have one that is proven; *OLDEST_MS is the oldest of the newest such. */
static unsigned count_proven(const struct survey *survey, const GPtrArray *points,
                             int64_t *oldest_ms)
{
    g_autoptr(GHashTable) found = g_hash_table_new(g_str_hash, g_str_equal);

    *oldest_ms = INT64_MAX;
    for (unsigned i = 0; i < points->len; i++) {
        struct manifest *manifest = points->pdata[i];
        g_autofree char *dir =
            store_point_dir(survey->context->config->store, manifest->uuid, manifest->point);

        if (g_hash_table_contains(found, manifest->uuid) || !proof_passed(dir))
            continue;
        g_hash_table_add(found, manifest->uuid);
        *oldest_ms = MIN(*oldest_ms, manifest->time_ms);
    }
    return g_hash_table_size(found);
}

static void add_newest(struct menu *menu, const struct candidate *candidate)
{
    g_autofree char *age = wizard_age(candidate->oldest_ms);
    g_autofree char *text = g_strdup_printf("the newest of each VM: %s is lost", age);

    menu_add(menu, (const char *[]){"newest", text});
}

/* Only if there are such. */
static bool add_proven(struct menu *menu, const struct survey *survey,
                       const struct candidate *candidate, const GPtrArray *points)
{
    int64_t oldest_ms;
    unsigned n = count_proven(survey, points, &oldest_ms);
    g_autofree char *age = n ? wizard_age(oldest_ms) : NULL;
    g_autofree char *without = n < candidate->vms->len
                                   ? g_strdup_printf("; %u of %u VMs cannot start: no such",
                                                     candidate->vms->len - n, candidate->vms->len)
                                   : g_strdup("");
    g_autofree char *text =
        n ? g_strdup_printf("the newest that a test passed with: %s is lost%s", age, without)
          : NULL;

    if (text)
        menu_add(menu, (const char *[]){"proven", text});
    return n > 0;
}

static bool read_at(const struct context *context, GError **error)
{
    struct failover_request request = {0};

    return failover_read_points(context, &request, error);
}

bool wizard_points_ask(const struct survey *survey, const struct candidate *candidate,
                       GError **error)
{
    static const char *const headers[] = {"FROM", "", NULL};
    struct context *context = survey->context;
    g_autoptr(GPtrArray) points = points_of(survey, candidate);
    AUTO(menu) menu = menu_new(headers);
    bool proven;
    unsigned index;

    if (option_set(context, "planned") || option_set(context, "point") ||
        option_set(context, "at") || points->len <= candidate->with_points)
        return true;
    add_newest(menu, candidate);
    proven = add_proven(menu, survey, candidate, points);
    menu_add(menu, (const char *[]){"list", "one of a list"});
    menu_add(menu, (const char *[]){"time", "the newest that are not newer than some time"});
    if (!menu_ask(menu, "From which points?", &index, error))
        return false;
    if (index == 0)
        return true;
    if (index == 1 && proven) {
        wizard_set_option(context, "point", "proven");
        return true;
    }
    if (index == 1u + proven)
        return ask_of_list(context, points, candidate->vms->len, error);
    return wizard_ask_option(context, "at",
                             "Not newer than which time, or how long ago, such as 2h", NULL,
                             read_at, error);
}
