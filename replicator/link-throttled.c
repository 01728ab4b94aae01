/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link with a limited rate on any other link. Every byte of every frame passes here, so this is the
 * one place where a limit holds. What comes in is paced by not reading it: the other side's window
 * fills up and it stops by itself.
 */
#include "replicator/link.h"

struct throttled_link {
    struct link link;
    struct link *inner;
    struct throttle *throttle;
};

static bool throttled_write(struct link *link, const void *data, size_t len, GError **error)
{
    struct throttled_link *self = (struct throttled_link *)link;

    for (size_t done = 0, slice; done < len; done += slice) {
        slice = MIN(len - done, throttle_slice(self->throttle));
        if (!throttle_wait(self->throttle, slice, error) ||
            !self->inner->ops->write(self->inner, (const char *)data + done, slice, error))
            return false;
    }
    return true;
}

/* How much comes is only known when it is there, so it is paid for afterwards. */
static enum link_state throttled_read(struct link *link, void *data, size_t len, int timeout_ms,
                                      size_t *got, GError **error)
{
    struct throttled_link *self = (struct throttled_link *)link;
    enum link_state state = self->inner->ops->read(
        self->inner, data, MIN(len, throttle_slice(self->throttle)), timeout_ms, got, error);

    if (state == LINK_DATA && !throttle_wait(self->throttle, *got, error))
        return LINK_FAILED;
    return state;
}

static char *throttled_last_words(struct link *link)
{
    struct throttled_link *self = (struct throttled_link *)link;

    return self->inner->ops->last_words(self->inner);
}

static void throttled_free(struct link *link)
{
    struct throttled_link *self = (struct throttled_link *)link;

    link_free(self->inner);
    throttle_free(self->throttle);
    g_free(self);
}

static const struct link_ops throttled_link_ops = {
    .write = throttled_write,
    .read = throttled_read,
    .last_words = throttled_last_words,
    .free = throttled_free,
};

struct link *link_throttled_new(struct link *inner, struct throttle *throttle)
{
    struct throttled_link *self = g_new0(struct throttled_link, 1);

    self->link.ops = &throttled_link_ops;
    self->inner = inner;
    self->throttle = throttle;
    return &self->link;
}
