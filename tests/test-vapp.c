/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of a vApp: what is read, what is refused and with which words, and the order. */
#include "tests/unit.h"
#include "vapp/vapp.h"

static struct vapp *parse(const char *text, GError **error)
{
    return vapp_parse(text, strlen(text), "shop.vapp", error);
}

static struct vapp *parse_good(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct vapp *vapp = parse(text, &error);

    unit_ok(vapp != NULL, error);
    return vapp;
}

/* "db app web": the VMs in start order; g_free. */
static char *order_of(const struct vapp *vapp)
{
    GString *names = g_string_new(NULL);

    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = g_ptr_array_index(vapp->vms, i);

        g_string_append_printf(names, "%s%s", i ? " " : "", vm->name);
    }
    return g_string_free(names, FALSE);
}

static void check_order(const char *text, const char *expected)
{
    AUTO(vapp) vapp = parse_good(text);
    g_autofree char *order = order_of(vapp);

    ck_assert_str_eq(order, expected);
}

static const char every_key[] = "# a shop\n"
                                "\n"
                                "[vapp]\n"
                                "name = shop\n"
                                "  # the data base\n"
                                "[vm db]\n"
                                "order = 1\r\n"
                                "ready=tcp:5432\n"
                                "ready-timeout = 5min\n"
                                "ready-retries = 3\n"
                                "ready-interval = 2s\n"
                                "address = 192.0.2.7\n"
                                "delay = 10s\n"
                                "stop-timeout = 0\n"
                                "[vm  the front end ]\n"
                                "\torder\t=\t2\n"
                                "after = db; cache ;\n"
                                "ready = agent\n"
                                "address = fe80::1%br0\n"
                                "[vm cache]\n"
                                "order = 1";

START_TEST(reads_every_key)
{
    AUTO(vapp) vapp = parse_good(every_key);
    const struct vapp_vm *db = vapp_vm(vapp, "db");
    const struct vapp_vm *front = vapp_vm(vapp, "the front end");

    ck_assert_str_eq(vapp->name, "shop");
    ck_assert_str_eq(vapp->path, "shop.vapp");
    ck_assert_str_eq(vapp->text, every_key);
    ck_assert_uint_eq(vapp->vms->len, 3);
    ck_assert_ptr_nonnull(db);
    ck_assert_uint_eq(db->order, 1);
    ck_assert_int_eq(db->ready, READY_TCP);
    ck_assert_uint_eq(db->ready_port, 5432);
    ck_assert_str_eq(db->ready_text, "tcp:5432");
    ck_assert_int_eq(db->ready_timeout_ms, 300000);
    ck_assert_int_eq(db->ready_interval_ms, 2000);
    ck_assert_uint_eq(db->ready_retries, 3);
    ck_assert_str_eq(db->address, "192.0.2.7");
    ck_assert_int_eq(db->delay_ms, 10000);
    ck_assert_int_eq(db->stop_timeout_ms, 0);
    ck_assert_ptr_nonnull(front);
    ck_assert_uint_eq(front->order, 2);
    ck_assert_uint_eq(g_strv_length(front->after), 2);
    ck_assert_str_eq(front->after[0], "db");
    ck_assert_str_eq(front->after[1], "cache");
    ck_assert_int_eq(front->ready, READY_AGENT);
    ck_assert_str_eq(front->address, "fe80::1%br0");
    ck_assert_ptr_null(vapp_vm(vapp, "mq"));
}
END_TEST

static void check_http(const char *rule, uint16_t port, const char *path, unsigned status)
{
    g_autofree char *text = g_strdup_printf("[vapp]\nname=a\n[vm db]\nready=%s\n", rule);
    AUTO(vapp) vapp = parse_good(text);
    const struct vapp_vm *vm = vapp_vm(vapp, "db");

    ck_assert_int_eq(vm->ready, READY_HTTP);
    ck_assert_uint_eq(vm->ready_port, port);
    ck_assert_str_eq(vm->ready_path, path);
    ck_assert_uint_eq(vm->ready_status, status);
}

START_TEST(reads_every_form_of_http)
{
    check_http("http:80", 80, "/", 200);
    check_http("http:80=503", 80, "/", 503);
    check_http("http:8080/health", 8080, "/health", 200);
    check_http("http:8080/health=204", 8080, "/health", 204);
    check_http("http:1/q?a=b", 1, "/q?a=b", 200);
    check_http("http:1/q?a=b=301", 1, "/q?a=b", 301);
    check_http("http:1/q?a=999", 1, "/q?a=999", 200);
}
END_TEST

START_TEST(reads_commands_in_words_and_expressions_as_they_are)
{
    AUTO(vapp)
    vapp = parse_good("[vapp]\nname=a\n[vm a]\nready = command:sh -c 'test -e /x && \"$Y\"' z\n"
                      "[vm b]\nready = log:^(a|b): \\\\d+$\n");
    const struct vapp_vm *a = vapp_vm(vapp, "a"), *b = vapp_vm(vapp, "b");

    ck_assert_int_eq(a->ready, READY_COMMAND);
    ck_assert_uint_eq(g_strv_length(a->ready_command), 4);
    ck_assert_str_eq(a->ready_command[2], "test -e /x && \"$Y\"");
    ck_assert_int_eq(b->ready, READY_LOG);
    ck_assert(g_regex_match(b->ready_regex, "a: 12", 0, NULL));
    ck_assert(!g_regex_match(b->ready_regex, "c: 12", 0, NULL));
}
END_TEST

static void check_defaults(const struct vapp_vm *vm)
{
    ck_assert_uint_eq(vm->order, 0);
    ck_assert_ptr_nonnull(vm->after);
    ck_assert_ptr_null(vm->after[0]);
    ck_assert_int_eq(vm->ready, READY_NONE);
    ck_assert_str_eq(vm->ready_text, "none");
    ck_assert_int_eq(vm->ready_timeout_ms, 120000);
    ck_assert_int_eq(vm->ready_interval_ms, 500);
    ck_assert_uint_eq(vm->ready_retries, READY_RETRIES_ANY);
    ck_assert_ptr_null(vm->address);
    ck_assert_int_eq(vm->delay_ms, 0);
    ck_assert_int_eq(vm->stop_timeout_ms, 120000);
}

START_TEST(a_lone_vm_has_the_defaults_of_an_empty_group)
{
    AUTO(vapp) parsed = parse_good("[vapp]\nname=a\n[vm db]\n");
    AUTO(vapp) single = vapp_single("db");

    check_defaults(vapp_vm(parsed, "db"));
    check_defaults(vapp_vm(single, "db"));
    ck_assert_str_eq(single->name, "db");
    ck_assert_uint_eq(single->vms->len, 1);
}
END_TEST

/* What a mistake is answered with. HEAD stands before each text. */
#define HEAD "[vapp]\nname = shop\n"
static const struct {
    const char *text, *answer;
} mistakes[] = {
    {"", "shop.vapp: [vapp] name: the key is missing"},
    {"[vm db]\n", "shop.vapp: [vapp] name: the key is missing"},
    {HEAD, "shop.vapp: there is no VM: write a group [vm NAME] for each"},
    {"name = shop\n", "shop.vapp: line 1: name stands before the first [group]"},
    {"[vapp]\nname\n", "shop.vapp: line 2: 'name' is neither [group] nor key = value"},
    {"[vapp]\nname = \n", "shop.vapp: [vapp] name: is empty"},
    {"[vapp]\nname = ../shop\n", "shop.vapp: [vapp] name: '../shop' is not a name"},
    {"[vapp]\nname = a\nname = a\n", "shop.vapp: [vapp] name: is there twice, in lines 2 and 3"},
    {"[vapp]\nnome = a\n", "shop.vapp: [vapp] nome: there is no such key; there are name"},
    {HEAD "[vapp]\n", "shop.vapp: [vapp]: is there twice, in lines 1 and 3"},
    {HEAD "[vm db\n", "shop.vapp: line 3: '[vm db' is not a [group]"},
    {HEAD "[group db]\n", "shop.vapp: [group db]: there is no such group"},
    {HEAD "[vmdb]\n", "shop.vapp: [vmdb]: there is no such group"},
    {HEAD "[vm]\n", "shop.vapp: [vm]: the name of the VM is missing"},
    {HEAD "[vm ]\n", "shop.vapp: [vm ]: the name of the VM is missing"},
    {HEAD "[vm a/b]\n", "shop.vapp: [vm a/b]: the name of a VM has no / and no ;"},
    {HEAD "[vm a;b]\n", "shop.vapp: [vm a;b]: the name of a VM has no / and no ;"},
    {HEAD "[vm db]\n[vm db]\n", "shop.vapp: [vm db]: is there twice, in lines 3 and 4"},
    {HEAD "[vm db]\n[vm  db]\n", "shop.vapp: [vm  db]: VM 'db' is there twice"},
    {HEAD "[vm db]\norder=1\norder=1\n", "shop.vapp: [vm db] order: is there twice"},
    {HEAD "[vm db]\ncolor = red\n", "shop.vapp: [vm db] color: there is no such key; there are "
                                    "order, after, ready, ready-timeout, "
                                    "ready-retries, ready-interval, "
                                    "address, delay, stop-timeout"},
    {HEAD "[vm db]\norder = -1\n", "[vm db] order: '-1' is not a whole number from 0 to 9999"},
    {HEAD "[vm db]\norder = 10000\n", "[vm db] order: '10000' is not a whole number"},
    {HEAD "[vm db]\norder = 1 ; first\n", "[vm db] order: '1 ; first' is not a whole number"},
    {HEAD "[vm db]\norder =\n", "shop.vapp: [vm db] order: is empty"},
    {HEAD "[vm db]\nready = tcp\n",
     "[vm db] ready: 'tcp' is not one of agent, tcp:PORT, http:PORT/PATH=STATUS, command:COMMAND, "
     "log:REGEX, none"},
    {HEAD "[vm db]\nready = http:/x\n", "'http:/x': the port is not a number from 1 to 65535"},
    {HEAD "[vm db]\nready = http:80 /x\n", "the port is not a number from 1 to 65535"},
    {HEAD "[vm db]\nready = http:80=20\n", "behind the port comes /PATH without blanks"},
    {HEAD "[vm db]\nready = http:80/a b=200\n", "behind the port comes /PATH without blanks"},
    {HEAD "[vm db]\nready = command:\n", "'command:': there is no command, or a quotation mark"},
    {HEAD "[vm db]\nready = command:sh -c 'x\n", "a quotation mark is missing"},
    {HEAD "[vm db]\nready = log:\n", "'log:': it is not a regular expression"},
    {HEAD "[vm db]\nready = log:(\n", "'log:(': it is not a regular expression"},
    {HEAD "[vm db]\nready-retries = -1\n", "[vm db] ready-retries: '-1' is not a whole number"},
    {HEAD "[vm db]\nready-interval = 1ms\n", "[vm db] ready-interval: '1ms' is not a duration"},
    {HEAD "[vm db]\nready = tcp:0\n", "[vm db] ready: 'tcp:0': the port is not a number from 1"},
    {HEAD "[vm db]\nready = tcp:65536\n", "the port is not a number from 1 to 65535"},
    {HEAD "[vm db]\nready-timeout = soon\n", "shop.vapp: [vm db] ready-timeout: 'soon'"},
    {HEAD "[vm db]\nready-timeout = 0\n", "[vm db] ready-timeout: '0' is not a duration from"},
    {HEAD "[vm db]\ndelay = 25h\n", "shop.vapp: [vm db] delay: '25h' is not a duration from"},
    {HEAD "[vm db]\ndelay = -1s\n", "shop.vapp: [vm db] delay: '-1s'"},
    {HEAD "[vm db]\nstop-timeout = x\n", "shop.vapp: [vm db] stop-timeout: 'x'"},
    {HEAD "[vm db]\naddress = db.example\n", "'db.example' is not an IPv4 or IPv6 address"},
    {HEAD "[vm db]\naddress = 192.0.2.7%eth0\n", "is not an IPv4 or IPv6 address"},
    {HEAD "[vm db]\nafter =\n", "shop.vapp: [vm db] after: is empty"},
    {HEAD "[vm db]\nafter = a; a\n[vm a]\n", "shop.vapp: [vm db] after: 'a' is there twice"},
    {HEAD "[vm db]\nafter = mq\n[vm app]\n",
     "shop.vapp: [vm db] after: there is no VM 'mq' in this vApp, it has: db, app"},
    {HEAD "[vm db]\nafter = app\norder = 1\n[vm app]\norder = 2\n",
     "shop.vapp: [vm db] after: 'app' has order 2, which starts later than order 1 of 'db'"},
    {HEAD "[vm db]\nafter = db\n", "shop.vapp: [vm db] after: a cycle in which each waits for the "
                                   "next: db -> db"},
    {HEAD "[vm db]\nafter = app\n[vm app]\nafter = db\n", ": db -> app -> db"},
    {HEAD "[vm web]\nafter = app\n[vm mq]\n[vm app]\nafter = mq; db\n[vm db]\nafter = x\n"
          "[vm x]\nafter = mq; app\n",
     ": app -> db -> x -> app"},
    {"\xff\xfe", "shop.vapp: line 1: is not UTF-8 text"},
};

START_TEST(every_mistake_is_answered_with_file_group_and_key)
{
    for (size_t i = 0; i < G_N_ELEMENTS(mistakes); i++) {
        g_autoptr(GError) error = NULL;
        AUTO(vapp) vapp = parse(mistakes[i].text, &error);

        unit_fails(vapp, error, ERROR_CONFIG, mistakes[i].answer);
    }
}
END_TEST

START_TEST(text_with_a_nul_byte_or_of_a_megabyte_is_refused)
{
    static const char nul[] = HEAD "[vm db]\0\n";
    g_autofree char *long_text = g_strnfill(1024 * 1024, '#');
    g_autoptr(GError) error = NULL;

    unit_fails(vapp_parse(nul, sizeof(nul) - 1, "x", &error), error, ERROR_CONFIG,
               "x: line 3: is not UTF-8 text");
    unit_fails(parse(long_text, &error), error, ERROR_CONFIG, "at most 256 KiB");
}
END_TEST

START_TEST(more_than_a_thousand_vms_are_refused)
{
    g_autoptr(GString) text = g_string_new(HEAD);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < 1000; i++)
        g_string_append_printf(text, "[vm v%u]\n%s", i, i ? "after = v0\n" : "");
    vapp_free(parse_good(text->str));
    g_string_append(text, "[vm straw]\n");
    unit_fails(parse(text->str, &error), error, ERROR_CONFIG, "[vm straw]: a vApp has at most");
}
END_TEST

START_TEST(vms_start_by_order_then_as_in_the_file)
{
    check_order(HEAD "[vm c]\norder=2\n[vm b]\n[vm z]\norder=1\n[vm a]\norder=1\n", "b z a c");
    check_order(HEAD "[vm c]\n[vm b]\n[vm a]\n", "c b a");
}
END_TEST

START_TEST(what_a_vm_is_after_comes_before_it)
{
    check_order(HEAD "[vm web]\nafter=app\n[vm x]\n[vm app]\nafter=db\n[vm db]\n", "db app web x");
    /* across orders the barrier does the same */
    check_order(HEAD "[vm web]\norder=3\nafter=db\n[vm db]\norder=1\n", "db web");
    /* a diamond is no cycle */
    check_order(HEAD "[vm d]\nafter=b;c\n[vm c]\nafter=a\n[vm b]\nafter=a\n[vm a]\n", "a b c d");
}
END_TEST

static unsigned place_of(const struct vapp *vapp, const char *name)
{
    unsigned i = 0;

    while (strcmp(((struct vapp_vm *)g_ptr_array_index(vapp->vms, i))->name, name) != 0)
        i++;
    return i;
}

/* The numbers below COUNT in random order; g_free. */
static unsigned *shuffled(GRand *rand, unsigned count)
{
    unsigned *numbers = g_new0(unsigned, count);

    for (unsigned i = 0; i < count; i++) {
        unsigned k = (unsigned)g_rand_int_range(rand, 0, (int)i + 1);

        numbers[i] = numbers[k];
        numbers[k] = i;
    }
    return numbers;
}

/* What VM I is after: some of those with a lower number whose order is not higher. */
static void append_after(GString *text, GRand *rand, const unsigned *orders, unsigned i)
{
    const char *before = "after = ";

    for (unsigned j = 0; j < i; j++) {
        if (orders[j] > orders[i] || g_rand_int_range(rand, 0, 4) != 0)
            continue;
        g_string_append_printf(text, "%sv%u", before, j);
        before = ";";
    }
    g_string_append(text, "\n");
}

/* A random acyclic definition: VMs stand in the file in any order, and each is after some of those
 * with a lower number whose order is not higher. */
static char *random_definition(GRand *rand, unsigned count)
{
    GString *text = g_string_new(HEAD);
    g_autofree unsigned *orders = g_new(unsigned, count);
    g_autofree unsigned *file = shuffled(rand, count);

    for (unsigned i = 0; i < count; i++)
        orders[i] = (unsigned)g_rand_int_range(rand, 0, 3);
    for (unsigned k = 0; k < count; k++) {
        unsigned i = file[k];

        g_string_append_printf(text, "[vm v%u]\norder = %u\n", i, orders[i]);
        append_after(text, rand, orders, i);
    }
    return g_string_free(text, FALSE);
}

START_TEST(any_acyclic_definition_gets_a_topological_order)
{
    for (unsigned seed = 0; seed < 200; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_autofree char *text = random_definition(rand, 1 + seed % 20);
        AUTO(vapp) vapp = parse_good(text);

        for (unsigned i = 0; i < vapp->vms->len; i++) {
            const struct vapp_vm *vm = g_ptr_array_index(vapp->vms, i);
            const struct vapp_vm *last = g_ptr_array_index(vapp->vms, i ? i - 1 : 0);

            ck_assert_msg(last->order <= vm->order, "seed %u: orders are mixed", seed);
            for (char **name = vm->after; *name; name++)
                ck_assert_msg(place_of(vapp, *name) < i, "seed %u: %s", seed, vm->name);
        }
    }
}
END_TEST

static void put(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) error = NULL;

    unit_ok(file_write(path, text, strlen(text), 0600, &error), error);
}

START_TEST(a_directory_is_read_sorted_by_the_names_of_the_vapps)
{
    g_autofree char *dir = unit_dir();
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) vapps = NULL;

    put(dir, "1.vapp", "[vapp]\nname = zoo\n[vm z]\n");
    put(dir, "2.vapp", "[vapp]\nname = bar\n[vm b]\n");
    put(dir, "drctl.conf", "[site]\n");
    put(dir, ".hidden.vapp", "nonsense");
    vapps = vapp_load_all(dir, &error);
    unit_ok(vapps != NULL, error);
    ck_assert_uint_eq(vapps->len, 2);
    ck_assert_str_eq(((struct vapp *)g_ptr_array_index(vapps, 0))->name, "bar");
    ck_assert(g_str_has_suffix(((struct vapp *)g_ptr_array_index(vapps, 1))->path, "/1.vapp"));
}
END_TEST

START_TEST(a_directory_without_vapps_or_without_itself_is_an_empty_list)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *missing = g_build_filename(dir, "none", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) empty = vapp_load_all(dir, &error);
    g_autoptr(GPtrArray) none = vapp_load_all(missing, &error);

    unit_ok(empty && none, error);
    ck_assert_uint_eq(empty->len + none->len, 0);
    unit_fails(vapp_find(dir, "shop", &error), error, ERROR_NOT_FOUND, "there is no vApp 'shop'");
}
END_TEST

START_TEST(two_files_with_one_name_are_refused_with_both_paths)
{
    g_autofree char *dir = unit_dir();
    g_autoptr(GError) error = NULL;

    put(dir, "a.vapp", HEAD "[vm db]\n");
    put(dir, "b.vapp", HEAD "[vm db]\n");
    unit_fails(vapp_load_all(dir, &error), error, ERROR_CONFIG, "/a.vapp");
    unit_fails(vapp_load_all(dir, &error), error, ERROR_CONFIG, "/b.vapp: [vapp] name: 'shop'");
    unit_fails(vapp_find(dir, "shop", &error), error, ERROR_CONFIG, "/b.vapp: [vapp] name: 'shop'");
}
END_TEST

START_TEST(a_vapp_is_found_by_name_although_the_file_of_another_is_broken)
{
    g_autofree char *dir = unit_dir();
    g_autoptr(GError) error = NULL;
    AUTO(vapp) vapp = NULL;

    put(dir, "shop.vapp", HEAD "[vm db]\n");
    put(dir, "crm.vapp", "[vapp]\nname = crm\n[vm x]\n");
    unit_fails(vapp_find(dir, "mail", &error), error, ERROR_NOT_FOUND, "only: crm, shop");
    put(dir, "mail.vapp", "[vapp\n");
    vapp = vapp_find(dir, "shop", &error);
    unit_ok(vapp != NULL, error);
    ck_assert_str_eq(vapp->name, "shop");
    unit_fails(vapp_find(dir, "mail", &error), error, ERROR_CONFIG, "mail.vapp: line 1");
    unit_fails(vapp_load_all(dir, &error), error, ERROR_CONFIG, "mail.vapp: line 1");
}
END_TEST

START_TEST(a_missing_file_is_not_found)
{
    g_autofree char *dir = unit_dir();
    g_autofree char *path = g_build_filename(dir, "none.vapp", NULL);
    g_autoptr(GError) error = NULL;

    unit_fails(vapp_load(path, &error), error, ERROR_NOT_FOUND, "none.vapp");
}
END_TEST

START_TEST(the_examples_of_the_manual_are_definitions)
{
    g_autofree char *manual = NULL;
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) parts = NULL;
    unsigned examples = 0;

    unit_ok(file_read(TESTS_DIR "/../docs/drctl-vapp.5.scd", 1 << 20, &manual, NULL, &error),
            error);
    parts = g_strsplit(manual, "```\n", -1);
    /* Between the fences stands every second part. */
    for (unsigned i = 1; i < g_strv_length(parts); i += 2) {
        if (!strstr(parts[i], "[vapp]"))
            continue;
        vapp_free(parse_good(parts[i]));
        examples++;
    }
    ck_assert_uint_eq(examples, 2);
}
END_TEST

int main(void)
{
    return UNIT_RUN("vapp", reads_every_key, reads_every_form_of_http,
                    reads_commands_in_words_and_expressions_as_they_are,
                    a_lone_vm_has_the_defaults_of_an_empty_group,
                    every_mistake_is_answered_with_file_group_and_key,
                    text_with_a_nul_byte_or_of_a_megabyte_is_refused,
                    more_than_a_thousand_vms_are_refused, vms_start_by_order_then_as_in_the_file,
                    what_a_vm_is_after_comes_before_it,
                    any_acyclic_definition_gets_a_topological_order,
                    a_directory_is_read_sorted_by_the_names_of_the_vapps,
                    a_directory_without_vapps_or_without_itself_is_an_empty_list,
                    two_files_with_one_name_are_refused_with_both_paths,
                    a_vapp_is_found_by_name_although_the_file_of_another_is_broken,
                    a_missing_file_is_not_found, the_examples_of_the_manual_are_definitions);
}
