/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what the web page is asked, and of what it shows. The first byte of the input says which: 'f' a form and
 * what is in it, 'p' a place that somebody wants to be led to, anything else what commands have printed, of which all pages are made.
 */
#include <string.h>

#include "tests/fuzz.h"
#include "tests/web-papers.h"
#include "web/request.h"

static void check_form(const char *text, size_t len)
{
    g_autoptr(GHashTable) form = form_parse(text, len);
    GHashTableIter iter;
    void *name, *value;

    if (!form)
        return;
    fuzz_require(len <= REQUEST_FORM_MAX && g_hash_table_size(form) <= REQUEST_FIELDS_MAX);
    g_hash_table_iter_init(&iter, form);
    while (g_hash_table_iter_next(&iter, &name, &value)) {
        fuzz_require(strlen(name) + strlen(value) <= len);
        if (argument_is_safe(value))
            fuzz_require(g_utf8_validate(value, -1, NULL) && *(char *)value != '-');
    }
}

static void check_place(const char *text)
{
    if (place_is_ours(text))
        fuzz_require(text[0] == '/' && text[1] != '/' && !strpbrk(text, "\\\r\n\t "));
    if (bearer_of(text))
        fuzz_require(g_ascii_strncasecmp(text, "bearer ", 7) == 0);
}

static void complain(const char *page, const char *what, const char *html)
{
    fuzz_fail("%s: %s\n%s", page, what, html);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autofree char *text = len > 0 ? g_strndup((const char *)data + 1, len - 1) : NULL;
    json_auto_t *json = NULL;

    if (!text)
        return 0;
    if (*data == 'f') {
        check_form((const char *)data + 1, len - 1);
    } else if (*data == 'p') {
        check_place(text);
    } else {
        json = json_parse((const char *)data, len, "input", NULL);
        if (json_is_object(json))
            web_papers_check(json, complain);
    }
    return 0;
}
