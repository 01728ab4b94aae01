/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "drctl/ask.h"
#include "drctl/candidates.h"
#include "drctl/jobs.h"
#include "drctl/wizard.h"

/* A VM that another site has now, and this one had. */
struct absent {
    const struct owner *owner; /* borrowed from the survey's */
    bool defined, runs;        /* what is left of it here */
};

/* A vApp with such VMs, or such a VM that is in none. */
struct returning {
    char *name;
    const char *what;
    const char *site; /* that has it */
    int64_t since_ms; /* of the first VM */
    unsigned vms, absent, defined, running;
    bool interrupted; /* its failback was */
};

struct inquiry {
    struct context *context;
    struct site site;
    GPtrArray *peers;
    GPtrArray *owners; /* of struct owner: what this site knows */
    GPtrArray
        *protected; /* of struct protected_vm, by name: nobody may know their UUIDs here any more */
    GHashTable *absent; /* name of the VM -> struct absent */
    GPtrArray *returning;
    json_t *runs;
};

static void returning_free(void *data)
{
    g_free(((struct returning *)data)->name);
    g_free(data);
}

static void inquiry_clear(struct inquiry *inquiry)
{
    g_clear_pointer(&inquiry->absent, g_hash_table_unref);
    g_clear_pointer(&inquiry->protected, g_ptr_array_unref);
    g_clear_pointer(&inquiry->owners, g_ptr_array_unref);
    g_clear_pointer(&inquiry->peers, g_ptr_array_unref);
    g_clear_pointer(&inquiry->returning, g_ptr_array_unref);
    g_clear_pointer(&inquiry->runs, json_decref);
}
#define AUTO_INQUIRY __attribute__((cleanup(inquiry_clear))) struct inquiry

/* --- what is elsewhere ------------------------------------------------------------------------ */

static bool is_protected(const struct inquiry *inquiry, const char *vm)
{
    for (unsigned i = 0; i < inquiry->protected->len; i++)
        if (g_str_equal(((const struct protected_vm *)inquiry->protected->pdata[i])->vm, vm))
            return true;
    return false;
}

/* One that has left no trace here was never here. */
static void add_absent(struct inquiry *inquiry, const struct owner *owner)
{
    AUTO(domain) domain = find_domain(inquiry->site.hosts, owner->uuid, NULL);
    enum domain_state state = DOMAIN_OFF;
    struct absent *absent;

    if (!domain && !is_protected(inquiry, owner->vm))
        return;
    absent = g_new0(struct absent, 1);
    absent->owner = owner;
    absent->defined = domain != NULL;
    absent->runs = domain && domain_state(domain, &state, NULL) && state != DOMAIN_OFF;
    g_hash_table_replace(inquiry->absent, g_strdup(domain ? domain_name(domain) : owner->vm),
                         absent);
}

static const struct owner *known_here(const struct inquiry *inquiry, const char *uuid)
{
    for (unsigned i = 0; i < inquiry->owners->len; i++) {
        const struct owner *owner = inquiry->owners->pdata[i];

        if (strcmp(owner->uuid, uuid) == 0)
            return owner;
    }
    return NULL;
}

/* What anybody has heard of one VM. */
static void look_at_owner(struct inquiry *inquiry, const char *uuid, GHashTable *seen)
{
    const char *site = inquiry->site.config->site;
    const struct owner *here = known_here(inquiry, uuid);
    const struct owner *there = peers_newest(inquiry->peers, uuid, site);
    const struct owner *owner = !here || (there && there->epoch > here->epoch) ? there : here;

    if (g_hash_table_add(seen, (char *)uuid) && strcmp(owner->site, site) != 0)
        add_absent(inquiry, owner);
}

static void find_absent(struct inquiry *inquiry)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; i < inquiry->owners->len; i++)
        look_at_owner(inquiry, ((struct owner *)inquiry->owners->pdata[i])->uuid, seen);
    for (unsigned i = 0; i < inquiry->peers->len; i++) {
        const struct peer *peer = inquiry->peers->pdata[i];

        for (unsigned k = 0; peer->owners && k < peer->owners->len; k++)
            look_at_owner(inquiry, ((struct owner *)peer->owners->pdata[k])->uuid, seen);
    }
}

/* --- what can come home ----------------------------------------------------------------------- */

static struct returning *add_returning(struct inquiry *inquiry, const char *name, const char *what)
{
    struct returning *returning = g_new0(struct returning, 1);

    returning->name = g_strdup(name);
    returning->what = what;
    returning->interrupted = runs_have_interrupted(inquiry->runs, "failback", name);
    g_ptr_array_add(inquiry->returning, returning);
    return returning;
}

static void count_absent(struct returning *returning, const struct absent *absent)
{
    if (returning->absent++ == 0) {
        returning->site = absent->owner->site;
        returning->since_ms = absent->owner->since_ms;
    }
    returning->since_ms = MIN(returning->since_ms, absent->owner->since_ms);
    returning->defined += absent->defined;
    returning->running += absent->runs;
}

/* VMs of it leave LONE. */
static void add_vapp(struct inquiry *inquiry, const struct vapp *vapp, GHashTable *lone)
{
    struct returning *returning = NULL;

    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const char *vm = ((const struct vapp_vm *)vapp->vms->pdata[i])->name;
        const struct absent *absent = g_hash_table_lookup(inquiry->absent, vm);

        if (!absent)
            continue;
        if (!returning)
            returning = add_returning(inquiry, vapp->name, "vApp");
        count_absent(returning, absent);
        g_hash_table_remove(lone, vm);
    }
    if (returning)
        returning->vms = vapp->vms->len;
}

/* What is begun comes first. */
static int compare_returning(const void *a, const void *b)
{
    const struct returning *const *left = a, *const *right = b;

    if ((*left)->interrupted != (*right)->interrupted)
        return (*left)->interrupted ? -1 : 1;
    return strcmp((*left)->name, (*right)->name);
}

static bool find_returning(struct inquiry *inquiry, GError **error)
{
    g_autoptr(GPtrArray) vapps = site_vapps(&inquiry->site, error);
    g_autoptr(GHashTable) lone = g_hash_table_new(g_str_hash, g_str_equal);
    GHashTableIter iter;
    void *vm, *absent;

    if (!vapps)
        return false;
    g_hash_table_iter_init(&iter, inquiry->absent);
    while (g_hash_table_iter_next(&iter, &vm, &absent))
        g_hash_table_insert(lone, vm, absent);
    for (unsigned i = 0; i < vapps->len; i++)
        add_vapp(inquiry, vapps->pdata[i], lone);
    g_hash_table_iter_init(&iter, lone);
    while (g_hash_table_iter_next(&iter, &vm, &absent)) {
        struct returning *returning = add_returning(inquiry, vm, "VM");

        returning->vms = 1;
        count_absent(returning, absent);
    }
    g_ptr_array_sort(inquiry->returning, compare_returning);
    return inquiry->returning->len > 0 ||
           fail(error, ERROR_NOT_FOUND,
                "as far as is known here no other site has a VM that was at %s%s; one that has "
                "left no trace here comes home by its name: drctl failback VAPP",
                inquiry->site.config->site,
                inquiry->peers->len > 0 && !peers_answered(inquiry->peers)
                    ? ", and no other site answers"
                    : "");
}

/* --- the question ----------------------------------------------------------------------------- */

/* What is here of it, which will be kept; g_free. */
static char *here_text(const struct returning *returning)
{
    if (returning->interrupted)
        return g_strdup("INTERRUPTED, goes on");
    if (returning->running > 0)
        return g_strdup_printf("%u RUN HERE AS WELL", returning->running);
    if (returning->defined == returning->absent)
        return g_strdup("old copies, off");
    return returning->defined > 0
               ? g_strdup_printf("%u of %u old copies", returning->defined, returning->absent)
               : g_strdup("nothing");
}

static bool choose(struct inquiry *inquiry, const struct returning **chosen, GError **error)
{
    static const char *const headers[] = {"NAME", "WHAT", "AT", "SINCE", ">VMS", "HERE", NULL};
    AUTO(menu) menu = menu_new(headers);
    unsigned index;

    for (unsigned i = 0; i < inquiry->returning->len; i++) {
        const struct returning *returning = inquiry->returning->pdata[i];
        g_autofree char *since = time_format_local(returning->since_ms);
        g_autofree char *vms = returning->absent == returning->vms
                                   ? g_strdup_printf("%u", returning->vms)
                                   : g_strdup_printf("%u of %u", returning->absent, returning->vms);
        g_autofree char *here = here_text(returning);

        menu_add(menu, (const char *[]){returning->name, returning->what, returning->site, since,
                                        vms, here});
    }
    if (!menu_ask(menu, "Which one is to come home?", &index, error))
        return false;
    *chosen = inquiry->returning->pdata[index];
    return true;
}

static bool inquire(struct inquiry *inquiry, GError **error)
{
    struct context *context = inquiry->context;
    char *all[] = {NULL};
    g_autoptr(GError) why = NULL;

    if (!context_site(context, true, &inquiry->site, error))
        return false;
    inquiry->runs = run_list(context->catalog, error);
    inquiry->owners = inquiry->runs ? owner_list(context->config->store, error) : NULL;
    if (!inquiry->owners)
        return false;
    inquiry->protected = protected_vms(context, all, &why);
    if (!inquiry->protected) {
        fprintf(stderr, "Protections are left out: %s\n", why->message);
        inquiry->protected = g_ptr_array_new();
    }
    inquiry->absent = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    inquiry->returning = g_ptr_array_new_with_free_func(returning_free);
    inquiry->peers = sites_ask_and_print(&inquiry->site);
    find_absent(inquiry);
    return find_returning(inquiry, error);
}

bool wizard_failback(struct context *context, GError **error)
{
    AUTO_INQUIRY inquiry = {.context = context};
    const struct returning *returning;

    puts("Brings home VMs that another site has now. Questions come first: nothing is\n"
         "changed before you type a name at the end. q or Ctrl-C leaves at any time.");
    if (!inquire(&inquiry, error) || !choose(&inquiry, &returning, error))
        return false;
    wizard_set_argument(context, returning->name);
    if (context->config->remotes->len > 1 && !option_set(context, "from") &&
        config_remote(context->config, returning->site, NULL))
        wizard_set_option(context, "from", returning->site);
    printf("\nAsking site %s what runs there ...\n\n", returning->site);
    fflush(stdout);
    return true;
}
