/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XML by libxml2: domain, network, checkpoint and capability documents. Never loads external
 * entities, never goes to the network, refuses documents over 16 MiB.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "common/cleanup.h"

struct xml;      /* a document; owns its nodes */
struct xml_node; /* an element of a document */

/* ERROR_INTEGRITY names WHAT and the line. */
struct xml *xml_parse(const char *text, const char *what, GError **error);
struct xml *xml_new(const char *root_name);
void xml_free(struct xml *xml);
DEFINE_CLEANUP(xml)
/* Indented text without an XML declaration; g_free. */
char *xml_dump(const struct xml *xml);

struct xml_node *xml_root(const struct xml *xml);
/* First match of an XPath expression evaluated at FROM, or NULL. */
struct xml_node *xml_find(const struct xml_node *from, const char *xpath);
/* All matches in document order, possibly none; g_ptr_array_unref. */
GPtrArray *xml_find_all(const struct xml_node *from, const char *xpath);
/* String value of the first match (element, attribute or text()), or NULL; g_free. */
char *xml_string(const struct xml_node *from, const char *xpath);
const char *xml_name(const struct xml_node *node);

/* Attribute value or NULL; g_free. */
char *xml_attr(const struct xml_node *node, const char *name);
/* NULL removes the attribute. VALUE is escaped. */
void xml_set_attr(struct xml_node *node, const char *name, const char *value);
/* Replace the content by text (escaped). */
void xml_set_text(struct xml_node *node, const char *text);
/* Append a new child element. TEXT may be NULL. */
struct xml_node *xml_add(struct xml_node *parent, const char *name, const char *text);
/* The first child element NAME that is in no namespace, appended if there is none. */
struct xml_node *xml_child(struct xml_node *parent, const char *name);
/* Append an element with its own namespace declaration: <prefix:name xmlns:prefix='uri'/>. */
struct xml_node *xml_add_ns(struct xml_node *parent, const char *prefix, const char *uri,
                            const char *name);
void xml_remove(struct xml_node *node);
/* A copy of BY, which may be of another document, takes the place of NODE, which is gone then. */
void xml_replace(struct xml_node *node, const struct xml_node *by);
/* Remove attributes of NODE that are in a namespace. No function above sees them, but who looks for
 * attributes by their names alone does, as libvirt. */
void xml_remove_foreign_attrs(struct xml_node *node);
/* The same of NODE and of what is below it, and elements below it that are in a namespace. */
void xml_remove_foreign(struct xml_node *node);
