/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/command.h"
#include "drctl/output.h"
#include "drctl/site-report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_MS (INT64_C(30) * 24 * 3600 * 1000)
#define REPORT_MODE 0644 /* it is made to be handed on */
#define SSH_KEYGEN_TIMEOUT_S 60
#define PUBLIC_KEY_MAX 4096
/* Of signatures: what was signed as one thing must not pass for another. */
#define SIGN_NAMESPACE "drctl-report"
#define SIGNER "drctl"

/* --- signatures ------------------------------------------------------------------------------ */

/* The file of --key, or NAME of this site; g_free. NULL without a site. */
static char *key_path(struct context *context, const char *name, GError **error)
{
    const char *key = option_value(context, "key");
    const struct config *config = key ? NULL : context_config(context, error);

    if (key)
        return g_strdup(key);
    return config ? g_build_filename(config->dir, name, NULL) : NULL;
}

static bool sign(const char *key, const char *path, GError **error)
{
    g_autofree char *signature = g_strconcat(path, ".sig", NULL);
    const char *argv[] = {"ssh-keygen", "-q", "-Y",           "sign", "-f",
                          key,          "-n", SIGN_NAMESPACE, path,   NULL};

    /* One that is there is not replaced without a question that nobody answers. */
    if (unlink(signature) < 0 && errno != ENOENT)
        return fail_errno(error, errno, "cannot remove %s", signature);
    if (process_run(argv, SSH_KEYGEN_TIMEOUT_S, NULL, error))
        return true;
    g_prefix_error(error, "%s is written but not signed with %s: ", path, key);
    return false;
}

/* Anything else that stands before a key would be an option of who may sign. */
static bool is_key_line(const char *line)
{
    static const char *const types[] = {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-sha2-"};

    for (unsigned i = 0; i < G_N_ELEMENTS(types); i++)
        if (g_str_has_prefix(line, types[i]))
            return true;
    return false;
}

/* What ssh-keygen asks for: who may sign, with which key. */
static bool write_signers(const char *public_key, const char *path, GError **error)
{
    g_autofree char *key = NULL;
    g_autofree char *line = NULL;

    if (!file_read(public_key, PUBLIC_KEY_MAX, &key, NULL, error))
        return false;
    g_strstrip(key);
    if (strchr(key, '\n') || !is_key_line(key))
        return fail(error, ERROR_USAGE,
                    "%s is no public key: it is the .pub file of the site that has signed",
                    public_key);
    line = g_strdup_printf(SIGNER " namespaces=\"" SIGN_NAMESPACE "\" %s\n", key);
    return file_write(path, line, strlen(line), 0600, error);
}

static bool verify(const char *public_key, const char *path, GError **error)
{
    g_autofree char *signature = g_strconcat(path, ".sig", NULL);
    g_autofree char *dir = g_dir_make_tmp("drctl-verify-XXXXXX", NULL);
    g_autofree char *signers = dir ? g_build_filename(dir, "signers", NULL) : NULL;
    /* It reads what was signed from its standard input. */
    const char *argv[] = {"sh",
                          "-c",
                          "exec ssh-keygen -Y verify -f \"$1\" -I " SIGNER " -n " SIGN_NAMESPACE
                          " -s \"$2\" <\"$3\"",
                          "sh",
                          signers,
                          signature,
                          path,
                          NULL};
    g_autoptr(GError) why = NULL;
    bool good;

    if (!dir)
        return fail(error, ERROR_IO, "cannot make a directory in %s", g_get_tmp_dir());
    good = write_signers(public_key, signers, error);
    if (good && !process_run(argv, SSH_KEYGEN_TIMEOUT_S, NULL, &why))
        good = fail(error, ERROR_INTEGRITY, "%s is not what was signed with the key of %s: %s",
                    path, public_key, why->message);
    tree_remove(dir, NULL);
    return good;
}

/* --- report ---------------------------------------------------------------------------------- */

static bool write_file(struct context *context, const char *path, const char *text, GError **error)
{
    g_autofree char *key = NULL;

    if (!file_write(path, text, strlen(text), REPORT_MODE, error))
        return false;
    if (!option_set(context, "sign"))
        return true;
    key = key_path(context, SITE_KEY_FILE, error);
    return key && sign(key, path, error);
}

static bool write_files(struct context *context, const json_t *report, struct sheet *sheet,
                        GError **error)
{
    const char *html = option_value(context, "html"), *data = option_value(context, "data");
    g_autofree char *page = html ? sheet_html(sheet) : NULL;
    g_autofree char *text = data ? json_text(report, 2) : NULL;

    return (!html || write_file(context, html, page, error)) &&
           (!data || write_file(context, data, text, error));
}

static bool cmd_report(struct context *context, GError **error)
{
    bool to_file = option_set(context, "html") || option_set(context, "data");
    json_auto_t *report = NULL;
    AUTO(sheet) sheet = NULL;
    struct period period;

    if (!to_file && (option_set(context, "sign") || option_set(context, "key")))
        return fail(error, ERROR_USAGE,
                    "what is signed must be a file: --html FILE or --data FILE beside --sign");
    if (option_set(context, "key") && !option_set(context, "sign"))
        return fail(error, ERROR_USAGE, "--key goes with --sign");
    if (!period_read(context, DEFAULT_MS, &period, error))
        return false;
    report = site_report(context, &period, option_set(context, "rpo"), error);
    if (!report)
        return false;
    sheet = site_report_sheet(context, report, &period);
    if (!write_files(context, report, sheet, error))
        return false;
    if (context->json) {
        print_json(report);
    } else if (!to_file) {
        g_autofree char *plain = sheet_plain(sheet);

        fputs(plain, stdout);
    }
    return true;
}

static bool cmd_report_verify(struct context *context, GError **error)
{
    const char *path = context->args[0];
    g_autofree char *key = key_path(context, SITE_KEY_FILE ".pub", error);

    if (!key || !verify(key, path, error))
        return false;
    printf("%s is as it was signed with the key of %s.\n", path, key);
    return true;
}

static const struct option report_options[] = {
    PERIOD_FROM_OPTION,
    PERIOD_TO_OPTION,
    {"rpo", NULL, "only the RPOs: nobody else is asked for anything"},
    {"html", "FILE",
     "write it into FILE, a page that needs nothing else, with drawings and pictures"},
    {"data", "FILE", "write its figures into FILE, as JSON"},
    {"sign", NULL, "sign these files: FILE.sig is the signature, as of ssh-keygen -Y sign"},
    {"key", "FILE", "with this private key; default: that of the site"},
    {0},
};

static const struct option verify_options[] = {
    {"key", "FILE", "public key of who has signed; default: that of this site"},
    {0},
};

const struct command report_commands[] = {
    {
        .name = "report",
        .args = "",
        .flags = COMMAND_JSON,
        .summary = "evidence of a time: RPOs achieved, tests, failures, points",
        .text = "The last 30 days, unless --from says otherwise.",
        .options = report_options,
        .run = cmd_report,
    },
    {
        .name = "report verify",
        .args = "FILE",
        .min_args = 1,
        .max_args = 1,
        .flags = COMMAND_NO_CONFIG,
        .summary = "see whether a report is as it was signed",
        .text = "FILE.sig is its signature. Needs no site: --key names the public key.",
        .options = verify_options,
        .run = cmd_report_verify,
    },
    {0},
};
