/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/wizard-source.h"

#include <stdio.h>
#include <string.h>

#include "drctl/ask.h"
#include "drctl/failover-options.h"
#include "drctl/output.h"
#include "drctl/wizard.h"

#define NAMES_MAX 4u /* of VMs that are not as the others */

/* The other site, as far as one candidate goes. */
struct source {
    const struct remote *remote; /* NULL: none that could be asked */
    bool is_there;               /* somebody answers, even if it is by a refusal */
    bool answers;
    char *runs;    /* what of it runs there; NULL: it does not say */
    char *resumes; /* the run that has begun to move it, or NULL */
    char *problem; /* it cannot be moved; NULL: it can */
};

static void source_clear(struct source *source)
{
    g_free(source->runs);
    g_free(source->resumes);
    g_free(source->problem);
}
#define AUTO_SOURCE __attribute__((cleanup(source_clear))) struct source

/* --- what runs there -------------------------------------------------------------------------- */

/* A remote is called as its site is, unless there is only one. */
static const struct remote *remote_of(const struct config *config,
                                      const struct candidate *candidate)
{
    const struct remote *remote = NULL;

    if (!candidate->site || candidate_is_here(candidate) ||
        g_str_equal(candidate->site, config->site))
        return NULL;
    remote = config_remote(config, candidate->site, NULL);
    return remote || config->remotes->len != 1 ? remote : config->remotes->pdata[0];
}

static const struct peer *peer_of(const GPtrArray *peers, const struct remote *remote)
{
    for (unsigned i = 0; i < peers->len; i++)
        if (g_str_equal(((const struct peer *)peers->pdata[i])->name, remote->name))
            return peers->pdata[i];
    return NULL;
}

/* "all 3 VMs run there", "1 of 3 VMs runs there (db: off, web: paused)"; of LIST, from peer_status(). g_free. */
static char *running_text(const json_t *list)
{
    g_autoptr(GString) others = g_string_new(NULL);
    size_t i, all = json_array_size(list), running = 0;
    const json_t *entry;

    json_array_foreach((json_t *)list, i, entry)
    {
        const char *state = json_get_string(entry, "state");

        if (g_str_equal(state, domain_state_name(DOMAIN_RUNNING)))
            running++;
        else if (i - running < NAMES_MAX)
            g_string_append_printf(others, "%s%s: %s", others->len ? ", " : "",
                                   json_get_string(entry, "vm"), state);
        else if (i - running == NAMES_MAX)
            g_string_append(others, ", ...");
    }
    if (running == all)
        return g_strdup_printf(all == 1 ? "its VM runs there" : "all %zu VMs run there", all);
    return g_strdup_printf("%zu of %zu VMs run%s there (%s)", running, all, running == 1 ? "s" : "",
                           others->str);
}

/* It has answered just now. */
static void look_there(const struct survey *survey, const char *name, struct source *source)
{
    g_autoptr(GError) why = NULL;
    AUTO(store) store = store_open_remote(source->remote, &why);
    json_auto_t *list = store ? peer_status(store, name, &why) : NULL;
    AUTO(move) move = NULL;

    if (json_array_size(list) > 0)
        source->runs = running_text(list);
    g_clear_error(&why);
    move = store ? move_new(&survey->site, name, store, false, &why) : NULL;
    source->answers = source->is_there = store != NULL;
    if (move)
        source->resumes = g_strdup(move->resumes);
    else
        source->problem = g_strdup(why ? why->message : "it does not answer any more");
}

static void print_source(const struct source *source)
{
    const char *name = source->remote->name;

    if (source->runs)
        print_wrapped("", "Site %s ANSWERS: %s.", name, source->runs);
    else
        print_wrapped("", "Site %s ANSWERS, but does not say what runs there.", name);
    if (source->problem)
        print_wrapped("", "It cannot be moved from there: %s.", source->problem);
    if (source->resumes)
        print_wrapped("", "Run %s has begun to move it here, and goes on by \"planned\".",
                      source->resumes);
}

static void look_at_source(const struct survey *survey, const struct candidate *candidate,
                           struct source *source)
{
    const struct peer *peer;

    source->remote = remote_of(survey->context->config, candidate);
    peer = source->remote ? peer_of(survey->peers, source->remote) : NULL;
    if (peer && peer->refuses) {
        source->is_there = true;
        putchar('\n');
        print_wrapped("", "Site %s IS THERE, but refuses this one: what runs there is not known.",
                      peer->name);
    }
    if (!peer || !peer->owners)
        return;
    printf("\nAsking site %s what runs there ...\n", source->remote->name);
    fflush(stdout);
    look_there(survey, candidate->name, source);
    if (source->answers)
        print_source(source);
}

/* --- how -------------------------------------------------------------------------------------- */

enum how { PLANNED, TEST, DISASTER, HOWS };
static const char *const names[] = {"planned", "test", "disaster"};

/* Would the options that were given go with this one? */
static bool is_possible(struct context *context, enum how how)
{
    bool possible;

    if (how == DISASTER)
        return true;
    wizard_set_option(context, names[how], NULL);
    possible = failover_check_options(context, NULL);
    g_hash_table_remove(context->options, names[how]);
    return possible;
}

/* The safe one comes first. Returns how many. */
static unsigned list_hows(struct context *context, const struct source *source, enum how *hows)
{
    static const enum how there[] = {PLANNED, TEST, DISASTER}, lost[] = {DISASTER, TEST};
    const enum how *order = source->is_there ? there : lost;
    unsigned n_order = source->is_there ? G_N_ELEMENTS(there) : G_N_ELEMENTS(lost), n = 0;

    for (unsigned i = 0; i < n_order; i++)
        if ((order[i] != PLANNED || (source->answers && !source->problem)) &&
            is_possible(context, order[i]))
            hows[n++] = order[i];
    return n;
}

static void print_reason(const struct source *source, const struct candidate *candidate,
                         enum how first)
{
    const char *site = candidate->site;

    if (first == PLANNED)
        print_wrapped("", "Safe now: planned. Nothing is lost, and what fails leaves it at %s.",
                      site);
    else if (first == TEST)
        print_wrapped("",
                      "Safe now: test. %s is there, and what runs there must not run here as well.",
                      site);
    else if (source->remote)
        print_wrapped("", "Safe now: disaster. %s does not answer, so nothing can be had from it.",
                      site);
    else if (candidate_is_here(candidate))
        print_wrapped("", "It belongs to this site already, so no other one was asked.");
    else
        print_wrapped("", "There is no [remote] in drctl.conf that could be asked what runs at %s.",
                      site ? site : "its site");
}

/* g_free. */
static char *how_text(const struct source *source, const struct candidate *candidate, enum how how)
{
    const char *site = candidate->site;

    if (how == PLANNED)
        return g_strdup_printf("shut down at %s, send the rest, start here: loses nothing", site);
    if (how == TEST)
        return g_strdup("copies that reach nothing start here, and are removed again");
    if (source->is_there)
        return g_strdup_printf("as if %s were lost: first stop it there by drctl fence", site);
    return source->remote ? g_strdup_printf("%s is lost: start it here from its points", site)
                          : g_strdup("start it here from its points");
}

static void take_how(struct context *context, const struct source *source, enum how how)
{
    if (how != DISASTER)
        wizard_set_option(context, names[how], NULL);
    if (how == PLANNED && context->config->remotes->len > 1)
        wizard_set_option(context, "from", source->remote->name);
}

static bool ask_how(struct context *context, const struct source *source,
                    const struct candidate *candidate, GError **error)
{
    static const char *const headers[] = {"HOW", "", NULL};
    AUTO(menu) menu = menu_new(headers);
    enum how hows[HOWS];
    unsigned chosen = 0, n = list_hows(context, source, hows);

    if (n > 1) {
        putchar('\n');
        print_reason(source, candidate, hows[0]);
        for (unsigned i = 0; i < n; i++) {
            g_autofree char *text = how_text(source, candidate, hows[i]);

            menu_add(menu, (const char *[]){names[hows[i]], text});
        }
        if (!menu_ask(menu, "How is it to come here?", &chosen, error))
            return false;
    }
    take_how(context, source, hows[chosen]);
    return true;
}

bool wizard_ask_how(const struct survey *survey, const struct candidate *candidate, GError **error)
{
    struct context *context = survey->context;
    AUTO_SOURCE source = {0};

    if (option_set(context, "planned") || option_set(context, "test"))
        return true;
    look_at_source(survey, candidate, &source);
    return ask_how(context, &source, candidate, error);
}
