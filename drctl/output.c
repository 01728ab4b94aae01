/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/output.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* --- tables ---------------------------------------------------------------------------------- */

struct table {
    unsigned columns;
    const char *const *headers;
    GPtrArray *rows; /* of char ** */
};

struct table *table_new(const char *const *headers)
{
    struct table *table = g_new0(struct table, 1);

    table->columns = g_strv_length((char **)headers);
    table->headers = headers;
    table->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    return table;
}

void table_row(struct table *table, const char *const *cells)
{
    char **row = g_new0(char *, table->columns + 1);

    for (unsigned i = 0; i < table->columns; i++)
        row[i] = g_strdup(cells[i] ? cells[i] : "-");
    g_ptr_array_add(table->rows, row);
}

static bool is_right(const char *header)
{
    return header[0] == '>';
}

static int column_width(const struct table *table, unsigned column)
{
    const char *header = table->headers[column];
    glong width = g_utf8_strlen(header + is_right(header), -1);

    for (unsigned i = 0; i < table->rows->len; i++) {
        char **row = table->rows->pdata[i];

        width = MAX(width, g_utf8_strlen(row[column], -1));
    }
    return (int)width;
}

static void append_cell(GString *line, const char *text, int width, bool right)
{
    int pad = width - (int)g_utf8_strlen(text, -1);

    g_string_append_printf(line, "%*s%s%*s  ", right ? pad : 0, "", text, right ? 0 : pad, "");
}

void table_print(const struct table *table)
{
    g_autofree int *widths = g_new0(int, table->columns);

    for (unsigned c = 0; c < table->columns; c++)
        widths[c] = column_width(table, c);
    for (unsigned r = 0; r <= table->rows->len; r++) {
        char **row = r ? table->rows->pdata[r - 1] : NULL;
        g_autoptr(GString) line = g_string_new(NULL);

        for (unsigned c = 0; c < table->columns; c++) {
            const char *header = table->headers[c];

            append_cell(line, row ? row[c] : header + is_right(header), widths[c],
                        is_right(header));
        }
        puts(g_strchomp(line->str)); /* no line ends in spaces */
    }
}

void table_free(struct table *table)
{
    if (!table)
        return;
    g_ptr_array_unref(table->rows);
    g_free(table);
}

/* --- JSON ------------------------------------------------------------------------------------ */

void print_json(const json_t *json)
{
    g_autofree char *text = json_text(json, 2);

    fputs(text, stdout);
}

void print_json_line(const json_t *json)
{
    g_autofree char *text = json_text(json, 0);

    puts(text);
    fflush(stdout);
}

/* --- values ---------------------------------------------------------------------------------- */

char *seconds_text(const json_t *object, const char *key)
{
    const json_t *seconds = json_object_get(object, key);

    return json_is_number(seconds) ? duration_format(json_number_value(seconds)) : NULL;
}

char *time_text(const json_t *object, const char *key)
{
    const char *text = json_get_string(object, key);
    int64_t ms;

    return text && time_parse(text, &ms, NULL) ? time_format_local(ms) : NULL;
}

/* --- lines ----------------------------------------------------------------------------------- */

static glong width_of(int fd)
{
    struct winsize size;

    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

void print_wrapped(const char *lead, const char *format, ...)
{
    glong indent = g_utf8_strlen(lead, -1), at = indent;
    glong width = isatty(STDOUT_FILENO) ? width_of(STDOUT_FILENO) : G_MAXLONG;
    g_autofree char *text = NULL;
    g_auto(GStrv) words = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    words = g_strsplit(text, " ", -1);
    fputs(lead, stdout);
    for (char **word = words; *word; word++) {
        glong length = g_utf8_strlen(*word, -1);

        /* The last column stays free: some terminals go on to the next line by themselves. */
        if (at > indent && at + 1 + length >= width) {
            printf("\n%*s", (int)indent, "");
            at = indent;
        } else if (word != words) {
            putchar(' ');
            at++;
        }
        fputs(*word, stdout);
        at += length;
    }
    putchar('\n');
}

/* --- questions ------------------------------------------------------------------------------- */

bool confirm(const char *question, const char *expected, const char *instead, GError **error)
{
    char answer[256];

    if (!isatty(STDIN_FILENO))
        return fail(error, ERROR_USAGE,
                    "this must be confirmed: say so with %s, or run it in a terminal", instead);
    fprintf(stderr, "%s ", question);
    if (!fgets(answer, sizeof answer, stdin)) {
        /* The cursor stands behind the question, or behind the ^C. */
        fputc('\n', stderr);
        return fail(error, ERROR_CANCELLED, "not confirmed, nothing was changed");
    }
    if (!g_str_equal(g_strstrip(answer), expected))
        return fail(error, ERROR_CANCELLED, "not confirmed, nothing was changed");
    return true;
}

/* --- progress -------------------------------------------------------------------------------- */

#define REDRAW_MS 200

struct terminal_progress {
    struct progress progress; /* first */
    GMutex lock;
    bool draws; /* stderr is a terminal */
    bool quiet;
    bool line_open;
    char *subject;
    int64_t subject_since_ms, drawn_ms;
    char *status; /* or NULL */
};

static void clear_line(struct terminal_progress *terminal)
{
    if (terminal->line_open)
        fputs("\r\033[K", stderr);
    terminal->line_open = false;
}

/* A line that is longer than the terminal could not be cleared again. */
static void draw_status(struct terminal_progress *terminal)
{
    glong length = terminal->status ? g_utf8_strlen(terminal->status, -1) : 0;
    g_autofree char *part = NULL;

    if (!length || !terminal->draws)
        return;
    part = g_utf8_substring(terminal->status, 0, MIN(length, width_of(STDERR_FILENO) - 1));
    fprintf(stderr, "\r\033[K%s", part);
    fflush(stderr);
    terminal->line_open = true;
}

static void on_note(struct progress *progress, const char *text)
{
    struct terminal_progress *terminal = (struct terminal_progress *)progress;

    g_mutex_lock(&terminal->lock);
    clear_line(terminal);
    if (!terminal->quiet)
        fprintf(stderr, "%s\n", text);
    draw_status(terminal);
    g_mutex_unlock(&terminal->lock);
}

void progress_terminal_status(struct progress *progress, const char *text)
{
    struct terminal_progress *terminal = (struct terminal_progress *)progress;

    g_mutex_lock(&terminal->lock);
    g_free(terminal->status);
    terminal->status = g_strdup(text);
    clear_line(terminal);
    draw_status(terminal);
    g_mutex_unlock(&terminal->lock);
}

static void draw(struct terminal_progress *terminal, uint64_t done, uint64_t total, int64_t now)
{
    double seconds = (double)(now - terminal->subject_since_ms) / 1000;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    g_autofree char *rate_text = bytes_format((uint64_t)rate);
    g_autofree char *done_text = bytes_format(done);
    g_autofree char *total_text = bytes_format(total);
    g_autofree char *left =
        rate > 0 && total > done ? duration_format((double)(total - done) / rate) : NULL;

    fprintf(stderr, "\r\033[K%s  %s of %s  %3.0f %%  %s/s%s%s", terminal->subject, done_text,
            total_text, total ? 100.0 * (double)done / (double)total : 0, rate_text,
            left ? "  left: " : "", left ? left : "");
    fflush(stderr);
    terminal->line_open = true;
    terminal->drawn_ms = now;
}

static void on_bytes(struct progress *progress, const char *subject, uint64_t done, uint64_t total)
{
    struct terminal_progress *terminal = (struct terminal_progress *)progress;
    int64_t now = time_monotonic_ms();

    if (!terminal->draws)
        return;
    g_mutex_lock(&terminal->lock);
    if (g_strcmp0(terminal->subject, subject) != 0) {
        g_free(terminal->subject);
        terminal->subject = g_strdup(subject);
        terminal->subject_since_ms = now;
    }
    if (now - terminal->drawn_ms >= REDRAW_MS)
        draw(terminal, done, total, now);
    g_mutex_unlock(&terminal->lock);
}

/* One that cannot go back in a line. */
static bool is_dumb(void)
{
    const char *term = g_getenv("TERM");

    return !term || !*term || g_str_equal(term, "dumb");
}

struct progress *progress_terminal_new(bool quiet)
{
    struct terminal_progress *terminal = g_new0(struct terminal_progress, 1);

    terminal->progress = (struct progress){.note = on_note, .bytes = on_bytes};
    terminal->quiet = quiet;
    terminal->draws = !quiet && isatty(STDERR_FILENO) && !is_dumb();
    g_mutex_init(&terminal->lock);
    return &terminal->progress;
}

void progress_terminal_end(struct progress *progress)
{
    struct terminal_progress *terminal = (struct terminal_progress *)progress;

    g_mutex_lock(&terminal->lock);
    g_clear_pointer(&terminal->status, g_free);
    clear_line(terminal);
    g_mutex_unlock(&terminal->lock);
}

void progress_terminal_free(struct progress *progress)
{
    struct terminal_progress *terminal = (struct terminal_progress *)progress;

    if (!terminal)
        return;
    g_mutex_clear(&terminal->lock);
    g_free(terminal->subject);
    g_free(terminal->status);
    g_free(terminal);
}

char *rpo_text(const json_t *json)
{
    const char *state = json_get_string(json, "rpo_state");
    g_autofree char *target = seconds_text(json, "rpo_seconds");

    return state ? g_strdup_printf("%s %s", target, state) : NULL;
}

char *shell_word(const char *text)
{
    return *text && !text[strspn(text,
                                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                 "._-/:@,+=%")]
               ? g_strdup(text)
               : g_shell_quote(text);
}

char *shell_line(char *const *words)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_auto(GStrv) quoted = NULL;

    for (; *words; words++) {
        g_autofree char *word = shell_word(*words);

        g_strv_builder_add(builder, word);
    }
    quoted = g_strv_builder_end(builder);
    return g_strjoinv(" ", quoted);
}
