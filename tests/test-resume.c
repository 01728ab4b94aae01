/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Points of a real guest whose transfer to a real `drctl serve` is interrupted: what has arrived is not
 * sent again, however it ended and whatever the guest writes meanwhile, and the point is true.
 */
#include <inttypes.h>

#include "tests/away.h"
#include "tests/capture-lab.h"

#define MIB ((uint64_t)1 << 20)
/* What the guest has on vda: as it does not compress, so much is sent. */
#define DATA_BYTES (20 * MIB)
/* What was on its way when it ended, and what a point costs besides. */
#define WINDOW_BYTES (4 * MIB)
/* A server that is killed loses what it has not written yet, too. */
#define LANE_BYTES (8 * MIB)

/* A lab whose store is behind a server. */
struct site {
    struct lab *lab;
    struct away away;
};

/* New bytes that do not compress, LEN_MIB of them at AT_MIB of vda. */
static void guest_fills(struct site *site, unsigned at_mib, unsigned len_mib)
{
    g_autofree char *path = g_build_filename(site->lab->truth_dir, "random", NULL);
    g_autofree char *count = g_strdup_printf("count=%u", len_mib);
    g_autofree char *of = g_strconcat("of=", path, NULL);

    RUN("dd", "if=/dev/urandom", of, "bs=1M", count, "status=none");
    guest_io(site->lab, 0, "write -s %s %uM %uM", path, at_mib, len_mib);
}

static void site_connect(struct site *site)
{
    struct dialler dialler = {.dial = away_dial, .context = &site->away};
    g_autoptr(GError) error = NULL;

    g_clear_pointer(&site->lab->store, store_free);
    if (site->away.pid)
        away_wait(&site->away);
    site->lab->store = store_open_dialler(&dialler, "dr1", AWAY_PING_MS, &error);
    unit_ok(site->lab->store, error);
}

static struct site *site_open(struct lab *lab)
{
    struct site *site = g_new0(struct site, 1);

    site->lab = lab;
    site->away.store_path = lab->store_path;
    site->away.drctl = DRCTL;
    site_connect(site);
    return site;
}

static struct site *site_new(const char *name)
{
    struct site *site = site_open(lab_new(name, "qcow2"));

    guest_fills(site, 1, (unsigned)(DATA_BYTES / MIB));
    return site;
}

static void site_free(struct site *site)
{
    g_clear_pointer(&site->lab->store, store_free);
    away_wait(&site->away);
    lab_free(site->lab);
    g_free(site);
}
DEFINE_CLEANUP(site)

/* A point that does not come to its end, because END comes after BYTES. */
static void interrupt_point(struct site *site, enum away_end end, uint64_t bytes)
{
    struct point_request request = request_of(site->lab);
    struct point_result result = {0};
    g_autoptr(GError) error = NULL;

    site->away.end = end;
    site->away.bytes = bytes;
    ck_assert(!snapshot_take_point(&request, &result, &error));
    ck_assert_msg(error_is(error, end == AWAY_INTERRUPTED ? ERROR_CANCELLED : ERROR_NETWORK), "%s",
                  error->message);
    assert_nothing_is_left(site->lab);
    if (end != AWAY_INTERRUPTED)
        site_connect(site);
}

/* The next point, which is true; what it sent. A lost link is waited for, up to RETRY_MS. */
static uint64_t take_patiently(struct site *site, int64_t retry_ms)
{
    struct point_request request = request_of(site->lab);
    struct point_result result = {0};
    g_autoptr(GError) error = NULL;
    g_autofree char *incoming = g_build_filename(site->lab->store_path, "incoming", NULL);
    g_auto(GStrv) left = NULL;

    store_be_patient(site->lab->store, retry_ms, NULL);
    unit_ok(snapshot_take_point(&request, &result, &error), error);
    keep_truth(site->lab, result.manifest->point);
    assert_point_is_true(site->lab, result.manifest->point);
    g_autofree char *dir = store_point_dir(site->lab->store_path, domain_uuid(site->lab->domain),
                                           result.manifest->point);
    unit_ok(snapshot_verify_point(dir, result.manifest, NULL, &error), error);
    left = dir_list(incoming, NULL);
    ck_assert_uint_eq(g_strv_length(left), 0);
    g_ptr_array_unref(result.disks);
    manifest_free(result.manifest);
    return result.sent_bytes;
}

static uint64_t take_next(struct site *site)
{
    return take_patiently(site, 0);
}

START_TEST(a_server_that_was_killed_has_what_came)
{
    AUTO(site) site = site_new("served");

    interrupt_point(site, AWAY_SERVE_KILLED, DATA_BYTES * 9 / 10);
    ck_assert_uint_le(take_next(site), DATA_BYTES / 10 + LANE_BYTES + WINDOW_BYTES);
}
END_TEST

START_TEST(a_link_that_was_cut_costs_the_last_window)
{
    AUTO(site) site = site_new("cut");

    interrupt_point(site, AWAY_LINK_CUT, DATA_BYTES * 9 / 10);
    ck_assert_uint_le(take_next(site), DATA_BYTES / 10 + WINDOW_BYTES);
}
END_TEST

START_TEST(what_the_guest_writes_meanwhile_is_sent)
{
    AUTO(site) site = site_new("writes");
    uint64_t sent;

    interrupt_point(site, AWAY_LINK_CUT, DATA_BYTES * 9 / 10);
    guest_fills(site, 3, 2);
    guest_io(site->lab, 0, "write -z 8M 1M");
    guest_io(site->lab, 0, "write -P 7 23M 100k");
    sent = take_next(site);
    ck_assert_uint_ge(sent, 2 * MIB);
    ck_assert_uint_le(sent, DATA_BYTES / 10 + 2 * MIB + WINDOW_BYTES);
}
END_TEST

START_TEST(each_attempt_comes_further)
{
    AUTO(site) site = site_new("twice");

    interrupt_point(site, AWAY_LINK_CUT, DATA_BYTES * 3 / 10);
    guest_fills(site, 2, 1);
    interrupt_point(site, AWAY_LINK_CUT, DATA_BYTES * 5 / 10);
    guest_fills(site, 12, 1);
    ck_assert_uint_le(take_next(site), DATA_BYTES * 2 / 10 + 2 * MIB + 2 * WINDOW_BYTES);
}
END_TEST

START_TEST(an_attempt_that_ended_early_takes_nothing_from_one_before)
{
    AUTO(site) site = site_new("early");

    interrupt_point(site, AWAY_LINK_CUT, DATA_BYTES * 9 / 10);
    guest_fills(site, 1, 2);
    interrupt_point(site, AWAY_LINK_CUT, 3 * MIB / 2);
    ck_assert_uint_le(take_next(site), DATA_BYTES / 10 + 2 * MIB + WINDOW_BYTES);
}
END_TEST

START_TEST(an_increment_goes_on_as_well)
{
    AUTO(site) site = site_new("increment");
    uint64_t sent;

    take_next(site);
    guest_fills(site, 2, 16);
    interrupt_point(site, AWAY_SERVE_KILLED, 14 * MIB);
    guest_fills(site, 5, 1);
    sent = take_next(site);
    ck_assert_uint_ge(sent, 2 * MIB);
    ck_assert_uint_le(sent, 3 * MIB + LANE_BYTES + WINDOW_BYTES);
}
END_TEST

/* The image that is left of the last attempt. */
static char *left_image(const struct site *site)
{
    g_autofree char *incoming = g_build_filename(site->lab->store_path, "incoming", NULL);
    g_auto(GStrv) left = dir_list(incoming, NULL);

    ck_assert_uint_eq(g_strv_length(left), 1);
    return g_build_filename(incoming, left[0], "vda.qcow2", NULL);
}

START_TEST(damage_of_what_arrived_is_noticed_and_sent_again)
{
    AUTO(site) site = site_new("damage");
    g_autofree char *image = NULL;
    uint64_t sent;
    int fd;

    interrupt_point(site, AWAY_LINK_CUT, DATA_BYTES * 9 / 10);
    image = left_image(site);
    fd = open(image, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, "damage", 6, (off_t)(DATA_BYTES / 2)), 6);
    close(fd);
    sent = take_next(site);
    ck_assert_uint_ge(sent, DATA_BYTES / 2);
    ck_assert_uint_le(sent, DATA_BYTES / 2 + WINDOW_BYTES);
}
END_TEST

/* In a process of its own, which opens all anew: an interrupt is for a whole process, too. */
static void end_at_the_source(struct site **site, const char *name, enum away_end end,
                              uint64_t bytes)
{
    pid_t child;
    int status;

    g_clear_pointer(site, site_free);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        *site = site_open(lab_open(name, "qcow2"));
        interrupt_point(*site, end, bytes);
        site_free(*site);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (end == AWAY_SOURCE_KILLED)
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    else
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    *site = site_open(lab_open(name, "qcow2"));
}

START_TEST(a_source_that_was_killed_sends_what_is_missing)
{
    AUTO(site) site = site_new("source");

    end_at_the_source(&site, "source", AWAY_SOURCE_KILLED, DATA_BYTES * 9 / 10);
    ck_assert_uint_le(take_next(site), DATA_BYTES / 10 + WINDOW_BYTES);
}
END_TEST

START_TEST(what_was_broken_off_goes_on)
{
    AUTO(site) site = site_new("ctrlc");

    end_at_the_source(&site, "ctrlc", AWAY_INTERRUPTED, DATA_BYTES / 2);
    ck_assert_uint_le(take_next(site), DATA_BYTES / 2 + WINDOW_BYTES);
}
END_TEST

/* --- Within one run --------------------------------------------------------------------------- */

#define PATIENCE_MS 20000

START_TEST(a_point_outlives_its_link)
{
    AUTO(site) site = site_new("outlives");

    site->away.end = AWAY_LINK_CUT;
    site->away.bytes = DATA_BYTES / 2;
    ck_assert_uint_le(take_patiently(site, PATIENCE_MS), DATA_BYTES + WINDOW_BYTES);
    ck_assert_uint_eq(site->away.dialled, 2);
}
END_TEST

START_TEST(a_point_outlives_its_server)
{
    AUTO(site) site = site_new("server");

    site->away.end = AWAY_SERVE_KILLED;
    site->away.bytes = DATA_BYTES / 2;
    ck_assert_uint_le(take_patiently(site, PATIENCE_MS), DATA_BYTES + LANE_BYTES + WINDOW_BYTES);
    ck_assert_uint_eq(site->away.dialled, 2);
}
END_TEST

START_TEST(an_answer_that_was_lost_is_asked_for)
{
    AUTO(site) site = site_new("answer");

    site->away.end = AWAY_LINK_CUT;
    site->away.after_commit = true;
    ck_assert_uint_le(take_patiently(site, PATIENCE_MS), DATA_BYTES + WINDOW_BYTES);
    ck_assert_uint_eq(count_checkpoints(site->lab), 1);
    /* It is what the next one counts from. */
    ck_assert_uint_le(take_next(site), MIB);
}
END_TEST

START_TEST(a_commit_that_did_not_come_through_is_told_and_costs_little)
{
    AUTO(site) site = site_new("commit");
    struct point_request request = request_of(site->lab);
    struct point_result result = {0};
    GError *error = NULL;

    store_be_patient(site->lab->store, PATIENCE_MS, NULL);
    site->away.end = AWAY_LINK_CUT;
    site->away.before_commit = true;
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_NETWORK, "lost");
    assert_nothing_is_left(site->lab);
    ck_assert_uint_le(take_next(site), WINDOW_BYTES);
}
END_TEST

START_TEST(patience_ends)
{
    AUTO(site) site = site_new("patience");
    struct point_request request = request_of(site->lab);
    struct point_result result = {0};
    GError *error = NULL;

    store_be_patient(site->lab->store, 1500, NULL);
    site->away.end = AWAY_LINK_CUT;
    site->away.bytes = DATA_BYTES / 2;
    site->away.drctl = "/bin/false";
    unit_fails(snapshot_take_point(&request, &result, &error), error, ERROR_NETWORK, "dr1");
    ck_assert_uint_ge(site->away.dialled, 2);
    assert_nothing_is_left(site->lab);
    site->away.drctl = DRCTL;
    site_connect(site);
    ck_assert_uint_le(take_next(site), DATA_BYTES / 2 + WINDOW_BYTES);
}
END_TEST

int main(void)
{
    become_ordinary_user();
    return SESSION_RUN(
        "resume", a_server_that_was_killed_has_what_came, a_link_that_was_cut_costs_the_last_window,
        what_was_broken_off_goes_on, what_the_guest_writes_meanwhile_is_sent,
        each_attempt_comes_further, an_attempt_that_ended_early_takes_nothing_from_one_before,
        an_increment_goes_on_as_well, damage_of_what_arrived_is_noticed_and_sent_again,
        a_source_that_was_killed_sends_what_is_missing, a_point_outlives_its_link,
        a_point_outlives_its_server, an_answer_that_was_lost_is_asked_for,
        a_commit_that_did_not_come_through_is_told_and_costs_little, patience_ends);
}
