/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the VMs of a test failover are: networks of their own, one for each network that they had, with the
 * same MAC and IP addresses as the originals, which they cannot reach, nor anything else. At a host in
 * system mode these are libvirt networks without an address of the host (<ip>) and without <forward>, so that
 * there is nothing but the guests on the bridge; they are not defined, so a reboot of the host ends them,
 * too. In session mode, where no networks can be made, guests of one network reach each other by
 * multicast: their frames are wrapped in datagrams to an address at random that nobody else listens to.
 * What else leads out of a guest, or lets it write to what is not its own, is taken away.
 *
 *     bubble_new -> bubble_take for each VM -> (journal) -> bubble_up -> ... -> bubble_down
 */
#pragma once

#include "restore/rewrite.h"

struct bubble;

/* An empty one at the host with this URI; BRIDGED: it can make networks. */
struct bubble *bubble_new(const char *uri, bool bridged);
void bubble_free(struct bubble *bubble);
DEFINE_CLEANUP(bubble)

/* What is rewritten becomes a copy of that NAME and UUID, its NICs are put into the bubble, and all other ways
 * out are closed; before rewrite_adapt(). The platform is told of the bubble's networks. */
void bubble_take(struct bubble *bubble, const struct rewrite *rewrite, const char *name,
                 const char *uuid);

/* For the journal: [{host, from, network}]; only networks that must be made have a name. */
json_t *bubble_to_json(const struct bubble *bubble);
/* Make the networks that JSON names, or stop them; both are safe to repeat. */
bool bubble_up(const json_t *json, GPtrArray *hosts, GError **error);
bool bubble_down(const json_t *json, GPtrArray *hosts, GError **error);
