/* SPDX-License-Identifier: Apache-2.0 */
/* Which host gets which VM; no libvirt is needed. */
#include "restore/allot.h"

#include "restore/planner.h"
#include "tests/rewrite-fixture.h"

#define GIB (UINT64_C(1) << 30)
#define HOSTS 3
#define VMS 6

/* A site and VMs without wishes, to be changed before allot(). */
struct room {
    struct allot_host hosts[HOSTS];
    struct allot_vm vms[VMS];
    struct allot allot;
    bool forbidden[VMS][HOSTS];
    unsigned missing[VMS][HOSTS]; /* networks */
    unsigned asked;
};

static unsigned lacks(void *context, unsigned vm, unsigned host)
{
    return ((struct room *)context)->missing[vm][host];
}

static bool runs(void *context, unsigned vm, unsigned host)
{
    struct room *room = context;

    room->asked++;
    return !room->forbidden[vm][host];
}

/* N_HOSTS of 10 GiB and 8 CPUs, N_VMS of 2 GiB and one CPU. */
static struct room *room_new(unsigned n_hosts, unsigned n_vms)
{
    static const char *const hosts[] = {"x", "y", "z"};
    static const char *const vms[] = {"a", "b", "c", "d", "e", "f"};
    struct room *room = g_new0(struct room, 1);

    for (unsigned i = 0; i < n_hosts; i++)
        room->hosts[i] = (struct allot_host){hosts[i], 10 * GIB, 8, 0};
    for (unsigned i = 0; i < n_vms; i++)
        room->vms[i] = (struct allot_vm){.name = vms[i],
                                         .memory_bytes = 2 * GIB,
                                         .cpus = 1,
                                         .fixed = ALLOT_NOWHERE,
                                         .notes = g_ptr_array_new_with_free_func(g_free)};
    room->allot = (struct allot){.hosts = room->hosts,
                                 .n_hosts = n_hosts,
                                 .vms = room->vms,
                                 .n_vms = n_vms,
                                 .lacks = lacks,
                                 .runs = runs,
                                 .context = room};
    return room;
}

static void room_free(struct room *room)
{
    for (unsigned i = 0; i < room->allot.n_vms; i++) {
        g_ptr_array_unref(room->vms[i].notes);
        g_free(room->vms[i].refusal);
    }
    g_free(room);
}
DEFINE_CLEANUP(room)

/* How many VMs HOST got. */
static unsigned got(const struct room *room, int host)
{
    unsigned count = 0;

    for (unsigned i = 0; i < room->allot.n_vms; i++)
        count += room->vms[i].at == host;
    return count;
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

START_TEST(vms_are_spread)
{
    AUTO(room) room = room_new(3, 6);

    allot(&room->allot);
    for (int host = 0; host < 3; host++)
        ck_assert_uint_eq(got(room, host), 2);
    ck_assert_uint_eq(room->asked, 6);
}
END_TEST

START_TEST(guests_that_run_there_already_count)
{
    AUTO(room) room = room_new(2, 4);

    room->hosts[0].cpus_used = 6;
    allot(&room->allot);
    ck_assert_uint_eq(got(room, 0), 0);
    ck_assert_uint_eq(got(room, 1), 4);
}
END_TEST

START_TEST(no_memory_is_promised_twice)
{
    AUTO(room) room = room_new(1, 6);

    allot(&room->allot);
    ck_assert_uint_eq(got(room, 0), 5);
    ck_assert_int_eq(room->vms[5].at, ALLOT_NOWHERE);
    ck_assert_str_eq(room->vms[5].refusal, "it needs 2 GiB of memory; left for it is 0 B at x");
}
END_TEST

START_TEST(large_ones_fit_where_small_ones_would_have_been_in_the_way)
{
    AUTO(room) room = room_new(2, 4);

    room->vms[3].memory_bytes = 10 * GIB;
    allot(&room->allot);
    ck_assert_int_ne(room->vms[3].at, ALLOT_NOWHERE);
    ck_assert_uint_eq(got(room, ALLOT_NOWHERE), 0);
    ck_assert_uint_eq(got(room, room->vms[3].at), 1);
}
END_TEST

/* Spread, 6 and 3 would get one host, 4 and 4 the other, and nobody has room for the last 3. */
START_TEST(where_spreading_leaves_somebody_out_hosts_are_filled)
{
    static const uint64_t sizes[] = {6, 4, 4, 3, 3};
    AUTO(room) room = room_new(2, 5);

    for (unsigned i = 0; i < 5; i++)
        room->vms[i].memory_bytes = sizes[i] * GIB;
    allot(&room->allot);
    ck_assert_uint_eq(got(room, ALLOT_NOWHERE), 0);
}
END_TEST

START_TEST(those_that_can_be_done_without_come_last)
{
    AUTO(room) room = room_new(1, 2);

    room->vms[0].memory_bytes = 8 * GIB;
    room->vms[0].optional = true;
    room->vms[1].memory_bytes = 4 * GIB;
    allot(&room->allot);
    ck_assert_int_eq(room->vms[0].at, ALLOT_NOWHERE);
    ck_assert_int_eq(room->vms[1].at, 0);
}
END_TEST

START_TEST(who_shall_be_apart_is_whoever_says_so)
{
    AUTO(room) room = room_new(2, 2);

    room->hosts[1].cpus_used = 7;
    room->vms[1].apart = NAMES("a");
    allot(&room->allot);
    ck_assert_int_ne(room->vms[0].at, room->vms[1].at);
    ck_assert_uint_eq(room->vms[0].notes->len + room->vms[1].notes->len, 0);
}
END_TEST

START_TEST(where_there_is_one_host_they_are_not_apart_and_that_is_told)
{
    AUTO(room) room = room_new(1, 2);

    room->vms[1].apart = NAMES("a");
    allot(&room->allot);
    ck_assert_uint_eq(got(room, 0), 2);
    ck_assert(
        contains(room->vms[1].notes, "it should be apart from a, but no other host takes it"));
}
END_TEST

START_TEST(who_shall_be_together_is_also_where_it_is_fuller)
{
    AUTO(room) room = room_new(2, 4);

    room->vms[2].together = NAMES("a", "b");
    allot(&room->allot);
    ck_assert_int_eq(room->vms[0].at, room->vms[1].at);
    ck_assert_int_eq(room->vms[0].at, room->vms[2].at);
    ck_assert_int_ne(room->vms[0].at, room->vms[3].at);
}
END_TEST

START_TEST(together_is_given_up_when_no_host_takes_all)
{
    AUTO(room) room = room_new(2, 2);

    room->vms[0].memory_bytes = room->vms[1].memory_bytes = 6 * GIB;
    room->vms[0].together = NAMES("b");
    allot(&room->allot);
    ck_assert_uint_eq(got(room, 0), 1);
    ck_assert_uint_eq(got(room, 1), 1);
    ck_assert(contains(room->vms[0].notes, "it should be together with b, but no host takes both"));
}
END_TEST

START_TEST(one_that_is_here_already_draws_those_that_belong_to_it)
{
    AUTO(room) room = room_new(3, 2);

    room->vms[0].fixed = 2;
    room->vms[0].memory_bytes = 0;
    room->vms[1].together = NAMES("a");
    allot(&room->allot);
    ck_assert_int_eq(room->vms[0].at, 2);
    ck_assert_int_eq(room->vms[1].at, 2);
    ck_assert_uint_eq(room->asked, 1);
}
END_TEST

START_TEST(a_host_that_is_named_is_the_only_one)
{
    AUTO(room) room = room_new(2, 3);

    room->hosts[1].cpus_used = 7;
    room->vms[0].host = "y";
    room->vms[1].host = "nowhere";
    room->vms[2].host = "y";
    room->vms[2].memory_bytes = 11 * GIB;
    allot(&room->allot);
    ck_assert_int_eq(room->vms[0].at, 1);
    ck_assert_str_eq(room->vms[1].refusal, "its host nowhere is none of this site");
    ck_assert_ptr_null(strstr(room->vms[2].refusal, "at x"));
    ck_assert_ptr_nonnull(strstr(room->vms[2].refusal, "8 GiB at y"));
}
END_TEST

START_TEST(a_host_that_cannot_run_it_is_passed_over)
{
    AUTO(room) room = room_new(2, 1);

    room->forbidden[0][0] = true;
    allot(&room->allot);
    ck_assert_int_eq(room->vms[0].at, 1);
    ck_assert_uint_eq(room->asked, 2);
}
END_TEST

START_TEST(nobody_is_asked_twice)
{
    AUTO(room) room = room_new(2, 1);

    room->forbidden[0][0] = room->forbidden[0][1] = true;
    allot(&room->allot);
    ck_assert_int_eq(room->vms[0].at, ALLOT_NOWHERE);
    ck_assert_uint_eq(room->asked, 2);
    ck_assert_ptr_nonnull(strstr(room->vms[0].refusal, "10 GiB at x, which cannot run it"));
}
END_TEST

START_TEST(networks_count_more_than_load_and_cpus_more_than_that)
{
    AUTO(room) room = room_new(2, 2);

    room->hosts[0].cpus_used = 7;
    room->missing[0][1] = 1;
    room->hosts[1].cpus = 4;
    room->vms[1].cpus = 6;
    allot(&room->allot);
    ck_assert_int_eq(room->vms[0].at, 0);
    ck_assert_int_eq(room->vms[1].at, 0);
}
END_TEST

/* ---- A site of 20 hosts, 50 vApps of 20 VMs */

#define MANY_HOSTS 20
#define MANY_VMS 1000

static void free_planned(void *planned)
{
    planned_free(planned);
}

static void free_platform(void *platform)
{
    platform_free(platform);
}

struct fleet {
    struct planner planner;
    struct recovery_plan *plan;
    GPtrArray *vms; /* of struct failover_vm */
    struct vapp *order;
};

static struct origin *text_origin(const char *name)
{
    struct origin *origin = g_new0(struct origin, 1);
    g_autofree char *element = g_strdup_printf("<name>%s</name>", name);
    g_autoptr(GString) text =
        g_string_new(DOMAIN("<interface type='network'><source network='prod'/>"
                            "<mac address='52:54:00:00:00:01'/></interface>"));

    g_string_replace(text, "<name>db</name>", element, 1);
    origin->definition = g_strdup(text->str);
    origin->manifest = manifest_new();
    manifest_add_disk(origin->manifest, "vda");
    origin->disks = g_ptr_array_new();
    return origin;
}

static void add_vm(struct fleet *fleet, const struct vapp_vm *definition)
{
    struct failover_vm *vm = failover_vm_new(definition);
    struct planned *planned = planned_new(&fleet->planner, vm, definition);

    g_ptr_array_add(fleet->vms, vm);
    planned->recovery = g_new0(struct recovery, 1);
    planned->recovery->name = g_strdup(vm->name);
    planned->recovery->uuid = g_uuid_string_random();
    planned->recovery->plan = fleet->plan;
    planned->recovery->origin = text_origin(vm->name);
}

static void free_vapp(void *vapp)
{
    vapp_free(vapp);
}

/* 50 vApps, v0 to v49, each of a database and 19 VMs that are after it. */
static struct vapp *many_vapps(void)
{
    g_autoptr(GPtrArray) vapps = g_ptr_array_new_with_free_func(free_vapp);
    g_autoptr(GError) error = NULL;
    struct vapp *joined;

    for (unsigned v = 0; v < 50; v++) {
        g_autoptr(GString) text = g_string_new(NULL);

        g_string_append_printf(text, "[vapp]\nname = v%u\n[vm v%u-db]\n", v, v);
        for (unsigned i = 1; i < 20; i++)
            g_string_append_printf(text, "[vm v%u-%u]\norder = 1\nafter = v%u-db\n", v, i, v);
        g_ptr_array_add(vapps, vapp_parse(text->str, text->len, "test", &error));
        unit_ok(vapps->pdata[v] != NULL, error);
    }
    joined = vapp_join("all", vapps, &error);
    unit_ok(joined != NULL, error);
    return joined;
}

static void fleet_clear(struct fleet *fleet)
{
    g_ptr_array_unref(fleet->planner.vms);
    g_ptr_array_unref(fleet->planner.platforms);
    for (unsigned i = 0; i < fleet->vms->len; i++)
        failover_vm_free(fleet->vms->pdata[i]);
    g_ptr_array_unref(fleet->vms);
    recovery_plan_free(fleet->plan);
    vapp_free(fleet->order);
}

static void fleet_init(struct fleet *fleet)
{
    static const char plan[] = "[plan]\nvapps = all\n[vm v0-1]\napart = v0-2\n";
    g_autoptr(GError) error = NULL;

    *fleet = (struct fleet){.vms = g_ptr_array_new(), .order = many_vapps()};
    fleet->plan = recovery_plan_parse(plan, strlen(plan), "all", "all.plan", &error);
    unit_ok(fleet->plan != NULL, error);
    fleet->planner.recovery = fleet->plan;
    fleet->planner.vms = g_ptr_array_new_with_free_func(free_planned);
    fleet->planner.platforms = g_ptr_array_new_with_free_func(free_platform);
    for (unsigned i = 0; i < MANY_HOSTS; i++) {
        g_autofree char *name = g_strdup_printf("qemu+ssh://host%02u/system", i);
        struct platform *platform = rewrite_host();

        platform->name = g_steal_pointer(&name);
        /* VMs have 2 GiB: there is room for 1040. */
        platform->memory_free_bytes = 104 * GIB;
        /* Every other one has the network. */
        if (i % 2 == 1)
            g_hash_table_remove(platform->networks, "prod");
        g_ptr_array_add(fleet->planner.platforms, platform);
    }
    for (unsigned i = 0; i < fleet->order->vms->len; i++)
        add_vm(fleet, fleet->order->vms->pdata[i]);
}

START_TEST(a_thousand_vms_get_their_places_at_twenty_hosts)
{
    struct fleet fleet;
    unsigned counts[MANY_HOSTS] = {0};

    fleet_init(&fleet);
    ck_assert_uint_eq(fleet.vms->len, MANY_VMS);
    planner_place(&fleet.planner);
    for (unsigned i = 0; i < MANY_VMS; i++) {
        const struct planned *planned = fleet.planner.vms->pdata[i];

        ck_assert_ptr_nonnull(planned->vm->host);
        ck_assert_uint_eq(planned->findings->blockers->len, 0);
        ck_assert_ptr_nonnull(planned->recovery->definition);
        counts[planned->adapted]++;
    }
    for (unsigned i = 0; i < MANY_HOSTS; i++)
        ck_assert_uint_le(counts[i], 52);
    for (unsigned i = 0; i < MANY_HOSTS; i += 2)
        ck_assert_uint_eq(counts[i], 52);
    fleet_clear(&fleet);
}
END_TEST

/* What costs is asking a host whether it can run a VM: the whole definition is rewritten for that. */
struct count {
    struct fleet *fleet;
    unsigned rewritten;
};

static bool rewritten_for(void *context, unsigned vm, unsigned host)
{
    struct count *count = context;
    const struct planned *planned = count->fleet->planner.vms->pdata[vm];
    AUTO(findings) findings = findings_new();
    g_autoptr(GError) error = NULL;

    count->rewritten++;
    unit_ok(recovery_adapt(planned->recovery, count->fleet->planner.platforms->pdata[host], false,
                           findings, &error),
            error);
    return findings->blockers->len == 0;
}

START_TEST(a_thousand_definitions_are_rewritten_once_each)
{
    struct fleet fleet;
    struct allot_host hosts[MANY_HOSTS];
    g_autofree struct allot_vm *vms = g_new0(struct allot_vm, MANY_VMS);
    struct count count = {.fleet = &fleet};
    struct allot all = {.hosts = hosts,
                        .n_hosts = MANY_HOSTS,
                        .vms = vms,
                        .n_vms = MANY_VMS,
                        .runs = rewritten_for,
                        .context = &count};

    fleet_init(&fleet);
    for (unsigned i = 0; i < MANY_HOSTS; i++) {
        const struct platform *platform = fleet.planner.platforms->pdata[i];

        hosts[i] = (struct allot_host){platform->name, platform->memory_free_bytes, 2, 0};
    }
    for (unsigned i = 0; i < MANY_VMS; i++)
        vms[i] = (struct allot_vm){.name = ((struct failover_vm *)fleet.vms->pdata[i])->name,
                                   .memory_bytes = 2 * GIB,
                                   .cpus = 2,
                                   .fixed = ALLOT_NOWHERE};
    allot(&all);
    for (unsigned i = 0; i < MANY_VMS; i++)
        ck_assert_int_ne(vms[i].at, ALLOT_NOWHERE);
    ck_assert_uint_eq(count.rewritten, MANY_VMS);
    fleet_clear(&fleet);
}
END_TEST

int main(void)
{
    return UNIT_RUN("allot", vms_are_spread, guests_that_run_there_already_count,
                    no_memory_is_promised_twice,
                    large_ones_fit_where_small_ones_would_have_been_in_the_way,
                    where_spreading_leaves_somebody_out_hosts_are_filled,
                    those_that_can_be_done_without_come_last, who_shall_be_apart_is_whoever_says_so,
                    where_there_is_one_host_they_are_not_apart_and_that_is_told,
                    who_shall_be_together_is_also_where_it_is_fuller,
                    together_is_given_up_when_no_host_takes_all,
                    one_that_is_here_already_draws_those_that_belong_to_it,
                    a_host_that_is_named_is_the_only_one, a_host_that_cannot_run_it_is_passed_over,
                    nobody_is_asked_twice, networks_count_more_than_load_and_cpus_more_than_that,
                    a_thousand_vms_get_their_places_at_twenty_hosts,
                    a_thousand_definitions_are_rewritten_once_each);
}
