/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planned failovers and failbacks from a site whose drctl is a shell script: what it is asked for, and what comes of
 * what it answers. It says that it has sent points, which are here. Two real sites are in tests/lab-planned.
 */
#include "tests/server.h"

#include "tests/recovery-shop.h"

/* What comes in front of the script's own answers, which may be an answer, or none. $verb: what is asked for. */
#define NOTHING ":"
#define DIES_AT_FENCE "[ $verb != fence ] || { echo die >&2; sleep 100; }"
#define SCRIPT                                                                                     \
    "cd '%s' && verb=$1\n"                                                                         \
    "[ $verb != vapp ] || verb=$2\n"                                                               \
    "printf '%%s ' $verb >>log\n"                                                                  \
    "%s\n"                                                                                         \
    "case $verb in\n"                                                                              \
    "status) cat state ;;\n"                                                                       \
    "replicate) cat points ;;\n"                                                                   \
    "stop | fence) cp off state ;;\n"                                                              \
    "start) cp on state ;;\n"                                                                      \
    "esac"
/* A whole move, and one that goes on behind the point of no return. */
#define ASKED "status replicate stop status replicate status status fence "
#define ASKED_ON "status fence "

/* ---- The other site, dc1 */

struct dc1 {
    struct server server;
    struct store *store;
};

static char *peer_path(const char *name, const char *file)
{
    return g_build_filename(session_dir, name, "peer", file, NULL);
}

static void peer_put(const char *name, const char *file, const char *text)
{
    g_autofree char *path = peer_path(name, file);
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

static void peer_put_states(const struct shop *shop, const char *file, const char *state)
{
    g_autofree char *text = g_strdup_printf("[{\"vm\":\"%s\",\"uuid\":\"%s\",\"state\":\"%s\"},"
                                            "{\"vm\":\"%s\",\"uuid\":\"%s\",\"state\":\"%s\"}]",
                                            shop->guests[0]->name, shop->guests[0]->uuid, state,
                                            shop->guests[1]->name, shop->guests[1]->uuid, state);

    peer_put(shop->name, file, text);
}

static void peer_put_points(const struct shop *shop, const char *db, const char *app)
{
    g_autofree char *text =
        g_strdup_printf("{\"vm\":\"%s\",\"point\":\"%s\"}\n{\"vm\":\"%s\",\"point\":\"%s\"}\n",
                        shop->guests[0]->name, db, shop->guests[1]->name, app);

    peer_put(shop->name, "points", text);
}

/* Nobody has the site open yet: it is opened anew behind each fork(). vApp NAME runs at dc1. */
static struct shop *shop_at_dc1(const char *name)
{
    struct shop *shop = shop_new(name, "");
    g_autofree char *dir = peer_path(name, NULL);
    g_autofree char *store = peer_path(name, "store");
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(dir, 0700, &error), error);
    unit_ok(store_create(store, "dc1", &error), error);
    peer_put_states(shop, "state", "running");
    peer_put_states(shop, "on", "running");
    peer_put_states(shop, "off", "off");
    peer_put_points(shop, shop->guests[0]->points[1], shop->guests[1]->points[1]);
    g_clear_pointer(&shop->lab, lab_free);
    return shop;
}

/* dc1, and this site, open. */
static struct dc1 peer_open(struct shop *shop, const char *hook)
{
    static const char *words[] = {"sh", "-c", NULL, "sh", NULL};
    g_autofree char *dir = peer_path(shop->name, NULL);
    g_autofree char *store = peer_path(shop->name, "store");
    struct dc1 peer;
    g_autoptr(GError) error = NULL;

    peer_put(shop->name, "log", "");
    g_free((char *)words[2]);
    words[2] = g_strdup_printf(SCRIPT, dir, hook);
    rules.commander = words;
    peer.server = server_again(store, &points_accept_ops, DEADLINE_MS);
    peer.store = store_open_link(link_fd_new(peer.server.fd, peer.server.fd), "dc1",
                                 DEADLINE_MS / 100, &error);
    unit_ok(peer.store != NULL, error);
    shop->lab = lab_open(shop->name);
    return peer;
}

static void peer_close(struct dc1 *peer)
{
    store_free(peer->store);
    server_end(&peer->server);
    g_free(peer->server.path);
}

/* What dc1 was asked for since it was opened. */
static void assert_asked(const struct shop *shop, const char *expected)
{
    g_autofree char *path = peer_path(shop->name, "log");
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    unit_ok(file_read(path, 10000, &text, NULL, &error), error);
    ck_assert_str_eq(text, expected);
}

/* ---- Moving */

static bool move_shop(const struct shop *shop, struct dc1 *peer, bool back, GError **error)
{
    AUTO(move) move = move_new(&shop->lab->site, shop->name, peer->store, back, error);
    struct move_result result = {0};
    bool moved =
        move && move_execute(&shop->lab->site, move, peer->store, NULL, NULL, &result, error);

    move_result_clear(&result);
    return moved;
}

static void die(struct progress *progress, const char *text)
{
    if (strstr(text, "die"))
        kill(getpid(), SIGKILL);
}

/* In a process of its own that is killed when HOOK says "die". */
static void move_and_die(struct shop *shop, bool back, const char *hook)
{
    pid_t pid = fork();
    int status;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct dc1 peer = peer_open(shop, hook);

        shop->lab->progress.note = die;
        move_shop(shop, &peer, back, NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status));
}

/* Owner of the VMs in the store of this site, and of dc1, "dr1 1"; NULL: there is no record. */
static void assert_owner(const struct shop *shop, const char *here, const char *there)
{
    g_autofree char *store = peer_path(shop->name, "store");
    const char *paths[] = {shop->lab->config->store, store};
    const char *expected[] = {here, there};

    for (unsigned i = 0; i < 4; i++) {
        AUTO(owner) owner = NULL;
        g_autofree char *text = NULL;
        g_autoptr(GError) error = NULL;

        unit_ok(owner_read(paths[i / 2], shop->guests[i % 2]->uuid, &owner, &error), error);
        if (owner)
            text = g_strdup_printf("%s %" G_GUINT64_FORMAT, owner->site, owner->epoch);
        ck_assert_pstr_eq(text, expected[i / 2]);
    }
}

static void give(const struct shop *shop, const char *site, uint64_t epoch)
{
    g_autofree char *store = peer_path(shop->name, "store");

    for (unsigned i = 0; i < 2; i++) {
        AUTO(owner)
        owner = owner_new(shop->guests[i]->uuid, shop->guests[i]->name, site, epoch, NULL);
        g_autoptr(GError) error = NULL;

        unit_ok(owner_claim(shop->lab->config->store, owner, &error), error);
        unit_ok(owner_claim(store, owner, &error), error);
    }
}

static void assert_here(const struct shop *shop, bool here)
{
    for (unsigned i = 0; i < 2; i++) {
        const char *name = shop->guests[i]->name;
        AUTO(domain) domain = host_domain(shop->lab->hosts->pdata[0], name, NULL);

        ck_assert(here == (domain && state_of(domain) == DOMAIN_RUNNING));
    }
}

static void assert_run(const struct shop *shop, const char *kind, const char *state)
{
    json_auto_t *runs = run_list(shop->lab->catalog, NULL);
    const json_t *run;
    size_t i;

    json_array_foreach(runs, i, run)
    {
        if (!g_str_equal(json_get_string(run, "kind"), kind))
            continue;
        ck_assert_str_eq(json_get_string(run, "state"), state);
        return;
    }
    ck_abort_msg("no run of kind %s", kind);
}

START_TEST(a_vapp_moves_by_what_its_site_is_asked_for)
{
    AUTO(shop) shop = shop_at_dc1("good");
    struct dc1 peer = peer_open(shop, NOTHING);
    g_autoptr(GError) error = NULL;

    unit_ok(move_shop(shop, &peer, false, &error), error);
    assert_asked(shop, ASKED);
    assert_owner(shop, "dr1 1", "dr1 1");
    assert_here(shop, true);
    assert_run(shop, "planned", "done");
    ck_assert(guest_reads(shop->lab, shop->guests[0]->name, 34, 1));
    peer_close(&peer);
}
END_TEST

/* ---- Back again */

START_TEST(what_fails_before_the_claim_starts_it_there_again)
{
    AUTO(shop) shop = shop_at_dc1("back");
    struct dc1 peer =
        peer_open(shop, "[ $verb != replicate ] || ! grep -q stop log || { echo 'drctl: the disk "
                        "is full' >&2; exit 1; }");
    g_autoptr(GError) error = NULL;

    unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_FAILED, "the disk is full");
    assert_asked(shop, "status replicate stop status replicate stop start ");
    assert_owner(shop, NULL, NULL);
    assert_here(shop, false);
    assert_run(shop, "planned", "failed");
    peer_close(&peer);
}
END_TEST

START_TEST(points_that_do_not_hold_everything_start_nothing)
{
    AUTO(shop) shop = shop_at_dc1("old");
    struct dc1 peer = peer_open(shop, NOTHING);
    g_autoptr(GError) error = NULL;

    peer_put_points(shop, shop->guests[0]->points[1], shop->guests[1]->points[0]);
    unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_INTEGRITY,
               "VM old-app would start from point");
    peer_put_points(shop, shop->guests[0]->points[1], "\\u001b[2J");
    unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_FAILED,
               "dc1 has sent no last point of VM old-app");
    assert_owner(shop, NULL, NULL);
    assert_here(shop, false);
    peer_close(&peer);
}
END_TEST

START_TEST(other_vms_than_when_it_began_are_not_taken_for_them)
{
    AUTO(shop) shop = shop_at_dc1("else");
    struct dc1 peer = peer_open(shop, NOTHING);
    g_autofree char *text =
        g_strdup_printf("[{\"vm\":\"else-db\",\"uuid\":\"%s\",\"state\":\"off\"},"
                        "{\"vm\":\"else-app\",\"uuid\":\"%s\",\"state\":\"off\"}]",
                        shop->guests[0]->uuid, shop->guests[0]->uuid);
    g_autoptr(GError) error = NULL;

    peer_put(shop->name, "off", text);
    unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_CONFLICT,
               "else has other VMs at dc1");
    assert_owner(shop, NULL, NULL);
    peer_close(&peer);
}
END_TEST

START_TEST(what_it_says_is_looked_at_before_it_is_shown)
{
    AUTO(shop) shop = shop_at_dc1("lies");
    struct dc1 peer = peer_open(shop, NOTHING);
    static const char *const lies[] = {
        "[{\"vm\":\"lies-db\",\"state\":\"\\u001b[2J\"}]",
        "[{\"vm\":\"\\u001b[2J\",\"state\":\"running\"}]",
        "[{\"vm\":\"lies-db\"}]",
        "[[]]",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(lies); i++) {
        g_autoptr(GError) error = NULL;

        peer_put(shop->name, "state", lies[i]);
        unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_INTEGRITY,
                   "names a VM or a state wrongly");
    }
    peer_close(&peer);
}
END_TEST

START_TEST(what_a_third_site_has_by_now_is_neither_taken_nor_started)
{
    AUTO(shop) shop = shop_at_dc1("third");
    AUTO(owner) owner = owner_new(shop->guests[0]->uuid, "third-db", "dr2", 7, NULL);
    json_auto_t *json = owner_json(owner);
    g_autofree char *text = json_text(json, 0);
    g_autofree char *hook = g_strdup_printf(
        "[ $verb != stop ] || { mkdir -p store/owners && cp third store/owners/%s.json; }",
        shop->guests[0]->uuid);
    struct dc1 peer = peer_open(shop, hook);
    g_autoptr(GError) error = NULL;

    peer_put(shop->name, "third", text);
    unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_CONFLICT,
               "VM third-db belongs to site dr2");
    assert_asked(shop, "status replicate stop status replicate status status ");
    assert_here(shop, false);
    peer_close(&peer);
}
END_TEST

/* ---- Behind the point of no return */

START_TEST(what_was_killed_behind_the_claim_goes_on)
{
    AUTO(shop) shop = shop_at_dc1("on");
    g_autoptr(GError) error = NULL;
    struct dc1 peer;

    move_and_die(shop, false, DIES_AT_FENCE);
    peer = peer_open(shop, NOTHING);
    assert_owner(shop, "dr1 1", "dr1 1");
    assert_here(shop, false);
    unit_ok(move_shop(shop, &peer, false, &error), error);
    assert_asked(shop, ASKED_ON);
    assert_owner(shop, "dr1 1", "dr1 1");
    assert_here(shop, true);
    peer_close(&peer);
}
END_TEST

START_TEST(a_vm_that_runs_there_again_is_not_started_a_second_time)
{
    AUTO(shop) shop = shop_at_dc1("twice");
    g_autoptr(GError) error = NULL;
    struct dc1 peer;

    move_and_die(shop, false, DIES_AT_FENCE);
    peer = peer_open(shop, NOTHING);
    peer_put_states(shop, "state", "running");
    unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_CONFLICT,
               "VM twice-db is running at dc1");
    assert_asked(shop, "status ");
    assert_here(shop, false);
    assert_run(shop, "planned", "interrupted");
    peer_close(&peer);
}
END_TEST

START_TEST(a_claim_of_long_ago_is_none_when_it_has_come_home_since)
{
    AUTO(shop) shop = shop_at_dc1("stale");
    g_autoptr(GError) error = NULL;
    struct dc1 peer;

    move_and_die(shop, false, DIES_AT_FENCE);
    peer = peer_open(shop, NOTHING);
    give(shop, "dc1", 50);
    peer_put_states(shop, "state", "running");
    unit_ok(move_shop(shop, &peer, false, &error), error);
    assert_asked(shop, "replicate stop status replicate status status fence ");
    assert_owner(shop, "dr1 51", "dr1 51");
    assert_here(shop, true);
    peer_close(&peer);
}
END_TEST

START_TEST(a_fence_that_fails_holds_up_only_what_is_not_off)
{
    AUTO(shop) off = shop_at_dc1("foff");
    AUTO(shop) on = shop_at_dc1("fon");
    struct dc1 peer = peer_open(off, "[ $verb != fence ] || exit 1");
    g_autoptr(GError) error = NULL;

    unit_ok(move_shop(off, &peer, false, &error), error);
    assert_here(off, true);
    peer_close(&peer);
    g_clear_pointer(&off->lab, lab_free);

    peer = peer_open(on, "[ $verb != fence ] || { cp on state; exit 1; }");
    unit_fails(move_shop(on, &peer, false, &error), error, ERROR_CONFLICT,
               "VM fon-db is running at dc1");
    assert_here(on, false);
    assert_run(on, "planned", "interrupted");
    peer_close(&peer);
    off->lab = lab_open("foff");
}
END_TEST

START_TEST(a_last_point_that_is_damaged_since_starts_nothing_older)
{
    AUTO(shop) shop = shop_at_dc1("dam");
    g_autofree char *dir = NULL, *image = NULL;
    g_autoptr(GError) error = NULL;
    struct dc1 peer;

    move_and_die(shop, false, DIES_AT_FENCE);
    peer = peer_open(shop, NOTHING);
    dir = store_point_dir(shop->lab->config->store, shop->guests[0]->uuid,
                          shop->guests[0]->points[1]);
    image = g_build_filename(dir, "vda.qcow2", NULL);
    ck_assert_int_eq(truncate(image, 100000), 0);
    unit_fails(move_shop(shop, &peer, false, &error), error, ERROR_INTEGRITY,
               "VM dam-db would start from point");
    assert_here(shop, false);
    /* Who is asked may. */
    fail_over(shop->lab, "dam");
    assert_here(shop, true);
    peer_close(&peer);
}
END_TEST

/* The VM that was here before it was moved away, without its disks. */
static void define_original(const struct shop *shop, const struct lost_guest *guest)
{
    g_autoptr(GString) xml = g_string_new(guest->xml);
    g_autoptr(GError) error = NULL;
    AUTO(domain) domain = NULL;

    g_string_replace(xml, "<source file=\"", "<source file=\"/nonexistent", 0);
    domain = host_define(shop->lab->hosts->pdata[0], xml->str, &error);
    unit_ok(domain != NULL, error);
}

START_TEST(a_plain_failover_goes_on_with_a_failback_whose_other_site_is_lost)
{
    AUTO(shop) shop = shop_at_dc1("comes");
    AUTO(failover_plan) plan = NULL;

    shop->lab = lab_open("comes");
    for (unsigned i = 0; i < 2; i++)
        define_original(shop, shop->guests[i]);
    g_clear_pointer(&shop->lab, lab_free);
    move_and_die(shop, true, DIES_AT_FENCE);
    shop->lab = lab_open("comes");
    assert_owner(shop, "dr1 1", "dr1 1");
    plan = plan_of(shop->lab, "comes");
    ck_assert(has_finding(planned(plan, 0), "put aside"));
    fail_over(shop->lab, "comes");
    assert_here(shop, true);
    /* What it has brought up is no old copy. */
    VIRSH("destroy", "comes-app");
    fail_over(shop->lab, "comes");
    assert_here(shop, true);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN("move", a_vapp_moves_by_what_its_site_is_asked_for,
                       what_fails_before_the_claim_starts_it_there_again,
                       points_that_do_not_hold_everything_start_nothing,
                       other_vms_than_when_it_began_are_not_taken_for_them,
                       what_it_says_is_looked_at_before_it_is_shown,
                       what_a_third_site_has_by_now_is_neither_taken_nor_started,
                       what_was_killed_behind_the_claim_goes_on,
                       a_vm_that_runs_there_again_is_not_started_a_second_time,
                       a_claim_of_long_ago_is_none_when_it_has_come_home_since,
                       a_fence_that_fails_holds_up_only_what_is_not_off,
                       a_last_point_that_is_damaged_since_starts_nothing_older,
                       a_plain_failover_goes_on_with_a_failback_whose_other_site_is_lost);
}
