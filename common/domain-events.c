/* SPDX-License-Identifier: Apache-2.0 */
/* The event half of host.h: libvirt's event loop, and what is told about a domain. */
#include "common/error.h"
#include "common/host-private.h"
#include "common/xml.h"

/* --- the loop -------------------------------------------------------------------------------- */

/*
 * libvirt's own loop, which is GLib's default main context, turns in a thread of ours as long as
 * there is a connection: nobody else may iterate that context. The last to go removes ANCHOR, a
 * timer that never fires. What the loop calls when a timer is removed comes after all removals
 * before it, so nothing of a closed connection is left when the thread ends.
 */
static struct {
    GMutex lock;
    unsigned users;
    GThread *thread;
    int anchor;
    bool over; /* only the thread */
} loop;

static void never_fires(int timer, void *opaque)
{
}

static void loop_is_over(void *opaque)
{
    loop.over = true;
}

static void *loop_main(void *data)
{
    while (!loop.over && virEventRunDefaultImpl() == 0)
        continue;
    return NULL;
}

void events_hold(void)
{
    g_mutex_lock(&loop.lock);
    if (loop.users++ == 0) {
        loop.over = false;
        loop.anchor = virEventAddTimeout(-1, never_fires, NULL, loop_is_over);
        loop.thread = g_thread_new("libvirt events", loop_main, NULL);
    }
    g_mutex_unlock(&loop.lock);
}

void events_release(void)
{
    g_mutex_lock(&loop.lock);
    if (--loop.users == 0) {
        virEventRemoveTimeout(loop.anchor);
        g_thread_join(loop.thread);
    }
    g_mutex_unlock(&loop.lock);
}

/* --- watching a domain ----------------------------------------------------------------------- */

struct domain_watch {
    gatomicrefcount refs; /* of the owner and of each callback that libvirt has */
    GMutex lock;          /* held while it rings */
    void (*ring)(void *context);
    void *context;
    struct domain *domain; /* borrowed; only the owner */
    int callbacks[2];
    unsigned n_callbacks;
};

static void watch_unref(void *data)
{
    struct domain_watch *watch = data;

    if (!g_atomic_ref_count_dec(&watch->refs))
        return;
    g_mutex_clear(&watch->lock);
    g_free(watch);
}

static void watch_ring(struct domain_watch *watch)
{
    g_mutex_lock(&watch->lock);
    if (watch->ring)
        watch->ring(watch->context);
    g_mutex_unlock(&watch->lock);
}

static void on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                         void *opaque)
{
    watch_ring(opaque);
}

static void on_threshold(virConnectPtr connection, virDomainPtr domain, const char *node,
                         const char *path, unsigned long long threshold, unsigned long long excess,
                         void *opaque)
{
    watch_ring(opaque);
}

static bool watch_event(struct domain_watch *watch, int event,
                        virConnectDomainEventGenericCallback callback, GError **error)
{
    struct domain *domain = watch->domain;
    int id;

    g_atomic_ref_count_inc(&watch->refs);
    id = virConnectDomainEventRegisterAny(domain->host->connection, domain->handle, event, callback,
                                          watch, watch_unref);
    if (id < 0) {
        domain_fail(domain, error, "watch");
        watch_unref(watch);
        return false;
    }
    watch->callbacks[watch->n_callbacks++] = id;
    return true;
}

struct domain_watch *domain_watch_new(struct domain *domain, void (*ring)(void *context),
                                      void *context, GError **error)
{
    AUTO(domain_watch) watch = g_new0(struct domain_watch, 1);

    g_atomic_ref_count_init(&watch->refs);
    g_mutex_init(&watch->lock);
    watch->ring = ring;
    watch->context = context;
    watch->domain = domain;
    if (!watch_event(watch, VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle),
                     error) ||
        !watch_event(watch, VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD,
                     VIR_DOMAIN_EVENT_CALLBACK(on_threshold), error))
        return NULL;
    return g_steal_pointer(&watch);
}

void domain_watch_free(struct domain_watch *watch)
{
    if (!watch)
        return;
    g_mutex_lock(&watch->lock);
    watch->ring = NULL;
    g_mutex_unlock(&watch->lock);
    for (unsigned i = 0; i < watch->n_callbacks; i++)
        virConnectDomainEventDeregisterAny(watch->domain->host->connection, watch->callbacks[i]);
    watch_unref(watch);
}

/* "vda[5]": how libvirt calls the scratch file of a disk's backup; g_free, NULL if there is none. */
static char *scratch_node(struct domain *domain, const char *target)
{
    g_autofree char *text = NULL;
    g_autofree char *xpath = g_strdup_printf("disks/disk[@name='%s']/@index", target);
    g_autofree char *index = NULL;

    if (!domain_backup_xml(domain, &text, NULL) || !text)
        return NULL;
    AUTO(xml) xml = xml_parse(text, "backup job", NULL);

    index = xml ? xml_string(xml_root(xml), xpath) : NULL;
    return index ? g_strdup_printf("%s[%s]", target, index) : NULL;
}

bool domain_scratch_mark(struct domain *domain, const char *target, uint64_t bytes, GError **error)
{
    g_autofree char *node = scratch_node(domain, target);

    if (!node)
        return fail(error, ERROR_NOT_FOUND, "disk %s of domain %s at %s is not being backed up",
                    target, domain->name, domain->host->uri);
    return virDomainSetBlockThreshold(domain->handle, node, bytes, 0) == 0 ||
           domain_fail(domain, error, "watch the scratch file %s of", node);
}
