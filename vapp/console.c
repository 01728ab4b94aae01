/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest prints on its serial console. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "vapp/probe.h"

#define LINE_MAX_BYTES 4096
#define CHUNK_BYTES (64 * 1024)
#define SHOWN_CHARACTERS 120

/* The device that is read: the first serial port, or else the first console, which may be virtio. */
#define DEVICE "(devices/serial | devices/console[not(../serial)])[1]"

/* Where it can be read, as the definition says. */
struct place {
    char *file;     /* or NULL */
    bool appended;  /* the file has earlier starts in it */
    bool is_stream; /* libvirt hands it out */
};

struct console {
    char *path; /* of the file; NULL: the stream is read */
    int fd;
    struct domain_console *stream;
    GString *line; /* what has come since the last line feed */
    char *last;    /* the last line that was not empty */
};

void console_free(struct console *console)
{
    if (!console)
        return;
    if (console->fd >= 0)
        close(console->fd);
    domain_console_free(console->stream);
    g_string_free(console->line, TRUE);
    g_free(console->path);
    g_free(console->last);
    g_free(console);
}
DEFINE_CLEANUP(console)

/* ---- Where it is */

static void place_clear(struct place *place)
{
    g_free(place->file);
}
#define AUTO_PLACE __attribute__((cleanup(place_clear))) struct place

static const char *place_find(const struct xml_node *definition, struct place *place)
{
    const struct xml_node *device = xml_find(definition, DEVICE);
    g_autofree char *type = NULL;
    g_autofree char *append = NULL;

    if (!device)
        return "it has no serial console (<serial type='pty'/> in its definition)";
    type = xml_attr(device, "type");
    place->is_stream = g_strcmp0(type, "pty") == 0;
    if (g_strcmp0(type, "file") == 0) {
        place->file = xml_string(device, "source/@path");
        append = xml_string(device, "source/@append");
    } else {
        place->file = xml_string(device, "log/@file");
        append = xml_string(device, "log/@append");
    }
    place->appended = g_strcmp0(append, "on") == 0;
    if (place->file || place->is_stream)
        return NULL;
    return "its serial console cannot be read: it is no pty and has no <log file='...'/>";
}

const char *console_problem(const struct xml_node *definition)
{
    AUTO_PLACE place = {0};

    return place_find(definition, &place);
}

static bool domain_place(struct domain *domain, struct place *place, GError **error)
{
    g_autofree char *text = domain_xml(domain, DOMAIN_XML_LIVE, error);
    AUTO(xml) xml = text ? xml_parse(text, domain_name(domain), error) : NULL;
    const char *problem;

    if (!xml)
        return false;
    problem = place_find(xml_root(xml), place);
    if (problem)
        return fail(error, ERROR_CONFIG, "%s", problem);
    if (place->file && !host_is_local(domain_host(domain)))
        g_clear_pointer(&place->file, g_free);
    return place->file || place->is_stream ||
           fail(error, ERROR_CONFIG, "its console is logged on another machine and is no pty");
}

/* The definition names the file, and it may be any: only a regular one is read, and nothing that it
 * may be makes us wait. */
static int file_open(const char *path, GError **error)
{
    AUTO_FD fd = open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
    struct stat st;

    if (fd < 0) {
        fail_errno(error, errno, "cannot read its console's log %s", path);
        return -1;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        fail(error, ERROR_CONFIG, "its console's log %s is not a regular file", path);
        return -1;
    }
    return fd_steal(&fd);
}

uint64_t console_log_size(struct domain *domain)
{
    AUTO_PLACE place = {0};
    struct stat st;

    if (!domain_place(domain, &place, NULL) || !place.file || lstat(place.file, &st) < 0)
        return 0;
    return (uint64_t)st.st_size;
}

/* Only a file that is appended to has at OFFSET what it had there before the start. */
static bool open_file(struct console *console, const struct place *place, uint64_t offset,
                      GError **error)
{
    console->fd = file_open(place->file, error);
    if (console->fd < 0)
        return false;
    console->path = g_strdup(place->file);
    return !place->appended || lseek(console->fd, (off_t)offset, SEEK_SET) >= 0 ||
           fail_errno(error, errno, "cannot read its console's log %s", place->file);
}

struct console *console_open(struct domain *domain, uint64_t offset, GError **error)
{
    AUTO(console) console = g_new0(struct console, 1);
    AUTO_PLACE place = {0};
    g_autoptr(GError) problem = NULL;

    console->fd = -1;
    console->line = g_string_new(NULL);
    if (!domain_place(domain, &place, error))
        return NULL;
    if (place.file && open_file(console, &place, offset, &problem))
        return g_steal_pointer(&console);
    /* The log may be another user's; libvirt may hand out the console all the same. */
    if (!place.is_stream) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    console->stream = domain_console_open(domain, error);
    return console->stream ? g_steal_pointer(&console) : NULL;
}

/* ---- Reading it */

/* virtlogd begins a new file when one is full: has it? Then that one is read from its start. */
static bool next_file(struct console *console)
{
    struct stat ours;
    struct stat there;
    int fd;

    if (fstat(console->fd, &ours) < 0 || lstat(console->path, &there) < 0 ||
        (ours.st_ino == there.st_ino && ours.st_dev == there.st_dev))
        return false;
    fd = file_open(console->path, NULL);
    if (fd < 0)
        return false;
    close(console->fd);
    console->fd = fd;
    return true;
}

static bool read_some(struct console *console, char *data, size_t size, size_t *len, GError **error)
{
    ssize_t got;

    if (console->stream)
        return domain_console_read(console->stream, data, size, len, error);
    do
        got = read(console->fd, data, size);
    while (got == 0 && next_file(console));
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        return fail_errno(error, errno, "cannot read its console's log %s", console->path);
    *len = (size_t)MAX(got, 0);
    return true;
}

/* LINE as it can be shown; NULL when nothing of it can be seen. g_free. */
static char *shown(const GString *line)
{
    g_autofree char *valid = g_utf8_make_valid(line->str, (gssize)line->len);

    for (char *c = valid; *c; c++)
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    g_strstrip(valid);
    return *valid ? g_utf8_substring(valid, 0, MIN(g_utf8_strlen(valid, -1), SHOWN_CHARACTERS))
                  : NULL;
}

/* The line so far: a prompt has no line feed behind it. */
static bool line_matches(struct console *console, const GRegex *regex)
{
    char *text = shown(console->line);

    if (text) {
        g_free(console->last);
        console->last = text;
    }
    return g_regex_match_full(regex, console->line->str, (gssize)console->line->len, 0, 0, NULL,
                              NULL);
}

static bool take(struct console *console, const GRegex *regex, const char *data, size_t len)
{
    while (len > 0) {
        const char *feed = memchr(data, '\n', len);
        size_t part = MIN(feed ? (size_t)(feed - data) : len, LINE_MAX_BYTES - console->line->len);
        bool ends = feed == data + part;

        g_string_append_len(console->line, data, (gssize)part);
        if (ends && console->line->len > 0 && console->line->str[console->line->len - 1] == '\r')
            g_string_truncate(console->line, console->line->len - 1);
        if ((ends || part == len || console->line->len == LINE_MAX_BYTES) &&
            line_matches(console, regex))
            return true;
        if (ends || console->line->len == LINE_MAX_BYTES)
            g_string_truncate(console->line, 0);
        data += part + ends;
        len -= part + ends;
    }
    return false;
}

bool console_match(struct console *console, const GRegex *regex, int64_t deadline_ms,
                   GError **error)
{
    g_autofree char *chunk = g_malloc(CHUNK_BYTES);
    size_t len = 0;

    do {
        if (!read_some(console, chunk, CHUNK_BYTES, &len, error))
            return false;
        if (take(console, regex, chunk, len))
            return true;
    } while (len > 0 && time_monotonic_ms() < deadline_ms && interrupt_check(NULL));
    if (console->last)
        return fail(error, ERROR_HYPERVISOR, "it printed: %s", console->last);
    return fail(error, ERROR_HYPERVISOR, "it has printed nothing%s",
                console->stream ? " since drctl listens; what came before is not known, as its "
                                  "serial console has no <log file='...'/>"
                                : "");
}
