/* SPDX-License-Identifier: Apache-2.0 */
#include "drctl/ask.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "drctl/output.h"

/* Of a list: with the questions around it, it fits on 24 lines. */
#define ROWS_MAX 15u

bool can_ask(void)
{
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
}

static bool is_leaving(const char *answer)
{
    return g_str_equal(answer, "q") || g_str_equal(answer, "Q") || g_str_equal(answer, "quit");
}

/* One line that was typed, stripped; g_free. */
static char *read_answer(GError **error)
{
    g_autofree char *line = NULL;
    size_t room = 0;

    fflush(stdout);
    if (!interrupt_check(NULL) || getline(&line, &room, stdin) < 0) {
        /* The cursor stands behind the question, or behind the ^C. */
        fputc('\n', stderr);
        fail(error, ERROR_CANCELLED, "left: nothing was changed");
        return NULL;
    }
    g_strstrip(line);
    if (!is_leaving(line))
        return g_steal_pointer(&line);
    fail(error, ERROR_CANCELLED, "left: nothing was changed");
    return NULL;
}

char *ask_text(const char *question, const char *preset, GError **error)
{
    for (;;) {
        char *answer;

        if (preset)
            fprintf(stderr, "%s [%s], q to leave: ", question, preset);
        else
            fprintf(stderr, "%s, q to leave: ", question);
        answer = read_answer(error);
        if (!answer || *answer)
            return answer;
        g_free(answer);
        if (preset)
            return g_strdup(preset);
    }
}

bool ask_yes(const char *question, bool preset, bool *yes, GError **error)
{
    g_autofree char *answer = NULL;

    do {
        g_free(answer);
        answer = ask_text(question, preset ? "yes" : "no", error);
        if (!answer)
            return false;
        *yes = g_ascii_strcasecmp(answer, "yes") == 0 || g_ascii_strcasecmp(answer, "y") == 0;
    } while (!*yes && g_ascii_strcasecmp(answer, "no") != 0 &&
             g_ascii_strcasecmp(answer, "n") != 0);
    return true;
}

/* --- menus ----------------------------------------------------------------------------------- */

struct menu {
    char **headers; /* with that of the numbers in front */
    unsigned columns;
    GPtrArray *rows; /* of char ** */
    char *part;      /* of names: others are left out; NULL: of none */
};

struct menu *menu_new(const char *const *headers)
{
    struct menu *menu = g_new0(struct menu, 1);
    g_autoptr(GStrvBuilder) all = g_strv_builder_new();

    g_strv_builder_add(all, ">#");
    g_strv_builder_addv(all, (const char **)headers);
    menu->headers = g_strv_builder_end(all);
    menu->columns = g_strv_length(menu->headers) - 1;
    menu->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
    return menu;
}

void menu_free(struct menu *menu)
{
    if (!menu)
        return;
    g_strfreev(menu->headers);
    g_ptr_array_unref(menu->rows);
    g_free(menu->part);
    g_free(menu);
}

void menu_add(struct menu *menu, const char *const *cells)
{
    char **row = g_new0(char *, menu->columns + 1);

    for (unsigned i = 0; i < menu->columns; i++)
        row[i] = g_strdup(cells[i] ? cells[i] : "-");
    g_ptr_array_add(menu->rows, row);
}

static const char *name_of(const struct menu *menu, unsigned i)
{
    return ((char **)menu->rows->pdata[i])[0];
}

static bool is_shown(const struct menu *menu, unsigned i)
{
    return !menu->part || strstr(name_of(menu, i), menu->part);
}

/* How many match; *FIRST is the first of them. */
static unsigned count_shown(const struct menu *menu, unsigned *first)
{
    unsigned count = 0;

    for (unsigned i = menu->rows->len; i-- > 0;)
        if (is_shown(menu, i)) {
            *first = i;
            count++;
        }
    return count;
}

static void add_row(const struct menu *menu, unsigned i, struct table *table)
{
    g_autofree char *number = g_strdup_printf("%u", i + 1);
    g_autofree const char **cells = g_new0(const char *, menu->columns + 1);

    cells[0] = number;
    memcpy(cells + 1, menu->rows->pdata[i], menu->columns * sizeof(*cells));
    table_row(table, cells);
}

static void print_menu(const struct menu *menu)
{
    AUTO(table) table = table_new((const char *const *)menu->headers);
    unsigned first, shown = 0, all = count_shown(menu, &first);

    for (unsigned i = 0; i < menu->rows->len && shown < ROWS_MAX; i++)
        if (is_shown(menu, i)) {
            add_row(menu, i, table);
            shown++;
        }
    putchar('\n');
    table_print(table);
    if (shown < all)
        printf("... and %u more: a part of the name shows those that have it\n", all - shown);
    putchar('\n');
}

/* Is it a number of the list, or a whole name that is there once? */
static bool find_choice(const struct menu *menu, const char *answer, unsigned *chosen)
{
    unsigned count = 0;
    uint64_t number;

    for (unsigned i = 0; i < menu->rows->len; i++)
        if (g_str_equal(name_of(menu, i), answer)) {
            *chosen = i;
            count++;
        }
    if (count > 0)
        return count == 1;
    if (!g_ascii_string_to_unsigned(answer, 10, 1, menu->rows->len, &number, NULL))
        return false;
    *chosen = (unsigned)number - 1;
    return true;
}

/* Only those from now on whose names have PART; all again when there are none. */
static void narrow(struct menu *menu, const char *part)
{
    unsigned first;

    g_free(menu->part);
    menu->part = g_strdup(part);
    if (count_shown(menu, &first) > 0)
        return;
    fprintf(stderr, "There is no \"%s\" in this list.\n", part);
    g_clear_pointer(&menu->part, g_free);
}

bool menu_ask(struct menu *menu, const char *question, unsigned *chosen, GError **error)
{
    for (;;) {
        unsigned first = 0;
        g_autofree char *preset = NULL;
        g_autofree char *answer = NULL;

        count_shown(menu, &first);
        print_menu(menu);
        preset = g_strdup_printf("%u", first + 1);
        answer = ask_text(question, preset, error);
        if (!answer)
            return false;
        if (find_choice(menu, answer, chosen))
            return true;
        narrow(menu, answer);
    }
}
