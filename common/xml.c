/* SPDX-License-Identifier: Apache-2.0 */
#include <libxml/parser.h>
#include <libxml/xmlsave.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <string.h>

#include "common/error.h"
#include "common/xml.h"

#define XML_MAX ((size_t)16 << 20)
#define PARSE_OPTIONS                                                                              \
    (XML_PARSE_NONET | XML_PARSE_NOBLANKS | XML_PARSE_NOERROR | XML_PARSE_NOWARNING)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlParserCtxt, xmlFreeParserCtxt)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathContext, xmlXPathFreeContext)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlXPathObject, xmlXPathFreeObject)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlBuffer, xmlBufferFree)

/* struct xml and struct xml_node are libxml2's own document and node under names of ours, so there
 * is nothing to allocate and nothing to keep in step. */
static xmlDoc *doc_of(const struct xml *xml)
{
    return (xmlDoc *)xml;
}

static xmlNode *node_of(const struct xml_node *node)
{
    return (xmlNode *)node;
}

static struct xml_node *wrap(xmlNode *node)
{
    return (struct xml_node *)node;
}

static const xmlChar *chars(const char *text)
{
    return (const xmlChar *)text;
}

/* libxml2 prints to stderr and changes the document's encoding when it gets bytes that are no
 * UTF-8. */
static char *valid_text(const char *text)
{
    return g_utf8_make_valid(text, -1);
}

/* libxml2's string as one that g_free takes. */
static char *take_text(xmlChar *text)
{
    char *copy = g_strdup((char *)text);

    xmlFree(text);
    return copy;
}

/* Stops at the doctype itself, before any entity is declared: none of our documents has one, and
 * entities are how XML reads files and fills memories. */
static void refuse_doctype(void *context, const xmlChar *name, const xmlChar *external_id,
                           const xmlChar *system_id)
{
    xmlParserCtxt *parser = context;

    *(bool *)parser->_private = true;
    xmlStopParser(parser);
}

static bool fail_parse(xmlParserCtxt *parser, const char *what, GError **error)
{
    const xmlError *problem = xmlCtxtGetLastError(parser);
    g_autofree char *text = NULL;

    if (!problem)
        return fail(error, ERROR_INTEGRITY, "%s is not valid XML", what);
    text = g_strstrip(valid_text(problem->message ? problem->message : "malformed"));
    return fail(error, ERROR_INTEGRITY, "%s is not valid XML: line %d: %s", what, problem->line,
                text);
}

struct xml *xml_parse(const char *text, const char *what, GError **error)
{
    g_autoptr(xmlParserCtxt) parser = NULL;
    size_t len = strlen(text);
    bool doctype = false;
    xmlDoc *doc;

    if (len > XML_MAX) {
        fail(error, ERROR_INTEGRITY, "%s is larger than %zu bytes", what, XML_MAX);
        return NULL;
    }
    xmlInitParser();
    parser = xmlNewParserCtxt();
    if (!parser)
        g_error("libxml2 is out of memory");
    parser->_private = &doctype;
    parser->sax->internalSubset = refuse_doctype;
    doc = xmlCtxtReadMemory(parser, text, (int)len, NULL, NULL, PARSE_OPTIONS);
    if (doctype)
        fail(error, ERROR_INTEGRITY, "%s has a document type, which we do not read", what);
    else if (!doc)
        fail_parse(parser, what, error);
    if (doctype)
        g_clear_pointer(&doc, xmlFreeDoc);
    return (struct xml *)doc;
}

struct xml *xml_new(const char *root_name)
{
    xmlDoc *doc;

    xmlInitParser();
    doc = xmlNewDoc(chars("1.0"));
    xmlDocSetRootElement(doc, xmlNewDocNode(doc, NULL, chars(root_name), NULL));
    return (struct xml *)doc;
}

void xml_free(struct xml *xml)
{
    if (xml)
        xmlFreeDoc(doc_of(xml));
}

char *xml_dump(const struct xml *xml)
{
    g_autoptr(xmlBuffer) buffer = xmlBufferCreate();
    xmlSaveCtxt *save = xmlSaveToBuffer(buffer, "UTF-8", XML_SAVE_FORMAT | XML_SAVE_NO_DECL);

    xmlSaveDoc(save, doc_of(xml));
    xmlSaveClose(save);
    return g_strdup((const char *)xmlBufferContent(buffer));
}

struct xml_node *xml_root(const struct xml *xml)
{
    return wrap(xmlDocGetRootElement(doc_of(xml)));
}

static void ignore_error(void *data, xmlError *problem)
{
}

/* Prefixes in an expression mean what the document declares them to mean, wherever it does so. */
static void register_prefixes(xmlXPathContext *context, const xmlNode *node)
{
    if (node->type != XML_ELEMENT_NODE)
        return;
    for (const xmlNs *ns = node->nsDef; ns; ns = ns->next)
        if (ns->prefix)
            xmlXPathRegisterNs(context, ns->prefix, ns->href);
    for (const xmlNode *child = node->children; child; child = child->next)
        register_prefixes(context, child);
}

static void free_context(void *context)
{
    xmlXPathFreeContext(context);
}

/* Of this thread: to make one costs several times what an expression does. */
static xmlXPathContext *context_for(xmlNode *node)
{
    static GPrivate contexts = G_PRIVATE_INIT(free_context);
    xmlXPathContext *context = g_private_get(&contexts);

    if (!context) {
        context = xmlXPathNewContext(NULL);
        g_private_set(&contexts, context);
    }
    context->doc = node->doc;
    context->node = node;
    context->error = ignore_error;
    return context;
}

static xmlXPathObject *evaluate(const struct xml_node *from, const char *xpath)
{
    xmlNode *node = node_of(from);
    xmlXPathContext *context = context_for(node);
    bool has_prefixes = strchr(xpath, ':') != NULL;
    xmlXPathObject *result;

    if (has_prefixes)
        register_prefixes(context, xmlDocGetRootElement(node->doc));
    result = xmlXPathEval(chars(xpath), context);
    if (has_prefixes)
        xmlXPathRegisteredNsCleanup(context);
    context->doc = NULL;
    context->node = NULL;
    return result;
}

GPtrArray *xml_find_all(const struct xml_node *from, const char *xpath)
{
    g_autoptr(xmlXPathObject) result = evaluate(from, xpath);
    GPtrArray *found = g_ptr_array_new();

    if (!result || result->type != XPATH_NODESET || !result->nodesetval)
        return found;
    xmlXPathNodeSetSort(result->nodesetval);
    for (int i = 0; i < result->nodesetval->nodeNr; i++)
        if (result->nodesetval->nodeTab[i]->type == XML_ELEMENT_NODE)
            g_ptr_array_add(found, result->nodesetval->nodeTab[i]);
    return found;
}

struct xml_node *xml_find(const struct xml_node *from, const char *xpath)
{
    g_autoptr(GPtrArray) found = xml_find_all(from, xpath);

    return found->len ? found->pdata[0] : NULL;
}

char *xml_string(const struct xml_node *from, const char *xpath)
{
    g_autoptr(xmlXPathObject) result = evaluate(from, xpath);

    if (!result)
        return NULL;
    if (result->type != XPATH_NODESET)
        return take_text(xmlXPathCastToString(result));
    if (xmlXPathNodeSetIsEmpty(result->nodesetval))
        return NULL;
    xmlXPathNodeSetSort(result->nodesetval);
    return take_text(xmlXPathCastNodeToString(result->nodesetval->nodeTab[0]));
}

const char *xml_name(const struct xml_node *node)
{
    return (const char *)node_of(node)->name;
}

char *xml_attr(const struct xml_node *node, const char *name)
{
    return take_text(xmlGetNoNsProp(node_of(node), chars(name)));
}

void xml_set_attr(struct xml_node *node, const char *name, const char *value)
{
    g_autofree char *valid = value ? valid_text(value) : NULL;

    if (valid)
        xmlSetNsProp(node_of(node), NULL, chars(name), chars(valid));
    else
        xmlUnsetNsProp(node_of(node), NULL, chars(name));
}

void xml_set_text(struct xml_node *node, const char *text)
{
    g_autofree char *valid = valid_text(text);

    /* xmlNodeSetContent() would take the text for XML. */
    xmlNodeSetContent(node_of(node), NULL);
    xmlNodeAddContent(node_of(node), chars(valid));
}

struct xml_node *xml_add(struct xml_node *parent, const char *name, const char *text)
{
    g_autofree char *valid = text ? valid_text(text) : NULL;

    return wrap(xmlNewTextChild(node_of(parent), NULL, chars(name), chars(valid)));
}

struct xml_node *xml_child(struct xml_node *parent, const char *name)
{
    for (xmlNode *child = node_of(parent)->children; child; child = child->next)
        if (child->type == XML_ELEMENT_NODE && !child->ns && xmlStrEqual(child->name, chars(name)))
            return wrap(child);
    return xml_add(parent, name, NULL);
}

struct xml_node *xml_add_ns(struct xml_node *parent, const char *prefix, const char *uri,
                            const char *name)
{
    xmlNode *node = xmlNewDocNode(node_of(parent)->doc, NULL, chars(name), NULL);

    xmlSetNs(node, xmlNewNs(node, chars(uri), chars(prefix)));
    return wrap(xmlAddChild(node_of(parent), node));
}

void xml_remove(struct xml_node *node)
{
    xmlUnlinkNode(node_of(node));
    xmlFreeNode(node_of(node));
}

void xml_replace(struct xml_node *node, const struct xml_node *by)
{
    xmlNode *old = node_of(node);

    xmlReplaceNode(old, xmlDocCopyNode(node_of(by), old->doc, 1));
    xmlFreeNode(old);
}

void xml_remove_foreign_attrs(struct xml_node *node)
{
    xmlAttr *next;

    for (xmlAttr *attr = node_of(node)->properties; attr; attr = next) {
        next = attr->next;
        if (attr->ns)
            xmlRemoveProp(attr);
    }
}

void xml_remove_foreign(struct xml_node *node)
{
    xmlNode *next;

    xml_remove_foreign_attrs(node);
    for (xmlNode *child = node_of(node)->children; child; child = next) {
        next = child->next;
        if (child->type != XML_ELEMENT_NODE)
            continue;
        if (child->ns)
            xml_remove(wrap(child));
        else
            xml_remove_foreign(wrap(child));
    }
}
