/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: that it is a chain, whatever has happened to its writers, and that it shows what was done to it. */
#include "tests/unit.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "metadata/metadata.h"

static char *new_store(void)
{
    char *store = unit_dir();
    g_autofree char *locks = g_build_filename(store, "locks", NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(dir_make(locks, 0700, &error), error);
    return store;
}

static char *log_path(const char *store)
{
    return g_build_filename(store, "audit", "audit.log", NULL);
}

static void add(const char *store, const char *what)
{
    json_auto_t *facts = json_object();
    g_autoptr(GError) error = NULL;

    json_set_string(facts, "command", what);
    unit_ok(audit_append(store, facts, NULL, &error), error);
}

static void note_command(const json_t *entry, void *data)
{
    g_string_append_printf(data, "%s ", json_get_string(entry, "command"));
}

static void walk(const char *store, struct audit_chain *chain)
{
    g_autoptr(GError) error = NULL;

    *chain = (struct audit_chain){0};
    unit_ok(audit_walk(store, NULL, NULL, NULL, chain, &error), error);
}

static void assert_whole(const char *store, uint64_t entries, unsigned torn)
{
    AUTO_AUDIT_CHAIN chain = {0};

    walk(store, &chain);
    ck_assert_msg(!chain.problem, "%s", chain.problem);
    ck_assert_uint_eq(chain.entries, entries);
    ck_assert_uint_eq(chain.torn, torn);
}

static void assert_problem(const char *store, const char *part)
{
    AUTO_AUDIT_CHAIN chain = {0};

    walk(store, &chain);
    ck_assert_msg(chain.problem && strstr(chain.problem, part), "no '%s' in %s", part,
                  chain.problem ? chain.problem : "nothing");
}

static char *log_text(const char *store)
{
    g_autofree char *path = log_path(store);
    char *text;

    ck_assert(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static void set_log(const char *store, const char *text)
{
    g_autofree char *path = log_path(store);

    ck_assert(g_file_set_contents(path, text, -1, NULL));
}

/* As a crash would leave it. */
static void append_raw(const char *store, const char *text)
{
    g_autofree char *before = log_text(store);
    g_autofree char *all = g_strconcat(before, text, NULL);

    set_log(store, all);
}

START_TEST(entries_come_back_in_order_and_each_names_the_one_before)
{
    g_autofree char *store = new_store();
    g_autoptr(GString) commands = g_string_new(NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    uint8_t digest[DIGEST_SIZE];
    char hex[DIGEST_HEX_SIZE];
    AUTO_AUDIT_CHAIN chain = {0};
    g_autoptr(GError) error = NULL;

    add(store, "one");
    add(store, "two");
    add(store, "three");
    unit_ok(audit_walk(store, NULL, note_command, commands, &chain, &error), error);
    ck_assert_str_eq(commands->str, "one two three ");
    ck_assert_ptr_null(chain.problem);
    ck_assert_uint_eq(chain.entries, 3);
    ck_assert_uint_eq(chain.first_seq, 1);
    /* With sha256sum alone. */
    text = log_text(store);
    lines = g_strsplit(text, "\n", -1);
    digest_buffer(lines[1], strlen(lines[1]), digest);
    digest_to_hex(digest, hex);
    ck_assert_ptr_nonnull(strstr(lines[2], hex));
    digest_buffer(lines[2], strlen(lines[2]), digest);
    digest_to_hex(digest, hex);
    ck_assert_str_eq(chain.last_digest, hex);
}
END_TEST

START_TEST(a_changed_removed_or_added_line_is_found)
{
    g_autofree char *store = new_store();
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    char *at;

    add(store, "one");
    add(store, "two");
    add(store, "three");
    text = log_text(store);
    lines = g_strsplit(text, "\n", -1);
    at = strstr(text, "two");
    memcpy(at, "owt", 3);
    set_log(store, text);
    assert_problem(store, "audit.log, line 3: the line before was changed");
    {
        g_autofree char *without = g_strdup_printf("%s\n%s\n", lines[0], lines[2]);
        g_autofree char *begins = g_strdup_printf("%s\n%s\n", lines[1], lines[2]);
        g_autofree char *twice =
            g_strdup_printf("%s\n%s\n%s\n%s\n", lines[0], lines[1], lines[1], lines[2]);

        set_log(store, without);
        assert_problem(store, "line 2: the line before was changed, removed or added");
        set_log(store, twice);
        assert_problem(store, "line 3: the line before was changed");
        /* That older ones were dropped is told, and no problem. */
        set_log(store, begins);
        assert_whole(store, 2, 0);
    }
}
END_TEST

START_TEST(what_was_cut_from_the_end_is_found_by_its_digest)
{
    g_autofree char *store = new_store();
    AUTO_AUDIT_CHAIN chain = {0}, again = {0}, grown = {0};
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;

    add(store, "one");
    text = log_text(store);
    add(store, "two");
    walk(store, &chain);
    add(store, "three");
    unit_ok(audit_walk(store, chain.last_digest, NULL, NULL, &grown, &error), error);
    ck_assert(grown.contains);
    set_log(store, text);
    unit_ok(audit_walk(store, chain.last_digest, NULL, NULL, &again, &error), error);
    ck_assert_ptr_null(again.problem);
    ck_assert(!again.contains);
}
END_TEST

START_TEST(a_line_that_a_crash_has_cut_off_is_told_and_the_chain_goes_on)
{
    g_autofree char *store = new_store();
    AUTO_AUDIT_CHAIN chain = {0};

    add(store, "one");
    append_raw(store, "{\"seq\":2,\"time\":\"2026-11");
    walk(store, &chain);
    ck_assert_ptr_null(chain.problem);
    ck_assert(chain.ends_torn);
    add(store, "two");
    assert_whole(store, 2, 1);
    append_raw(store, "{\"se");
    append_raw(store, "\n{\"seq\":3,");
    add(store, "three");
    assert_whole(store, 3, 3);
}
END_TEST

START_TEST(a_line_that_lacks_only_its_end_is_whole)
{
    g_autofree char *store = new_store();
    g_autofree char *text = NULL;

    add(store, "one");
    add(store, "two");
    text = log_text(store);
    text[strlen(text) - 1] = '\0';
    set_log(store, text);
    add(store, "three");
    assert_whole(store, 3, 0);
}
END_TEST

START_TEST(a_line_that_was_damaged_is_no_crash)
{
    g_autofree char *store = new_store();
    g_autofree char *text = NULL;

    add(store, "one");
    add(store, "two");
    add(store, "three");
    text = log_text(store);
    *strstr(text, "\"two") = '!';
    set_log(store, text);
    assert_problem(store, "line 3");
}
END_TEST

START_TEST(the_digest_that_was_told_is_found_also_of_what_was_cut_off)
{
    g_autofree char *store = new_store();
    AUTO_AUDIT_CHAIN chain = {0}, later = {0};
    g_autoptr(GError) error = NULL;

    add(store, "one");
    append_raw(store, "{\"se\n{\"seq\":2,");
    walk(store, &chain);
    ck_assert(chain.ends_torn);
    add(store, "two");
    unit_ok(audit_walk(store, chain.last_digest, NULL, NULL, &later, &error), error);
    ck_assert(later.contains);
}
END_TEST

struct adding {
    const char *store;
    unsigned met;
};

static void add_while_read(const json_t *entry, void *data)
{
    struct adding *adding = data;

    if (adding->met++ == 0)
        add(adding->store, "meanwhile");
}

START_TEST(who_reads_a_long_log_keeps_nobody_from_adding_to_it)
{
    g_autofree char *store = new_store();
    struct adding adding = {.store = store};
    AUTO_AUDIT_CHAIN chain = {0};
    g_autoptr(GError) error = NULL;

    add(store, "one");
    add(store, "two");
    unit_ok(audit_walk(store, NULL, add_while_read, &adding, &chain, &error), error);
    ck_assert_uint_eq(adding.met, 2);
    ck_assert_msg(!chain.problem, "%s", chain.problem);
    assert_whole(store, 3, 0);
}
END_TEST

START_TEST(a_log_that_is_full_goes_on_in_another_file)
{
    g_autofree char *store = new_store();
    g_autofree char *dir = g_build_filename(store, "audit", NULL);
    g_autofree char *big = g_strnfill(AUDIT_LINE_MAX / 2, 'x');
    unsigned n = AUDIT_ROTATE_BYTES / (AUDIT_LINE_MAX / 2) + 3;
    g_auto(GStrv) names = NULL;
    g_autofree char *first = NULL;
    struct stat st;
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < n; i++)
        add(store, big);
    unit_ok(names = dir_list(dir, &error), error);
    ck_assert_uint_eq(g_strv_length(names), 2);
    assert_whole(store, n, 0);
    first = g_build_filename(dir, names[0], NULL);
    ck_assert_int_eq(stat(first, &st), 0);
    ck_assert_int_le(st.st_size, AUDIT_ROTATE_BYTES + AUDIT_LINE_MAX);
    /* Killed between the rename and the first line of the next file. */
    {
        g_autofree char *path = log_path(store);

        ck_assert_int_eq(unlink(path), 0);
    }
    add(store, "next");
    {
        AUTO_AUDIT_CHAIN chain = {0};

        walk(store, &chain);
        ck_assert_msg(!chain.problem, "%s", chain.problem);
        ck_assert_uint_eq(chain.first_seq, 1);
    }
    ck_assert_int_eq(unlink(first), 0);
    {
        AUTO_AUDIT_CHAIN chain = {0};

        walk(store, &chain);
        ck_assert_msg(!chain.problem, "%s", chain.problem);
        ck_assert_uint_gt(chain.first_seq, 1);
    }
}
END_TEST

START_TEST(many_processes_make_one_chain)
{
    g_autofree char *store = new_store();
    pid_t pids[8];

    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0) {
            for (unsigned k = 0; k < 20; k++)
                add(store, "child");
            _exit(0);
        }
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pids); i++) {
        int status;

        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    assert_whole(store, 160, 0);
}
END_TEST

START_TEST(what_cannot_be_written_leaves_the_chain_as_it_was)
{
    g_autofree char *store = new_store();
    g_autofree char *big = g_strnfill(AUDIT_LINE_MAX, 'x');
    json_auto_t *facts = json_object();
    GError *error = NULL;

    add(store, "one");
    json_set_string(facts, "command", big);
    unit_fails(audit_append(store, facts, NULL, &error), error, ERROR_FAILED, "too long");
    assert_whole(store, 1, 0);
    add(store, "two");
    assert_whole(store, 2, 0);
}
END_TEST

int main(void)
{
    return UNIT_RUN("audit", entries_come_back_in_order_and_each_names_the_one_before,
                    a_changed_removed_or_added_line_is_found,
                    what_was_cut_from_the_end_is_found_by_its_digest,
                    a_line_that_a_crash_has_cut_off_is_told_and_the_chain_goes_on,
                    a_line_that_lacks_only_its_end_is_whole, a_line_that_was_damaged_is_no_crash,
                    the_digest_that_was_told_is_found_also_of_what_was_cut_off,
                    who_reads_a_long_log_keeps_nobody_from_adding_to_it,
                    a_log_that_is_full_goes_on_in_another_file, many_processes_make_one_chain,
                    what_cannot_be_written_leaves_the_chain_as_it_was);
}
