/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/runbook.h"

#include <string.h>

#include "drctl/output.h"
#include "drctl/testing.h"
#include "drctl/windows.h"

#define RECIPE_MAX (1u << 20)

struct runbook {
    const struct site *site;
    const struct recovery_plan *plan;
    struct sheet *sheet;
    GPtrArray *vapps; /* of struct vapp, in the order in which they are brought up */
    char *program;    /* "drctl", with what it needs to find this site */
    char *name;       /* of the plan, as a word of a command */
};

/* --- words ----------------------------------------------------------------------------------- */

static char *minutes_text(int64_t ms)
{
    return duration_format((double)ms / 1000);
}

/* Where not the default configuration is meant, it must be said. */
static char *program_text(const struct config *config)
{
    g_autofree char *usual = config_default_dir();
    g_autofree char *quoted = shell_word(config->dir);

    return g_str_equal(usual, config->dir) ? g_strdup("drctl")
                                           : g_strconcat("drctl --config ", quoted, NULL);
}

static void list(struct runbook *self, char *const *texts)
{
    for (; texts && *texts; texts++)
        sheet_paragraph(self->sheet, "- %s", *texts);
}

/* As it is typed: PROGRAM WORDS NAME MORE. */
static void write_command(struct runbook *self, const char *program, const char *words,
                          const char *name, const char *more)
{
    g_autofree char *text =
        g_strdup_printf("%s %s %s%s%s", program, words, name, *more ? " " : "", more);

    sheet_block(self->sheet, text);
}

static void command(struct runbook *self, const char *what, const char *words, const char *more)
{
    sheet_paragraph(self->sheet, "%s", what);
    write_command(self, self->program, words, self->name, more);
}

/* One for each vApp. */
static void command_each(struct runbook *self, const char *program, const char *words,
                         const char *more)
{
    for (unsigned i = 0; i < self->vapps->len; i++) {
        g_autofree char *name = shell_word(((const struct vapp *)self->vapps->pdata[i])->name);

        write_command(self, program, words, name, more);
    }
}

/* --- who, and what --------------------------------------------------------------------------- */

static void write_people(struct runbook *self)
{
    const struct recovery_plan *plan = self->plan;

    sheet_section(self->sheet, "1. Who is called");
    list(self, plan->contacts);
    if (!plan->contacts)
        sheet_paragraph(
            self->sheet,
            "The plan names nobody: write `contacts = NAME, TELEPHONE; ...` into [plan] "
            "of %s, and print this again.",
            plan->path ? plan->path : "a plan (drctl plan new)");
    list(self, plan->notes);
}

static char *ready_text(const struct vapp_vm *vm)
{
    g_autofree char *limit = minutes_text(vm->ready_timeout_ms);

    if (vm->ready == READY_NONE)
        return g_strdup("as soon as it runs");
    return g_strdup_printf("%s, within %s", vm->ready_text, limit);
}

static void write_vapp(struct runbook *self, const struct vapp *vapp)
{
    static const char *const headers[] = {"Order", "VM", "After", "Ready when", "Then waits", NULL};

    sheet_part(self->sheet, vapp->name);
    sheet_table(self->sheet, headers);
    for (unsigned i = 0; i < vapp->vms->len; i++) {
        const struct vapp_vm *vm = vapp->vms->pdata[i];
        g_autofree char *order = g_strdup_printf("%u", vm->order);
        g_autofree char *after = g_strjoinv(", ", vm->after);
        g_autofree char *ready = ready_text(vm);
        g_autofree char *delay = vm->delay_ms ? minutes_text(vm->delay_ms) : NULL;

        sheet_row(self->sheet, (const char *[]){order, vm->name, after, ready, delay});
    }
}

static void write_order(struct runbook *self)
{
    sheet_section(self->sheet, "2. What is brought up, in which order");
    sheet_paragraph(
        self->sheet,
        "VMs of one order start together. The next order begins when each VM of the one "
        "before is ready, or has failed.");
    for (unsigned i = 0; i < self->vapps->len; i++)
        write_vapp(self, self->vapps->pdata[i]);
}

/* --- from where ------------------------------------------------------------------------------ */

/* The newest point of the VM that the vApp calls NAME, or NULL: of several with that name the one that was last taken. */
static struct manifest *newest_point(struct runbook *self, const char *name)
{
    g_autoptr(GPtrArray) points = store_points(self->site->store, name, NULL);

    for (unsigned i = 0; points && i < points->len; i++) {
        const struct manifest *point = points->pdata[i];

        if (g_str_equal(point->vm, name))
            return g_ptr_array_steal_index(points, i);
    }
    return NULL;
}

/* Calls WRITE for each VM of the plan. */
static void each_vm(struct runbook *self, void (*write)(struct runbook *self, const char *vm,
                                                        const struct manifest *point))
{
    for (unsigned i = 0; i < self->vapps->len; i++) {
        const struct vapp *vapp = self->vapps->pdata[i];

        for (unsigned k = 0; k < vapp->vms->len; k++) {
            const char *vm = ((const struct vapp_vm *)vapp->vms->pdata[k])->name;
            AUTO(manifest) point = newest_point(self, vm);

            write(self, vm, point);
        }
    }
}

static void source_row(struct runbook *self, const char *vm, const struct manifest *point)
{
    g_autofree char *time = point ? time_format_local(point->time_ms) : NULL;

    sheet_row(self->sheet,
              (const char *[]){vm, point ? point->site : "", time ? time : "no point here",
                               point ? consistency_name(point->consistency) : "",
                               point ? point->uuid : ""});
}

static void write_source(struct runbook *self)
{
    static const char *const headers[] = {"VM",          "Of site", "Newest point",
                                          "Consistency", "UUID",    NULL};

    sheet_section(self->sheet, "3. Where it comes from");
    sheet_paragraph(self->sheet,
                    "From the recovery points in %s on this site. When this was written the newest "
                    "ones were:",
                    self->site->config->store);
    sheet_table(self->sheet, headers);
    each_vm(self, source_row);
}

/* --- what changes here ----------------------------------------------------------------------- */

static char *rules_text(const struct plan_network *network)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < network->rules->len; i++) {
        g_autofree char *rule = ip_rule_text(&g_array_index(network->rules, struct ip_rule, i));

        g_string_append_printf(text, "%s%s", i ? ", " : "", rule);
    }
    return g_strdup(text->len ? text->str : "as they are");
}

static void write_networks(struct runbook *self)
{
    static const char *const headers[] = {"Network there", "Here",      "Addresses",
                                          "Gateway",       "In a test", NULL};
    const GPtrArray *networks = self->plan->networks;

    sheet_section(self->sheet, "4. What is different here");
    if (networks->len == 0)
        sheet_paragraph(self->sheet, "NICs are plugged into the networks of the same names.");
    else
        sheet_table(self->sheet, headers);
    for (unsigned i = 0; i < networks->len; i++) {
        const struct plan_network *network = networks->pdata[i];
        g_autofree char *rules = rules_text(network);

        sheet_row(
            self->sheet,
            (const char *[]){network->name,
                             network->disconnected ? "no cable"
                             : network->target     ? network->target
                                                   : network->name,
                             rules, network->gateway,
                             network->test_disconnected ? "no cable" : "a network of its own"});
    }
}

static char *addresses_text(const struct plan_vm *vm)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < vm->addresses->len; i++) {
        const struct plan_address *address = vm->addresses->pdata[i];
        g_autofree char *prefix = ip_prefix_text(&address->address);

        g_string_append_printf(text, "%s%s %s", i ? ", " : "", address->nic, prefix);
    }
    return g_strdup(text->str);
}

static void write_vms(struct runbook *self)
{
    static const char *const headers[] = {"VM", "Host", "Memory", "CPUs", "Addresses", "", NULL};
    const GPtrArray *vms = self->plan->vms;

    if (vms->len > 0)
        sheet_table(self->sheet, headers);
    for (unsigned i = 0; i < vms->len; i++) {
        const struct plan_vm *vm = vms->pdata[i];
        g_autofree char *memory = vm->memory_bytes ? bytes_format(vm->memory_bytes) : NULL;
        g_autofree char *cpus = vm->cpus ? g_strdup_printf("%u", vm->cpus) : NULL;
        g_autofree char *addresses = addresses_text(vm);

        sheet_row(self->sheet,
                  (const char *[]){vm->name, vm->host ? vm->host : "any",
                                   memory ? memory : "as it was", cpus ? cpus : "as it was",
                                   addresses, vm->optional ? "optional" : ""});
    }
}

static void hook(struct runbook *self, const char *vm, const char *when, const char *text)
{
    if (!text)
        return;
    sheet_paragraph(self->sheet, "%s, %s:", vm, when);
    sheet_block(self->sheet, text);
}

static void write_hooks(struct runbook *self)
{
    const GPtrArray *vms = self->plan->vms;

    for (unsigned i = 0; i < vms->len; i++) {
        const struct plan_vm *vm = vms->pdata[i];

        hook(self, vm->name, "here, before it is started", vm->before);
        hook(self, vm->name, "in the guest, when it is ready", vm->in_guest);
        hook(self, vm->name, "here, when it is ready", vm->after);
    }
}

/* --- commands -------------------------------------------------------------------------------- */

static void write_disaster(struct runbook *self)
{
    g_autofree char *policy = commit_policy_text(&self->plan->commit, self->plan->name);

    sheet_section(self->sheet, "5. The other site is lost");
    sheet_paragraph(
        self->sheet,
        "Make sure that it is: a VM that runs at two sites is two VMs. If you are not sure, "
        "somebody must switch it off, or cut its network, before you go on. On this host, as "
        "the administrator:");
    command(self, "Would it work? What would be lost?", "failover", "--dry-run");
    command(
        self,
        "Do it. The plan is shown, and the name must be typed. Whatever is interrupted, the same "
        "command goes on with it.",
        "failover", "");
    command(self, "If some VMs cannot be brought up because a host of this site is off, say which:",
            "failover", "--host-down URI");
    sheet_paragraph(
        self->sheet,
        "If the newest state is what must not come up (an attack, an error of somebody), choose an "
        "older point of those that are listed by");
    {
        g_autofree char *line = g_strconcat(self->program, " points", NULL);

        sheet_block(self->sheet, line);
    }
    command(self, "and start from it:", "failover", "--point POINT");
    sheet_paragraph(self->sheet, "How it goes, and a page for those who ask afterwards:");
    {
        g_autofree char *lines = g_strdup_printf(
            "%s run list\n%s run show RUN --report /tmp/run.html", self->program, self->program);

        sheet_block(self->sheet, lines);
    }
    if (policy)
        sheet_paragraph(self->sheet, "It does not count for good at once: %s.", policy);
}

static void write_planned(struct runbook *self)
{
    sheet_section(self->sheet, "6. The other site is about to go down, and still runs");
    sheet_paragraph(
        self->sheet,
        "Nothing is lost: its VMs are shut down, their last state is sent, and they start here. "
        "It needs the key of this site as that of an operator there.");
    command_each(self, self->program, "failover", "--planned");
}

static void write_test(struct runbook *self, const json_t *runs)
{
    g_autofree char *tested = testing_text(runs, self->plan);
    g_autofree char *every =
        self->plan->test_every_ms ? minutes_text(self->plan->test_every_ms) : NULL;

    sheet_section(self->sheet, "7. A test, which touches nothing that is real");
    command(self,
            "Copies of the VMs start in networks of their own, are looked at, and go:", "failover",
            "--test");
    command(self, "What a test has left that was killed:", "test cleanup", "");
    sheet_paragraph(self->sheet, "Last test: %s.%s%s%s", tested, every ? " It is due every " : "",
                    every ? every : "", every ? "." : "");
}

static void write_back(struct runbook *self)
{
    g_autofree char *from = g_strconcat("--from ", self->site->config->site, NULL);

    sheet_section(self->sheet, "8. Back");
    command(self,
            "Take back a failover that is not committed. What the VMs have written since is gone, "
            "and the other "
            "site may have its VMs again:",
            "rollback", "");
    command(self, "Let it count for good before its time is over:", "commit", "");
    sheet_paragraph(
        self->sheet,
        "The lost site is repaired, and shall have the VMs again. There, on its host, not here:");
    command_each(self, "drctl", "failback", from);
}

/* --- by hand --------------------------------------------------------------------------------- */

static void by_hand(struct runbook *self, const char *vm, const struct manifest *point)
{
    g_autofree char *dir =
        point ? store_point_dir(self->site->config->store, point->uuid, point->point) : NULL;
    g_autofree char *path = dir ? g_build_filename(dir, "RESTORE.txt", NULL) : NULL;
    g_autofree char *quoted = dir ? shell_word(dir) : NULL;
    g_autofree char *lines = quoted ? g_strdup_printf("cd %s", quoted) : NULL;
    g_autofree char *recipe = NULL;

    sheet_part(self->sheet, vm);
    if (!point) {
        sheet_paragraph(self->sheet, "There is no recovery point of it here.");
        return;
    }
    sheet_block(self->sheet, lines);
    if (file_read(path, RECIPE_MAX, &recipe, NULL, NULL))
        sheet_block(self->sheet, recipe);
    else
        sheet_paragraph(self->sheet, "%s cannot be read.", path);
}

static void write_by_hand(struct runbook *self)
{
    sheet_section(self->sheet, "10. Without drctl");
    sheet_paragraph(
        self->sheet,
        "Points are plain files: sha256sum, qemu-img and virsh do. The VMs in the order of part 2; "
        "of "
        "each the newest point that there was when this was written. Newer ones lie beside it, "
        "and each has such a text in its RESTORE.txt. Networks as in part 4 must be changed in the "
        "definitions by hand.");
    each_vm(self, by_hand);
}

/* --- how long ---------------------------------------------------------------------------------- */

static void measured(struct runbook *self, const char *kind, const char *what)
{
    json_auto_t *forecast = run_forecast(self->site->catalog, kind, self->plan->name, NULL);
    const json_t *seconds = json_object_get(forecast, "rto_seconds");
    g_autofree char *text =
        json_is_number(seconds) ? duration_format(json_number_value(seconds)) : NULL;

    sheet_paragraph(self->sheet, "%s: %s.", what, text ? text : "not measured yet");
}

static void write_duration(struct runbook *self)
{
    sheet_section(self->sheet, "9. How long it takes");
    measured(self, "test", "Until the last VM was ready in a test");
    measured(self, "failover", "In a failover");
}

/* --------------------------------------------------------------------------------------------- */

static bool find_vapps(struct runbook *self, GError **error)
{
    for (char **name = self->plan->vapps; *name; name++) {
        g_autoptr(GError) why = NULL;
        struct vapp *vapp = site_vapp(self->site, *name, &why);

        if (!vapp && !error_is(why, ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        g_ptr_array_add(self->vapps, vapp ? vapp : vapp_single(*name));
    }
    return true;
}

static void write_all(struct runbook *self, const json_t *runs)
{
    write_people(self);
    write_order(self);
    write_source(self);
    write_networks(self);
    write_vms(self);
    write_hooks(self);
    write_disaster(self);
    write_planned(self);
    write_test(self, runs);
    write_back(self);
    write_duration(self);
    write_by_hand(self);
}

struct sheet *runbook_sheet(const struct site *site, const struct recovery_plan *plan,
                            GError **error)
{
    g_autoptr(GPtrArray) vapps = g_ptr_array_new_with_free_func((GDestroyNotify)vapp_free);
    g_autofree char *program = program_text(site->config);
    g_autofree char *name = shell_word(plan->name);
    g_autofree char *now = time_format_local(time_now_ms());
    g_autofree char *note = g_strdup_printf(
        "For site %s%s%s. Written %s from %s; print it again when the plan changes.",
        site->config->site, plan->site ? ", for VMs of site " : "", plan->site ? plan->site : "",
        now, plan->path ? plan->path : "the default plan");
    json_auto_t *runs = run_list(site->catalog, error);
    struct runbook self = {
        .site = site, .plan = plan, .vapps = vapps, .program = program, .name = name};

    if (!runs || !find_vapps(&self, error))
        return NULL;
    self.sheet = sheet_new("Runbook", plan->name, note);
    write_all(&self, runs);
    return self.sheet;
}
