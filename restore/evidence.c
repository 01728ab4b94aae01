/* SPDX-License-Identifier: Apache-2.0 */
#include "restore/evidence.h"

#include <string.h>

#include "restore/guest.h"

#define DIR_MODE 0700
#define FILE_MODE 0600
#define EVIDENCE_NAME "evidence.json"
#define EVIDENCE_MAX_BYTES (16u << 20)

char *evidence_dir(const struct site *site, const char *run)
{
    return g_build_filename(site->config->store, "evidence", run, NULL);
}

/* "db.png"; g_free. QEMU before 7.1 knows no PNG. */
static char *picture_name(const char *vm, const char *vm_uuid, const char *type)
{
    const char *end = strcmp(type, "image/png") == 0 ? "png" : "ppm";
    g_autofree char *name = g_strdup_printf("%s.%s", vm, end);

    return name_is_safe(name) ? g_steal_pointer(&name) : g_strdup_printf("%s.%s", vm_uuid, end);
}

static char *save_screenshot(const char *dir, const char *vm, const char *vm_uuid,
                             struct domain *domain, GError **error)
{
    g_autofree char *type = NULL;
    g_autofree char *data = NULL;
    g_autofree char *name = NULL;
    g_autofree char *path = NULL;
    size_t len;

    if (!domain_screenshot(domain, &type, &data, &len, error))
        return NULL;
    name = picture_name(vm, vm_uuid, type);
    path = g_build_filename(dir, name, NULL);
    return file_write(path, data, len, FILE_MODE, error) ? g_steal_pointer(&name) : NULL;
}

void evidence_look(const char *dir, const char *vm, const char *vm_uuid, struct domain *domain,
                   json_t *entry)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *picture = NULL;
    json_t *facts = guest_facts(domain);

    json_object_set_new(entry, "guest", facts ? facts : json_null());
    if (dir_make(dir, DIR_MODE, &problem))
        picture = save_screenshot(dir, vm, vm_uuid, domain, &problem);
    json_set_string(entry, "screenshot", picture);
    json_set_string(entry, "screenshot_problem", problem ? problem->message : NULL);
}

static void add_fact(json_t *list, const char *what, const char *value, json_t *ok)
{
    json_t *fact = json_object();

    json_set_string(fact, "what", what);
    json_set_string(fact, "value", value);
    json_object_set_new(fact, "ok", ok);
    json_array_append_new(list, fact);
}

static void add_guest_facts(json_t *list, const json_t *guest)
{
    static const char *const named[][2] = {
        {"hostname", "host name"}, {"os", "system"}, {"kernel", "kernel"}, {"time", "its clock"}};
    g_autoptr(GString) addresses = g_string_new(NULL);
    const json_t *address;
    size_t i;

    for (size_t k = 0; k < G_N_ELEMENTS(named); k++)
        if (json_get_string(guest, named[k][0]))
            add_fact(list, named[k][1], json_get_string(guest, named[k][0]), json_null());
    json_array_foreach(json_object_get(guest, "addresses"), i, address)
        g_string_append_printf(addresses, "%s%s", i ? ", " : "", json_string_value(address));
    if (addresses->len > 0)
        add_fact(list, "addresses", addresses->str, json_null());
}

/* What nobody could see is neither good nor bad. */
static void add_verdict(json_t *list, const char *verdict, const char *seen)
{
    bool unproven = strcmp(verdict, proof_verdict_name(PROOF_UNPROVEN)) == 0;
    bool passed = strcmp(verdict, proof_verdict_name(PROOF_PASSED)) == 0;
    g_autofree char *text = g_strconcat(unproven ? "unproven: " : "", seen, NULL);

    add_fact(list, "works", text, unproven ? json_null() : json_boolean(passed));
}

void evidence_list(json_t *entry)
{
    const char *verdict = json_get_string(entry, "verdict");
    const char *problem = json_get_string(entry, "error");
    const json_t *boot = json_object_get(entry, "boot_seconds");
    g_autofree char *took = json_is_number(boot) ? duration_format(json_number_value(boot)) : NULL;
    json_t *list = json_array();

    if (verdict)
        add_verdict(list, verdict, problem ? problem : json_get_string(entry, "seen"));
    if (took)
        add_fact(list, "ready after", took, json_null());
    add_guest_facts(list, json_object_get(entry, "guest"));
    json_object_set_new(entry, "evidence", list);
}

/* ---- For the report of the run */

static void add_picture(json_t *vm, const char *dir)
{
    const char *name = json_get_string(vm, "screenshot");
    g_autofree char *path = name ? g_build_filename(dir, name, NULL) : NULL;
    json_t *picture, *list;

    if (!path || !g_str_has_suffix(path, ".png"))
        return;
    picture = json_object();
    list = json_array();
    json_set_string(picture, "caption", "What its screen showed");
    json_set_string(picture, "path", path);
    json_array_append_new(list, picture);
    json_object_set_new(vm, "pictures", list);
}

/* g_free */
static char *verdict_text(const json_t *evidence)
{
    const char *verdict = json_get_string(evidence, "verdict");
    const char *stopped = json_get_string(evidence, "stopped");

    if (stopped)
        return g_strdup_printf("The test was stopped: %s.", stopped);
    return g_strdup_printf("The test %s.",
                           g_strcmp0(verdict, proof_verdict_name(PROOF_UNPROVEN)) == 0
                               ? "proves less than all: some VMs could not be seen to work"
                               : verdict);
}

json_t *evidence_for_run(const json_t *evidence, const char *dir)
{
    json_t *json = json_deep_copy(evidence);
    g_autofree char *verdict = NULL;
    json_t *vm;
    size_t i;

    if (!json)
        return NULL;
    verdict = verdict_text(evidence);
    json_set_string(json, "verdict", verdict);
    json_array_foreach(json_object_get(json, "vms"), i, vm) add_picture(vm, dir);
    return json;
}

json_t *evidence_load(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, EVIDENCE_NAME, NULL);
    g_autofree char *text = NULL;
    size_t len;

    return file_read(path, EVIDENCE_MAX_BYTES, &text, &len, NULL)
               ? json_parse(text, len, EVIDENCE_NAME, NULL)
               : NULL;
}

bool evidence_save(const char *dir, const json_t *evidence, GError **error)
{
    g_autofree char *path = g_build_filename(dir, EVIDENCE_NAME, NULL);
    g_autofree char *text = json_text(evidence, 2);

    return dir_make(dir, DIR_MODE, error) && file_write(path, text, strlen(text), FILE_MODE, error);
}
