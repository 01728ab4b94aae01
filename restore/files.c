/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single files of a disk, by debugfs, which reads ext2, ext3 and ext4 without mounting them. The file system is a
 * guest's, so what it says is only data: names become names here if they are harmless, nothing is written through
 * a link, and only plain files and directories are made.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "restore/look.h"

#define MAX_ENTRIES 1000000u
#define MAX_DEPTH 64u
/* Of what a command of debugfs prints: MAX_ENTRIES of some length. A directory of a guest can be endless. */
#define MAX_OUTPUT_BYTES ((size_t)256 << 20)

struct looking {
    const struct site *site;
    const struct files_request *request;
    struct files_result *result;
    struct disk_view *view;
    uint64_t offset; /* of the file system */
    char *device;    /* as debugfs wants it */
};

static void system_free(void *data)
{
    struct file_system *system = data;

    g_free(system->type);
    g_free(system);
}

static void entry_free(void *data)
{
    struct file_entry *entry = data;

    g_free(entry->path);
    g_free(entry->copy);
    g_free(entry);
}

void files_result_clear(struct files_result *result)
{
    g_clear_pointer(&result->vm, g_free);
    g_clear_pointer(&result->point, g_free);
    g_clear_pointer(&result->systems, g_ptr_array_unref);
    g_clear_pointer(&result->entries, g_ptr_array_unref);
}

/* ---- File systems */

/* NULL: none that blkid knows, which ends with 2 then. g_free */
static char *type_at(const struct disk_view *view, uint64_t offset)
{
    g_autofree char *at = g_strdup_printf("%" PRIu64, offset);
    const char *const argv[] = {
        "blkid", "-p", "-O", at, "-s", "TYPE", "-o", "value", disk_view_path(view), NULL};
    g_autofree char *type = NULL;

    return disk_view_run(view, argv, &type, NULL) && *g_strstrip(type) ? g_steal_pointer(&type)
                                                                       : NULL;
}

static void add_system(struct looking *self, unsigned partition, uint64_t offset, uint64_t bytes)
{
    struct file_system *system = g_new0(struct file_system, 1);

    system->partition = partition;
    system->offset = offset;
    system->bytes = bytes;
    system->type = type_at(self->view, offset);
    g_ptr_array_add(self->result->systems, system);
}

/* "NR START SECTORS", in sectors of 512 bytes. */
static void add_partition(struct looking *self, const char *line)
{
    uint64_t values[3];
    g_auto(GStrv) words = g_strsplit(line, " ", -1);

    if (g_strv_length(words) != 3)
        return;
    for (unsigned i = 0; i < 3; i++)
        if (!g_ascii_string_to_unsigned(words[i], 10, 0, INT64_MAX >> 9, &values[i], NULL))
            return;
    add_system(self, (unsigned)values[0], values[1] << 9, values[2] << 9);
}

/* A disk without a table of partitions is one file system, or nothing that we know. */
static bool find_systems(struct looking *self, const struct origin_disk *disk, GError **error)
{
    const char *const argv[] = {
        "partx", "-g", "-r", "-o", "NR,START,SECTORS", disk_view_path(self->view), NULL};
    const char *const version[] = {"blkid", "-V", NULL};
    g_autofree char *whole = NULL;
    g_autofree char *output = NULL;
    g_auto(GStrv) lines = NULL;

    /* Is it there at all? */
    if (!disk_view_run(self->view, version, NULL, error))
        return false;
    whole = type_at(self->view, 0);
    if (!whole && disk_view_run(self->view, argv, &output, NULL)) {
        lines = g_strsplit(output, "\n", -1);
        for (char **line = lines; *line; line++)
            add_partition(self, *line);
    }
    if (self->result->systems->len == 0)
        add_system(self, 0, 0, disk->virtual_bytes);
    return true;
}

static bool is_ext(const struct file_system *system)
{
    return system->type && g_str_has_prefix(system->type, "ext");
}

static char *systems_text(const struct looking *self)
{
    GString *text = g_string_new(NULL);

    for (unsigned i = 0; i < self->result->systems->len; i++) {
        const struct file_system *system = self->result->systems->pdata[i];

        g_string_append_printf(text, "%s%u (%s)", i ? ", " : "", system->partition,
                               system->type ? system->type : "unknown");
    }
    return g_string_free(text, FALSE);
}

static const struct file_system *choose_system(const struct looking *self, GError **error)
{
    const struct file_system *found = NULL;
    g_autofree char *all = systems_text(self);
    unsigned count = 0;

    for (unsigned i = 0; i < self->result->systems->len; i++) {
        const struct file_system *system = self->result->systems->pdata[i];
        bool wanted = self->request->has_partition ? system->partition == self->request->partition
                                                   : is_ext(system);

        if (!wanted)
            continue;
        found = system;
        count++;
    }
    if (count == 1 && is_ext(found))
        return found;
    if (count > 1)
        fail(error, ERROR_USAGE, "several partitions have files: say which, by --partition: %s",
             all);
    else if (self->request->has_partition && !found)
        fail(error, ERROR_NOT_FOUND, "there is no partition %u; there are: %s",
             self->request->partition, all);
    else
        fail(error, ERROR_FAILED,
             "no file system of ext2, ext3 or ext4 is there, and only these can be read here "
             "(partitions: %s): mount it from what `drctl mount` offers",
             all);
    return NULL;
}

/* ---- debugfs */

/* As debugfs takes it apart; NULL: it cannot be said. g_free */
static char *quote(const char *path)
{
    g_autoptr(GString) text = g_string_new(path);

    if (strpbrk(path, "\n\r") || strlen(path) > 4000)
        return NULL;
    g_string_replace(text, "\"", "\"\"", 0);
    return g_strdup_printf("\"%s\"", text->str);
}

/* Beside what it is and of which version. */
static bool take_complaint(void *context, const char *line, GError **error)
{
    char **complaint = context;

    if (!*complaint && !g_str_has_prefix(line, "debugfs "))
        *complaint = g_strdup(line);
    return true;
}

/* It ends as if all were well whatever is wrong, and says that to stderr: *COMPLAINT, NULL if nothing is; g_free,
 * as *OUTPUT. */
static bool ask(const struct looking *self, const char *command, char **output, char **complaint,
                GError **error)
{
    const char *const argv[] = {"debugfs", "-R", command, self->device, NULL};
    g_autofree char *said = NULL;
    struct process_watch watch = {MAX_OUTPUT_BYTES, take_complaint, NULL, &said};
    int status;

    if (!disk_view_watch(self->view, argv, &watch, output, &status, error))
        return false;
    *complaint = g_steal_pointer(&said);
    return status == 0 || fail(error, ERROR_FAILED, "debugfs: exit status %d%s%s", status,
                               *complaint ? ": " : "", *complaint ? *complaint : "");
}

/* What is damaged is told, and all else goes on. */
static void miss(struct looking *self, const char *path, const char *why)
{
    self->result->missed++;
    progress_note(self->site->progress, "%s is not whole: %s", path, why);
}

static struct file_entry *add_entry(struct looking *self, const char *path, uint64_t inode,
                                    enum file_kind kind, uint64_t bytes, GError **error)
{
    struct file_entry *entry;

    if (self->result->entries->len >= MAX_ENTRIES) {
        fail(error, ERROR_FAILED, "there are more than %u files: ask for fewer at once",
             MAX_ENTRIES);
        return NULL;
    }
    entry = g_new0(struct file_entry, 1);
    entry->path = g_strdup(path);
    entry->inode = inode;
    entry->kind = kind;
    entry->bytes = bytes;
    g_ptr_array_add(self->result->entries, entry);
    return entry;
}

static enum file_kind kind_of_mode(unsigned mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return FILE_PLAIN;
    case S_IFDIR:
        return FILE_DIR;
    case S_IFLNK:
        return FILE_LINK;
    default:
        return FILE_OTHER;
    }
}

/* What is at PATH: "Inode: 12   Type: regular    Mode:  0644   Flags: 0x80000" and, later on, "Size: 12". */
static bool look_up(const struct looking *self, const char *path, struct file_entry *entry,
                    GError **error)
{
    static const struct {
        const char *word;
        enum file_kind kind;
    } kinds[] = {{"regular", FILE_PLAIN}, {"directory", FILE_DIR}, {"symlink", FILE_LINK}};
    g_autofree char *quoted = quote(path);
    g_autofree char *command = quoted ? g_strconcat("stat ", quoted, NULL) : NULL;
    g_autofree char *output = NULL;
    g_autofree char *complaint = NULL;
    g_autoptr(GMatchInfo) match = NULL;
    g_autoptr(GRegex) regex =
        g_regex_new("^Inode: ([0-9]+) +Type: ([a-z]+).*?^User:.*?Size: ([0-9]+)",
                    G_REGEX_MULTILINE | G_REGEX_DOTALL | G_REGEX_RAW, 0, NULL);

    if (!command)
        return fail(error, ERROR_USAGE, "%s: such a name cannot be looked up", path);
    if (!ask(self, command, &output, &complaint, error))
        return false;
    if (!g_regex_match(regex, output, 0, &match))
        return !complaint || strstr(complaint, "not found")
                   ? fail(error, ERROR_NOT_FOUND, "there is no %s in the point", path)
                   : fail(error, ERROR_INTEGRITY, "%s cannot be read: %s", path, complaint);
    g_autofree char *inode = g_match_info_fetch(match, 1);
    g_autofree char *type = g_match_info_fetch(match, 2);
    g_autofree char *size = g_match_info_fetch(match, 3);

    entry->inode = g_ascii_strtoull(inode, NULL, 10);
    entry->bytes = g_ascii_strtoull(size, NULL, 10);
    entry->kind = FILE_OTHER;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (strcmp(type, kinds[i].word) == 0)
            entry->kind = kinds[i].kind;
    return true;
}

/* One line of `ls -p`: "/inode/mode/uid/gid/name/size/". Directories have no size. *ODD: it is none, as where a name
 * has a line break. */
static bool take_line(struct looking *self, const char *line, const char *above, bool *odd,
                      GError **error)
{
    g_auto(GStrv) words = g_strsplit(line, "/", -1);
    g_autofree char *path = NULL;
    uint64_t inode;
    unsigned mode;

    if (g_strv_length(words) != 8 ||
        !g_ascii_string_to_unsigned(words[1], 10, 1, UINT32_MAX, &inode, NULL)) {
        *odd = *odd || *line;
        return true;
    }
    if (!*words[5] || strcmp(words[5], ".") == 0 || strcmp(words[5], "..") == 0)
        return true;
    mode = (unsigned)g_ascii_strtoull(words[2], NULL, 8);
    path = g_strcmp0(above, "/") == 0 ? g_strconcat("/", words[5], NULL)
                                      : g_strconcat(above, "/", words[5], NULL);
    return add_entry(self, path, inode, kind_of_mode(mode), g_ascii_strtoull(words[6], NULL, 10),
                     error) != NULL;
}

/* By its inode, which no name can change. */
static bool list_dir(struct looking *self, uint64_t inode, const char *path, GError **error)
{
    g_autofree char *command = g_strdup_printf("ls -p <%" PRIu64 ">", inode);
    g_autofree char *output = NULL;
    g_autofree char *complaint = NULL;
    g_auto(GStrv) lines = NULL;
    bool odd = false;

    if (!interrupt_check(error) || !ask(self, command, &output, &complaint, error))
        return false;
    lines = g_strsplit(output, "\n", -1);
    for (char **line = lines; *line; line++)
        if (!take_line(self, *line, path, &odd, error))
            return false;
    if (complaint || odd)
        miss(self, path, complaint ? complaint : "there are names that cannot be used here");
    return true;
}

/* ---- Copying */

/* Is NAME one that can be made here? */
static bool is_harmless(const char *name)
{
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/') &&
           strlen(name) <= 255;
}

/* Into TEMP; *WHOLE: it is. Holes become zeros, so what a guest calls a file can be larger than any disk. */
static bool dump_file(struct looking *self, const struct file_entry *entry, const char *temp,
                      bool *whole, GError **error)
{
    g_autofree char *quoted = quote(temp);
    g_autofree char *command = g_strdup_printf("dump <%" PRIu64 "> %s", entry->inode, quoted);
    g_autofree char *output = NULL;
    g_autofree char *complaint = NULL;
    struct stat status;

    if (!tree_remove(temp, error) ||
        !look_check_room(disk_view_dir(self->view), entry->bytes, entry->path, error) ||
        !ask(self, command, &output, &complaint, error))
        return false;
    *whole = !complaint && stat(temp, &status) == 0 && (uint64_t)status.st_size == entry->bytes;
    if (!*whole)
        miss(self, entry->path, complaint ? complaint : "its file system is damaged");
    return true;
}

/* Below DIR, which is ours, nothing was there before. */
static bool copy_file(struct looking *self, struct file_entry *entry, const char *dir,
                      GError **error)
{
    g_autofree char *name = g_path_get_basename(entry->path);
    g_autofree char *temp = g_build_filename(disk_view_dir(self->view), "file", NULL);
    g_autofree char *to = g_build_filename(dir, name, NULL);
    bool whole;

    if (!is_harmless(name))
        return fail(error, ERROR_INTEGRITY, "a file has a name that cannot be used here");
    if (!interrupt_check(error) || !dump_file(self, entry, temp, &whole, error))
        return false;
    if (!whole)
        return true;
    if (!look_check_room(dir, entry->bytes, entry->path, error) ||
        !file_copy(temp, to, 0600, error))
        return false;
    entry->copy = g_steal_pointer(&to);
    return true;
}

static bool copy_entry(struct looking *self, struct file_entry *entry, const char *dir,
                       unsigned depth, GError **error);

static bool copy_dir(struct looking *self, struct file_entry *entry, const char *dir,
                     unsigned depth, GError **error)
{
    g_autofree char *name = g_path_get_basename(entry->path);
    g_autofree char *to = g_build_filename(dir, strcmp(name, "/") == 0 ? "root" : name, NULL);
    unsigned first = self->result->entries->len;

    if (depth > MAX_DEPTH || (strcmp(name, "/") != 0 && !is_harmless(name)))
        return fail(error, ERROR_INTEGRITY, "%s cannot be made here", entry->path);
    if (mkdir(to, 0700) < 0)
        return errno == EEXIST ? fail(error, ERROR_CONFLICT, "%s exists already", to)
                               : fail_errno(error, errno, "cannot make %s", to);
    entry->copy = g_strdup(to);
    if (!list_dir(self, entry->inode, entry->path, error))
        return false;
    for (unsigned i = first, end = self->result->entries->len; i < end; i++)
        if (!copy_entry(self, self->result->entries->pdata[i], to, depth + 1, error))
            return false;
    return true;
}

static bool copy_entry(struct looking *self, struct file_entry *entry, const char *dir,
                       unsigned depth, GError **error)
{
    switch (entry->kind) {
    case FILE_PLAIN:
        return copy_file(self, entry, dir, error);
    case FILE_DIR:
        return copy_dir(self, entry, dir, depth, error);
    case FILE_LINK:
    case FILE_OTHER:
        progress_note(self->site->progress, "%s is no plain file: left out", entry->path);
        break;
    }
    return true;
}

/* ---- All of it */

static bool do_path(struct looking *self, const char *path, GError **error)
{
    struct file_entry found = {0};
    struct file_entry *entry;

    if (!look_up(self, path, &found, error))
        return false;
    if (!self->request->to_dir && found.kind == FILE_DIR)
        return list_dir(self, found.inode, path, error);
    entry = add_entry(self, path, found.inode, found.kind, found.bytes, error);
    return entry &&
           (!self->request->to_dir || copy_entry(self, entry, self->request->to_dir, 0, error));
}

static bool do_paths(struct looking *self, GError **error)
{
    const struct file_system *system = choose_system(self, error);

    if (!system)
        return false;
    self->device =
        g_strdup_printf("%s?offset=%" PRIu64, disk_view_path(self->view), system->offset);
    if (self->request->to_dir && !dir_make(self->request->to_dir, 0700, error))
        return false;
    for (char **path = self->request->paths; *path; path++)
        if (!do_path(self, *path, error))
            return false;
    return true;
}

bool files_execute(const struct site *site, const struct files_request *request,
                   struct files_result *result, GError **error)
{
    AUTO(origin) origin = look_at_point(site, request->what, request->point, error);
    const struct origin_disk *disk = origin ? look_at_disk(origin, request->disk, error) : NULL;
    AUTO(disk_view) view = disk ? disk_view_open(site, disk, error) : NULL;
    struct looking self = {.site = site, .request = request, .result = result, .view = view};
    bool done;

    if (!view)
        return false;
    result->vm = g_strdup(origin->manifest->vm);
    result->point = g_strdup(origin->manifest->point);
    result->systems = g_ptr_array_new_with_free_func(system_free);
    result->entries = g_ptr_array_new_with_free_func(entry_free);
    done = find_systems(&self, disk, error) && (!*request->paths || do_paths(&self, error));
    g_free(self.device);
    return done;
}
