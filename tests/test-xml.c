/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit.h"

#include <fcntl.h>

#include "common/common.h"

static const char domain[] =
    "<?xml version='1.0'?>\n"
    "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n"
    "  <name>db</name><title>K\xc3\xb6ln &amp; more</title>\n"
    "    <devices><disk><target dev='vda'/></disk>\n\n<disk><target dev='vdb'/></disk></devices>\n"
    "  <metadata><x:vm xmlns:x='urn:x' epoch='3'/></metadata>\n"
    "  <qemu:commandline><qemu:arg value='-s'/></qemu:commandline>\n"
    "</domain>\n";

static struct xml *parsed(const char *text)
{
    g_autoptr(GError) error = NULL;
    struct xml *xml = xml_parse(text, "domain db", &error);

    unit_ok(xml, error);
    return xml;
}

static void assert_dump(const struct xml *xml, const char *expected)
{
    g_autofree char *text = xml_dump(xml);

    ck_assert_str_eq(text, expected);
}

static void assert_string(const struct xml_node *from, const char *xpath, const char *expected)
{
    g_autofree char *text = xml_string(from, xpath);

    if (expected)
        ck_assert_str_eq(text, expected);
    else
        ck_assert_ptr_null(text);
}

START_TEST(a_dump_is_indented_and_stable)
{
    AUTO(xml) xml = parsed("<a>  <b x='1'/>\n\n\n<c>t</c></a>");
    AUTO(xml) full = parsed(domain);
    g_autofree char *once = xml_dump(full);
    AUTO(xml) again = parsed(once);

    assert_dump(xml, "<a>\n  <b x=\"1\"/>\n  <c>t</c>\n</a>\n");
    assert_dump(again, once);
    ck_assert_ptr_nonnull(strstr(once, "<title>K\xc3\xb6ln &amp; more</title>"));
}
END_TEST

START_TEST(finds_elements_and_strings)
{
    AUTO(xml) xml = parsed(domain);
    struct xml_node *root = xml_root(xml);
    g_autoptr(GPtrArray) disks = xml_find_all(root, "devices/disk");
    g_autoptr(GPtrArray) both = xml_find_all(root, "//disk[2] | //disk[1] | //disk/target/@dev");

    ck_assert_str_eq(xml_name(root), "domain");
    ck_assert_uint_eq(disks->len, 2);
    assert_string(disks->pdata[1], "target/@dev", "vdb");
    ck_assert_uint_eq(both->len, 2);
    ck_assert_ptr_eq(both->pdata[0], disks->pdata[0]);
    assert_string(root, "name", "db");
    assert_string(root, "/domain/title/text()", "K\xc3\xb6ln & more");
    assert_string(root, "count(//disk)", "2");
    assert_string(root, "uuid", NULL);
    ck_assert_ptr_null(xml_find(root, "uuid"));
    ck_assert_ptr_eq(xml_find(disks->pdata[0], ".."), xml_find(root, "devices"));
}
END_TEST

START_TEST(prefixes_mean_what_the_document_says)
{
    AUTO(xml) xml = parsed(domain);

    assert_string(xml_root(xml), "qemu:commandline/qemu:arg/@value", "-s");
    assert_string(xml_root(xml), "metadata/x:vm/@epoch", "3");
    assert_string(xml_root(xml), "metadata/y:vm/@epoch", NULL);
    ck_assert_ptr_null(xml_find(xml_root(xml), "not[an(xpath"));
}
END_TEST

START_TEST(escapes_what_it_is_given)
{
    static const char nasty[] = "a<b>&amp;'\"&x;";
    AUTO(xml) xml = xml_new("a");
    struct xml_node *root = xml_root(xml), *child = xml_add(root, "b", nasty);
    g_autofree char *attr = NULL, *text = NULL;
    AUTO(xml) again = NULL;

    xml_set_attr(child, "x", nasty);
    xml_set_text(xml_add(root, "c", "old"), nasty);
    attr = xml_attr(child, "x");
    ck_assert_str_eq(attr, nasty);
    text = xml_dump(xml);
    again = parsed(text);
    assert_string(xml_root(again), "b", nasty);
    assert_string(xml_root(again), "b/@x", nasty);
    assert_string(xml_root(again), "c", nasty);
}
END_TEST

START_TEST(bytes_that_are_no_text_do_not_spoil_the_document)
{
    AUTO(xml) xml = xml_new("a");

    xml_set_attr(xml_root(xml), "x", "\xff");
    xml_add(xml_root(xml), "b", "\xfe");
    xml_set_text(xml_add(xml_root(xml), "c", NULL), "\xc3\xa4");
    assert_dump(xml, "<a x=\"\xef\xbf\xbd\">\n  <b>\xef\xbf\xbd</b>\n  <c>\xc3\xa4</c>\n</a>\n");
}
END_TEST

START_TEST(edits_in_place)
{
    AUTO(xml) xml = parsed("<a><b x='1' y='2'/><c><d/></c><e/><g/></a>");
    AUTO(xml) other = parsed("<z><h i='1'><j/></h></z>");
    struct xml_node *root = xml_root(xml), *b = xml_find(root, "b");

    xml_set_attr(b, "x", NULL);
    xml_set_attr(b, "missing", NULL);
    xml_set_attr(b, "y", "3");
    ck_assert_ptr_null(xml_attr(b, "x"));
    xml_set_text(xml_find(root, "c"), "text");
    ck_assert_ptr_eq(xml_child(root, "b"), b);
    xml_child(root, "f");
    xml_remove(xml_find(root, "e"));
    xml_replace(xml_find(root, "g"), xml_find(xml_root(other), "h"));
    assert_dump(xml, "<a>\n  <b y=\"3\"/>\n  <c>text</c>\n  <h i=\"1\">\n    <j/>\n  </h>\n"
                     "  <f/>\n</a>\n");
    ck_assert_ptr_nonnull(xml_find(xml_root(other), "h/j"));
}
END_TEST

START_TEST(a_child_of_another_namespace_is_not_the_one)
{
    AUTO(xml) xml = parsed("<a xmlns:x='urn:x'><x:b/><b/></a>");

    ck_assert_ptr_eq(xml_child(xml_root(xml), "b"), xml_find(xml_root(xml), "b"));
    xml_child(xml_root(xml), "c");
    assert_dump(xml, "<a xmlns:x=\"urn:x\">\n  <x:b/>\n  <b/>\n  <c/>\n</a>\n");
}
END_TEST

START_TEST(removes_what_is_of_another_namespace)
{
    AUTO(xml)
    xml = parsed("<a xmlns:x='urn:x' x:k='1' l='2'><x:b><c><x:d/></c></x:b>"
                 "<e x:k='1' x:l='1' l='2'>text<x:f/><g x:k='1'/></e></a>");

    xml_remove_foreign_attrs(xml_root(xml));
    assert_dump(xml,
                "<a xmlns:x=\"urn:x\" l=\"2\">\n  <x:b>\n    <c>\n      <x:d/>\n    </c>\n"
                "  </x:b>\n  <e x:k=\"1\" x:l=\"1\" l=\"2\">text<x:f/><g x:k=\"1\"/></e>\n</a>\n");
    xml_remove_foreign(xml_root(xml));
    assert_dump(xml, "<a xmlns:x=\"urn:x\" l=\"2\">\n  <e l=\"2\">text<g/></e>\n</a>\n");
}
END_TEST

START_TEST(adds_elements_of_another_namespace)
{
    AUTO(xml) xml = xml_new("metadata");
    struct xml_node *vm = xml_add_ns(xml_root(xml), "drctl", "urn:drctl", "vm");

    xml_set_attr(vm, "epoch", "3");
    xml_add(vm, "site", "dc1");
    assert_string(xml_root(xml), "drctl:vm/drctl:site", "dc1");
    assert_dump(xml, "<metadata>\n  <drctl:vm xmlns:drctl=\"urn:drctl\" epoch=\"3\">\n"
                     "    <drctl:site>dc1</drctl:site>\n  </drctl:vm>\n</metadata>\n");
}
END_TEST

/* What the program wrote to stderr while FUNCTION ran. */
static char *stderr_of(void (*function)(void))
{
    g_autofree char *dir = unit_dir(), *path = g_build_filename(dir, "stderr", NULL);
    int saved = dup(STDERR_FILENO);
    AUTO_FD fd = open(path, O_RDWR | O_CREAT, 0600);
    char *text = NULL;

    dup2(fd, STDERR_FILENO);
    function();
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    file_read(path, 1 << 20, &text, NULL, NULL);
    return text;
}

static void parse_nonsense(void)
{
    static const char *const bad[] = {"",         "nonsense",         "<a>",
                                      "<a></b>",  "<a x='1' x='2'/>", "<a>\n\n&undefined;</a>",
                                      "<a/><b/>", "<a>\xff</a>",      "<a>\x01</a>"};
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(xml_parse(bad[i], "domain db", &error), error, ERROR_INTEGRITY, "domain db");
    unit_fails(xml_parse("<a>\n\n</b>", "domain db", &error), error, ERROR_INTEGRITY, "line 3");
}

START_TEST(refuses_nonsense_without_a_word_on_stderr)
{
    g_autofree char *printed = stderr_of(parse_nonsense);

    ck_assert_str_eq(printed, "");
}
END_TEST

START_TEST(refuses_every_document_type)
{
    static const char *const bad[] = {
        "<!DOCTYPE a><a/>", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY b 'bbbbbbbb'><!ENTITY c '&b;&b;&b;&b;'>]><a x='&c;'>&c;</a>",
        "<!-- x --><!DOCTYPE a [<!ENTITY % p SYSTEM 'http://localhost/'> %p;]><a/>"};
    g_autoptr(GError) error = NULL;

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
        unit_fails(xml_parse(bad[i], "domain db", &error), error, ERROR_INTEGRITY,
                   "domain db has a document type");
}
END_TEST

START_TEST(refuses_what_is_too_large_or_too_deep)
{
    g_autoptr(GString) large = g_string_new("<a>"), deep = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    while (large->len <= 16 << 20)
        g_string_append(large, "<b>0123456789012345678901234567890123456789</b>");
    g_string_append(large, "</a>");
    for (int i = 0; i < 100000; i++)
        g_string_append(deep, "<a>");
    unit_fails(xml_parse(large->str, "large", &error), error, ERROR_INTEGRITY, "larger than");
    unit_fails(xml_parse(deep->str, "deep", &error), error, ERROR_INTEGRITY, "deep");
}
END_TEST

int main(void)
{
    return UNIT_RUN("xml", a_dump_is_indented_and_stable, finds_elements_and_strings,
                    prefixes_mean_what_the_document_says, escapes_what_it_is_given,
                    bytes_that_are_no_text_do_not_spoil_the_document, edits_in_place,
                    a_child_of_another_namespace_is_not_the_one,
                    removes_what_is_of_another_namespace, adds_elements_of_another_namespace,
                    refuses_nonsense_without_a_word_on_stderr, refuses_every_document_type,
                    refuses_what_is_too_large_or_too_deep);
}
