/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "snapshot/arrived.h"

#define BUFFER_RECORDS 1024u
/* Of the other side's word: what 4 TiB of a disk take. */
#define BYTES_MAX (UINT64_C(4) << 30)

struct arrived {
    int fd;
    char *path;
    uint64_t bytes; /* of the file */
    uint64_t read;  /* of them */
    size_t used, held;
    struct salvaged next;
    bool has_next;
    uint8_t buffer[BUFFER_RECORDS * SALVAGED_BYTES];
};

static bool keep(void *context, const void *data, size_t len, GError **error)
{
    struct arrived *arrived = context;

    if (len > BYTES_MAX - arrived->bytes)
        return fail(error, ERROR_INTEGRITY, "it is more than any disk could have");
    if (!interrupt_check(error) ||
        !fd_write_at(arrived->fd, arrived->bytes, data, len, arrived->path, error))
        return false;
    arrived->bytes += len;
    return true;
}

static struct arrived *arrived_new(const char *target, const char *dir, GError **error)
{
    AUTO(arrived) arrived = g_new0(struct arrived, 1);

    arrived->path = g_strdup_printf("%s/%s.arrived", dir, target);
    arrived->fd = -1;
    if (!dir_make(dir, 0700, error))
        return NULL;
    arrived->fd = open(arrived->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (arrived->fd >= 0)
        return g_steal_pointer(&arrived);
    fail_errno(error, errno, "cannot create %s", arrived->path);
    return NULL;
}

bool arrived_fetch(struct incoming *incoming, const char *target, const char *dir,
                   struct arrived **out, GError **error)
{
    g_autoptr(GError) why = NULL;
    AUTO(arrived) arrived = arrived_new(target, dir, &why);

    *out = NULL;
    if (arrived && incoming_partial(incoming, target, keep, arrived, &why)) {
        if (arrived->bytes >= SALVAGED_BYTES)
            *out = g_steal_pointer(&arrived);
        return true;
    }
    if (error_is(why, ERROR_NETWORK) || error_is(why, ERROR_CANCELLED)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g_debug("what arrived earlier is not known: %s", why->message);
    return true;
}

void arrived_free(struct arrived *arrived)
{
    if (!arrived)
        return;
    fd_cleanup(&arrived->fd);
    g_free(arrived->path);
    g_free(arrived);
}

static bool fill(struct arrived *arrived, GError **error)
{
    size_t want = (size_t)MIN(sizeof(arrived->buffer), arrived->bytes - arrived->read);

    want -= want % SALVAGED_BYTES;
    if (!fd_read_at(arrived->fd, arrived->read, arrived->buffer, want, arrived->path, error))
        return false;
    arrived->read += want;
    arrived->used = 0;
    arrived->held = want;
    return true;
}

/* A record that cannot be is the end: what follows it is not believed either. */
static bool advance(struct arrived *arrived, GError **error)
{
    if (arrived->used == arrived->held && !fill(arrived, error))
        return false;
    arrived->has_next =
        arrived->held > 0 && salvaged_decode(arrived->buffer + arrived->used, &arrived->next, NULL);
    arrived->used += SALVAGED_BYTES;
    return true;
}

bool arrived_find(struct arrived *arrived, uint64_t cluster, struct salvaged *salvaged, bool *found,
                  GError **error)
{
    if (arrived->read == 0 && !advance(arrived, error))
        return false;
    while (arrived->has_next && arrived->next.cluster < cluster)
        if (!advance(arrived, error))
            return false;
    *found = arrived->has_next && arrived->next.cluster == cluster;
    if (*found)
        *salvaged = arrived->next;
    return true;
}

uint64_t arrived_bytes(const struct arrived *arrived)
{
    return arrived->bytes / SALVAGED_BYTES * CLUSTER_BYTES;
}
