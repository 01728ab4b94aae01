/* SPDX-License-Identifier: Apache-2.0 */
/* A command at the other site, from here. */
#include <inttypes.h>

#include "replicator/client.h"
#include "replicator/remote.h"

#define NOTE_SHOWN 2000

struct answer {
    const char *name; /* of the remote */
    struct progress *progress;
    GByteArray *output;
};

static bool take_note(const struct answer *self, const struct frame *frame, GError **error)
{
    json_auto_t *note = frame_json(frame, error);
    const char *text = note ? json_get_string(note, "text") : NULL;
    g_autofree char *harmless = text ? text_harmless(text, NOTE_SHOWN) : NULL;

    /* Without a text it only says that the command still runs. */
    if (harmless)
        progress_note(self->progress, "%s: %s", self->name, harmless);
    return note != NULL;
}

static bool take_output(void *context, const void *data, size_t len, GError **error)
{
    const struct answer *self = context;

    if (len > COMMAND_OUTPUT_MAX - self->output->len)
        return fail(error, ERROR_INTEGRITY, "the other side sent more than a command may print");
    g_byte_array_append(self->output, data, (unsigned)len);
    return true;
}

static bool take_item(const struct frame *frame, void *context, GError **error)
{
    struct answer *self = context;
    struct remote_pieces pieces = {.at = self->output->len, .sink = take_output, .context = self};

    return frame->type == WIRE_NOTE ? take_note(self, frame, error)
                                    : remote_take_piece(frame, &pieces, error);
}

/* What its exit status says to us. The other side's link is not ours, and its user is nobody. */
static enum error_kind kind_of_exit(uint64_t status)
{
    switch (status) {
    case EXIT_USAGE:
        return ERROR_CONFIG;
    case EXIT_PARTIAL:
        return ERROR_PARTIAL;
    case EXIT_NOT_FOUND:
        return ERROR_NOT_FOUND;
    case EXIT_INTEGRITY:
        return ERROR_INTEGRITY;
    case EXIT_HYPERVISOR:
        return ERROR_HYPERVISOR;
    default:
        return ERROR_FAILED;
    }
}

static bool conclude(const struct answer *self, const json_t *ok, const char *command,
                     json_t **result, GError **error)
{
    const char *why = json_get_string(ok, "error");
    g_autofree char *harmless = why ? text_harmless(why, NOTE_SHOWN) : NULL;
    json_auto_t *all = NULL;
    uint64_t bytes, status;

    if (!json_need_u64(ok, "bytes", &bytes, error) || !json_need_u64(ok, "exit", &status, error))
        return false;
    if (bytes != self->output->len)
        return fail(error, ERROR_INTEGRITY, "%u of %" PRIu64 " bytes of its result arrived",
                    self->output->len, bytes);
    all = json_parse_all((const char *)self->output->data, self->output->len, "its result", error);
    if (!all)
        return false;
    if (status == 0 || json_array_size(all) > 0)
        *result = json_incref(all);
    if (status == 0)
        return true;
    return harmless ? fail(error, kind_of_exit(status), "%s", harmless)
                    : fail(error, kind_of_exit(status), "drctl %s: exit status %" PRIu64, command,
                           status);
}

bool remote_command(struct client *client, const char *const *args, struct progress *progress,
                    json_t **result, GError **error)
{
    g_autoptr(GByteArray) output = g_byte_array_new();
    struct answer answer = {client->name, progress, output};
    g_autofree char *command = g_strjoinv(" ", (char **)args);
    json_auto_t *ok = NULL;
    json_t *object, *list;

    if (!client->may_command)
        return fail(error, ERROR_AUTH,
                    "this site's key may not run commands there: put the line that `drctl site add "
                    "%s --operator` prints here into authorized_keys there",
                    client->name);
    object = json_object();
    list = json_array();
    for (; *args; args++)
        json_array_append_new(list, json_string(*args));
    json_object_set_new(object, "args", list);
    return client_ask(client, WIRE_COMMAND, object, take_item, &answer, &ok, error) &&
           conclude(&answer, ok, command, result, error);
}
