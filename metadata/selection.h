/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which VMs the `vms` and `exclude` of a protection mean. An entry is the whole name of a VM, a pattern of
 * names as a shell has them (glob(7): * ? [a-z]), or tag:NAME: all VMs that have this tag in their <metadata>:
 *
 *     <drctl:tags xmlns:drctl='https://drctl.org/ns/tags/1'>prod web</drctl:tags>
 *
 * What patterns and tags mean is known only when the VMs are looked at; a VM that is named in full is meant
 * whatever else is said.
 */
#pragma once

#include "metadata/config.h"

#define TAGS_NAMESPACE "https://drctl.org/ns/tags/1"

/* Is ENTRY anything but a whole name? */
bool selection_is_pattern(const char *entry);
/* Can it be an entry? If not, WHY (a constant) says what is wrong. */
bool selection_is_valid(const char *entry, const char **why);

/* Must the VMs of the site be looked at to know which ones it covers? */
bool protection_is_open(const struct protection *protection);
/* And their tags? */
bool protection_has_tags(const struct protection *protection);
/* Do its patterns mean the VM NAME with TAGS (may be NULL: none)? */
bool protection_selects(const struct protection *protection, const char *name, char *const *tags);
/* The first one of CONFIG with this destination whose patterns do, or NULL. */
const struct protection *protection_that_selects(const struct config *config,
                                                 const char *destination, const char *name,
                                                 char *const *tags);
/* Its patterns as they are written, for messages; g_free. */
char *protection_patterns_text(const struct protection *protection);

/* The words of the element above, as libvirt returns it (NULL: there is none); NULL-terminated, g_strfreev. */
char **tags_parse(const char *xml);
