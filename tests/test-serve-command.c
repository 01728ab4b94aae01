/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COMMAND: what another site may run here, what becomes of it, and what of its answer arrives. The program
 * is a shell script of each test; that it is asked for words of the table only is what counts.
 */
#include "tests/server.h"

/* The words of the command are its arguments. */
static void operator_script(const char *script)
{
    static const char *words[] = {"sh", "-c", NULL, "sh", NULL};

    words[2] = script;
    rules.commander = words;
}

static const char *const stop[] = {"vapp", "stop", "shop", NULL};
static const char *const status[] = {"vapp", "status", "shop", NULL};

struct notes {
    struct progress progress;
    GString *text;
};

static void take_note(struct progress *progress, const char *text)
{
    g_string_append_printf(((struct notes *)progress)->text, "%s\n", text);
}

static void end(struct server *server, struct store **store, int expected)
{
    g_clear_pointer(store, store_free);
    ck_assert_int_eq(server_end(server), expected);
    g_clear_pointer(&server->path, g_free);
}

START_TEST(a_command_runs_there_and_all_that_it_prints_comes_back)
{
    g_autoptr(GString) text = g_string_new(NULL);
    struct notes notes = {{.note = take_note}, text};
    struct server server;
    AUTO(store) store = NULL;
    json_auto_t *result = NULL;
    g_autofree char *got = NULL;
    g_autoptr(GError) error = NULL;

    operator_script(
        "printf 'one\\033[2J\\n\\ntwo' >&2; echo '{\"words\": \"'\"$*\"'\"}'; echo '[2]'");
    server = server_new(&points_accept_ops);
    store = server_store(&server);
    unit_ok(store_command(store, stop, &notes.progress, &result, &error), error);
    got = json_text(result, 0);
    ck_assert_str_eq(got, "[{\"words\":\"vapp stop shop --json\"},[2]]");
    ck_assert_str_eq(text->str, "dr1: one?[2J\ndr1: two\n");
    end(&server, &store, EXIT_SERVED);
}
END_TEST

START_TEST(its_failure_is_ours_with_what_it_has_printed)
{
    struct server server;
    AUTO(store) store = NULL;
    json_auto_t *result = NULL;
    json_auto_t *nothing = NULL;
    g_autoptr(GError) error = NULL;

    operator_script(
        "case $2 in stop) echo '{}'; echo 'drctl: db does not stop' >&2; exit 3;; esac; "
        "exit 9");
    server = server_new(&points_accept_ops);
    store = server_store(&server);
    unit_fails(store_command(store, stop, NULL, &result, &error), error, ERROR_PARTIAL,
               "dr1: db does not stop");
    ck_assert_uint_eq(json_array_size(result), 1);
    unit_fails(store_command(store, status, NULL, &nothing, &error), error, ERROR_FAILED,
               "drctl vapp status shop: exit status 9");
    ck_assert_ptr_null(nothing);
    end(&server, &store, EXIT_SERVED);
}
END_TEST

START_TEST(nothing_else_than_the_table_runs)
{
    static const char *const refused[][6] = {
        {"prune", "db"},
        {"serve"},
        {"status"},
        {"vapp", "stop"},
        {"vapp", "stop", "shop", "shop2"},
        {"vapp", "stop", "--help"},
        {"vapp", "stop", "../shop"},
        {"vapp"},
        {"replicate"},
        {"replicate", "db"},
        {"replicate", "--to", "dc1"},
        {"replicate", "--to", "local", "db"},
        {"replicate", "--to", "../dc1", "db"},
        {"replicate", "--to", "dc1", "--to", "dc2"},
        {"replicate", "--full", "db"},
        {"replicate", "db", "--to"},
        {"replicate", "--to", "dc1", "db", "--keep-all"},
        {"fence"},
        {"fence", "--release", "db"},
        {"fence", "db", "--yes"},
    };
    static const char *const fence[] = {"fence", "db", NULL};
    static const char *const good[] = {"replicate", "--to", "dc1", "db", NULL};
    g_autofree char *dir = unit_dir();
    g_autofree char *ran = g_build_filename(dir, "ran", NULL);
    g_autofree char *script = g_strdup_printf("echo \"$*\" >>'%s'", ran);
    struct server server;
    AUTO(store) store = NULL;
    g_autofree char *text = NULL;
    json_auto_t *result = NULL;
    g_autoptr(GError) error = NULL;

    operator_script(script);
    server = server_new(&points_accept_ops);
    store = server_store(&server);
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++)
        unit_fails(store_command(store, refused[i], NULL, &result, &error), error, ERROR_AUTH,
                   "COMMAND");
    ck_assert(!g_file_test(ran, G_FILE_TEST_EXISTS));
    unit_ok(store_command(store, good, NULL, &result, &error), error);
    g_clear_pointer(&result, json_decref);
    unit_ok(store_command(store, fence, NULL, &result, &error), error);
    unit_ok(file_read(ran, 1000, &text, NULL, &error), error);
    ck_assert_str_eq(text, "replicate --to dc1 db --json --keep-all\nfence db --json --yes\n");
    end(&server, &store, EXIT_SERVED);
}
END_TEST

START_TEST(a_key_that_is_no_operators_runs_nothing)
{
    struct hostile client;
    AUTO(store) store = NULL;
    json_auto_t *result = NULL;
    struct server server;
    g_autoptr(GError) error = NULL;

    rules.commander = NULL;
    server = server_new(&points_accept_ops);
    store = server_store(&server);
    unit_fails(store_command(store, stop, NULL, &result, &error), error, ERROR_AUTH,
               "drctl site add dr1 --operator");
    end(&server, &store, EXIT_SERVED);
    /* Nor for who does not ask whether it may. */
    client = hostile_greeted();
    say(&client, WIRE_COMMAND, 2, "{\"args\":[\"status\"]}");
    hostile_refused(&client, 2, "--operator");
}
END_TEST

START_TEST(what_is_no_words_ends_the_session)
{
    static const char *const payloads[] = {
        "{}",
        "{\"args\":[]}",
        "{\"args\":[1]}",
        "{\"args\":[\"\"]}",
        "{\"args\":[\"status\\u0000\"]}",
        "{\"args\":\"status\"}",
    };

    operator_script("exit 0");
    for (unsigned i = 0; i < G_N_ELEMENTS(payloads); i++) {
        struct hostile client = hostile_greeted();

        say(&client, WIRE_COMMAND, 2, payloads[i]);
        hear_error(&client, 0, "");
        wire_free(client.wire);
        ck_assert_int_eq(server_end(&client.server), EXIT_BROKEN);
        g_free(client.server.path);
    }
}
END_TEST

START_TEST(who_prints_without_end_is_ended)
{
    struct server server;
    AUTO(store) store = NULL;
    json_auto_t *result = NULL;
    g_autoptr(GError) error = NULL;

    operator_script("case $2 in stop) exec yes 1;; esac; echo '[1]'");
    server = server_new(&points_accept_ops);
    store = server_store(&server);
    unit_fails(store_command(store, stop, NULL, &result, &error), error, ERROR_FAILED,
               "printed more than");
    unit_ok(store_command(store, status, NULL, &result, &error), error);
    end(&server, &store, EXIT_SERVED);
}
END_TEST

/* The process whose number is in the file at PATH, when it is there. */
static pid_t noted_process(const char *path)
{
    int64_t deadline = time_monotonic_ms() + DEADLINE_MS;
    g_autofree char *text = NULL;

    while (!text || !*text) {
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(10000);
        g_clear_pointer(&text, g_free);
        file_read(path, 100, &text, NULL, NULL);
    }
    return (pid_t)atoi(text);
}

static void assert_ends(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
    int64_t deadline = time_monotonic_ms() + DEADLINE_MS;

    for (;;) {
        g_autofree char *text = NULL;

        /* One that nobody has waited for yet has none. */
        if (!g_file_get_contents(path, &text, NULL, NULL) || !*text)
            return;
        ck_assert_int_lt(time_monotonic_ms(), deadline);
        g_usleep(10000);
    }
}

static struct hostile begin_long_command(const char *pid_file)
{
    g_autofree char *script =
        g_strdup_printf("trap '' INT; sleep 1000 & echo $! >'%s'; wait", pid_file);
    struct hostile client;

    operator_script(script);
    client = hostile_greeted();
    say(&client, WIRE_COMMAND, 2, "{\"args\":[\"vapp\",\"status\",\"shop\"]}");
    return client;
}

START_TEST(a_command_and_all_that_it_has_started_ends_with_the_session)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "pid", NULL);
    struct hostile client = begin_long_command(path);
    pid_t pid = noted_process(path);

    wire_free(client.wire);
    ck_assert_int_eq(server_end(&client.server), EXIT_BROKEN);
    assert_ends(pid);
    g_free(client.server.path);
}
END_TEST

START_TEST(who_talks_into_a_command_is_thrown_out)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "pid", NULL);
    struct hostile client = begin_long_command(path);
    pid_t pid = noted_process(path);

    say(&client, WIRE_PING, 0, "{}");
    say(&client, WIRE_INFO, 3, "{}");
    hostile_thrown_out(&client, "a command is running");
    assert_ends(pid);
}
END_TEST

int main(void)
{
    return UNIT_RUN("serve-command", a_command_runs_there_and_all_that_it_prints_comes_back,
                    its_failure_is_ours_with_what_it_has_printed, nothing_else_than_the_table_runs,
                    a_key_that_is_no_operators_runs_nothing, what_is_no_words_ends_the_session,
                    who_prints_without_end_is_ended,
                    a_command_and_all_that_it_has_started_ends_with_the_session,
                    who_talks_into_a_command_is_thrown_out);
}
