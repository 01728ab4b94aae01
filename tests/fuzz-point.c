/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzing of what lies beside the images of a point, and of partials. The first byte of the input
 * says what the rest is:
 *
 *     's'  a partial: {bytes of the image u24, bytes of the digests u24}, to which the good ones are
 *          cut, and lies about them: {file and place u24, 8 bytes} each
 *     'r'  records of what has arrived, as the destination tells it
 *     'c'  a chain of digests: layers, top first: {clusters u16, quarters of KiB beyond them u8, records u8},
 *          {step u8, digest u8} for each record
 *     'x'  checkpoint.xml
 */
#include <fcntl.h>
#include <unistd.h>

#include "snapshot/bigendian.h"
#include "snapshot/checkpoint.h"
#include "snapshot/composer.h"
#include "snapshot/digest-chain.h"
#include "snapshot/qcow2.h"
#include "snapshot/salvage.h"
#include "tests/fuzz.h"

#define FILE_MAX (1u << 20)
#define LIE_BYTES 11
#define LAYERS_MAX 8
#define LAYER_CLUSTERS 2048u
#define CHECKPOINT_NAME "drctl-12345678-20261120T221500.123Z-abcd"

/* Written by appending, but for the header of an image. */
struct written {
    uint8_t data[FILE_MAX];
    uint64_t len;
};

static struct written image, digests;
static char *dir;

static bool write_to(void *context, uint64_t offset, const void *data, size_t len, GError **error)
{
    struct written *written = context;

    fuzz_require(offset + len <= FILE_MAX);
    memcpy(written->data + offset, data, len);
    written->len = MAX(written->len, offset + len);
    return true;
}

static bool write_image(void *context, uint64_t offset, const void *data, size_t len,
                        GError **error)
{
    return write_to(&image, offset, data, len, error);
}

static bool write_digests(void *context, uint64_t offset, const void *data, size_t len,
                          GError **error)
{
    return write_to(&digests, offset, data, len, error);
}

static void clean_up(void)
{
    tree_remove(dir, NULL);
    g_free(dir);
}

static void add_packed(struct composer *composer, struct packer *packer, uint64_t cluster)
{
    g_autofree uint8_t *plain = g_malloc(CLUSTER_BYTES), *packed = g_malloc(CLUSTER_PACKED_MAX);
    uint8_t digest[DIGEST_SIZE];
    size_t len;

    memset(plain, (int)cluster % 200 + 1, CLUSTER_BYTES);
    cluster_digest(plain, digest);
    fuzz_require(cluster_pack(packer, plain, packed, &len) == CLUSTER_PACKED);
    fuzz_require(composer_packed(composer, cluster, packed, len, digest, NULL));
}

static void add_plain(struct composer *composer, uint64_t cluster)
{
    g_autofree uint8_t *plain = g_malloc(CLUSTER_BYTES);
    uint8_t digest[DIGEST_SIZE];

    memset(plain, (int)cluster % 200 + 1, CLUSTER_BYTES);
    cluster_digest(plain, digest);
    fuzz_require(composer_plain(composer, cluster, plain, digest, NULL));
}

static void store(const char *path, const uint8_t *data, uint64_t len)
{
    AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    fuzz_require(fd >= 0 && fd_write_at(fd, 0, data, len, path, NULL));
}

static char *store_in(const char *subdir, const char *name, const uint8_t *data, uint64_t len)
{
    g_autofree char *parent = g_build_filename(dir, subdir, NULL);
    char *path = g_build_filename(parent, name, NULL);

    fuzz_require(dir_make(parent, 0700, NULL));
    store(path, data, len);
    return path;
}

/* Clusters of all kinds in three regions; the header is left out, as in what was interrupted. */
static void prepare(void)
{
    struct composer_output output = {.image = write_image, .digests = write_digests};
    AUTO(packer) packer = packer_new(1);
    AUTO(composer) composer = composer_new(output, 3 * QCOW2_REGION_BYTES, "../p0/vda.qcow2", NULL);

    add_packed(composer, packer, 0);
    add_plain(composer, 1);
    fuzz_require(composer_zero(composer, 2, 3, NULL));
    add_packed(composer, packer, 5);
    add_packed(composer, packer, QCOW2_L2_ENTRIES - 1);
    add_plain(composer, QCOW2_L2_ENTRIES);
    add_packed(composer, packer, 2 * QCOW2_L2_ENTRIES + 7);
    fuzz_require(composer_finish(composer, NULL, NULL));
    memset(image.data, 0, CLUSTER_BYTES);
    dir = g_dir_make_tmp("drctl-fuzz-XXXXXX", NULL);
    fuzz_require(dir != NULL);
    atexit(clean_up);
    g_free(store_in("whole", "vda.qcow2", image.data, image.len));
    g_free(store_in("whole", "vda.digests", digests.data, digests.len));
}

/* ---- partials */

/* One partial, and what is known of it. */
struct partial {
    struct written *image, *digests;
    uint64_t end; /* of what was told */
    uint64_t next;
    uint64_t told;
};

/* What is told lies in the file behind what was told before, and has its digest. */
static void check_salvaged(struct partial *partial, const struct salvaged *salvaged)
{
    g_autofree uint8_t *plain = g_malloc(CLUSTER_BYTES);
    const uint8_t *stored = partial->image->data + salvaged->place.offset;
    AUTO(unpacker) unpacker = unpacker_new();
    uint8_t digest[DIGEST_SIZE];

    fuzz_require(salvaged->cluster >= partial->next);
    fuzz_require(salvaged->place.offset >= MAX(partial->end, CLUSTER_BYTES));
    fuzz_require(salvaged->place.offset + salvaged->len <= partial->image->len);
    if (salvaged->kind == CLUSTER_PACKED)
        fuzz_require(cluster_unpack(unpacker, stored, salvaged->len, plain));
    else
        memcpy(plain, stored, CLUSTER_BYTES);
    digest_buffer(plain, CLUSTER_BYTES, digest);
    fuzz_require(memcmp(digest, salvaged->digest, DIGEST_SIZE) == 0);
    partial->end = salvaged->place.offset + salvaged->len;
    partial->next = salvaged->cluster + 1;
    partial->told++;
}

static void walk(struct partial *partial, const char *image_path, const char *digests_path)
{
    g_autoptr(GError) error = NULL;
    AUTO(salvage) salvage = salvage_open(image_path, digests_path, 0, &error);
    struct salvaged salvaged;

    fuzz_require(salvage != NULL || (error && *error->message));
    while (salvage && salvage_next(salvage, &salvaged))
        check_salvaged(partial, &salvaged);
}

static struct written *cut_copy(const struct written *of, const uint8_t bytes[3])
{
    struct written *copy = g_memdup2(of, sizeof(*of));

    copy->len = (be32_get(bytes) >> 8) % (of->len + 1);
    return copy;
}

static void lie(struct partial *partial, const uint8_t *data, size_t len)
{
    for (; len >= LIE_BYTES; data += LIE_BYTES, len -= LIE_BYTES) {
        struct written *to = data[0] & 0x80 ? partial->digests : partial->image;
        uint64_t at = be32_get(data) >> 8 & 0x7fffff;

        if (at + 8 <= to->len)
            memcpy(to->data + at, data + 3, 8);
    }
}

/* Everything that a whole partial beside it has is told, whatever PARTIAL is like. */
static bool count_told(void *context, const void *data, size_t len, GError **error)
{
    fuzz_require(len > 0 && len % SALVAGED_BYTES == 0);
    *(uint64_t *)context += len / SALVAGED_BYTES;
    return true;
}

static void beside_whole(const struct partial *partial)
{
    g_autofree char *cut_dir = g_build_filename(dir, "cut", NULL);
    g_autofree char *whole_dir = g_build_filename(dir, "whole", NULL);
    char *const dirs[] = {cut_dir, whole_dir, NULL};
    uint64_t told = 0;

    fuzz_require(snapshot_salvage(dirs, "vda", count_told, &told, NULL));
    fuzz_require(told >= partial->told && told >= 6);
}

static void fuzz_partial(const uint8_t *data, size_t len)
{
    g_autofree struct written *cut_image = NULL, *cut_digests = NULL;
    g_autofree char *image_path = NULL, *digests_path = NULL;
    struct partial partial = {};

    /* What has three bytes is read by four. */
    if (len < 7)
        return;
    partial.image = cut_image = cut_copy(&image, data);
    partial.digests = cut_digests = cut_copy(&digests, data + 3);
    lie(&partial, data + 6, len - 6);
    image_path = store_in("cut", "vda.qcow2", cut_image->data, cut_image->len);
    digests_path = store_in("cut", "vda.digests", cut_digests->data, cut_digests->len);
    walk(&partial, image_path, digests_path);
    beside_whole(&partial);
}

static void fuzz_records(const uint8_t *data, size_t len)
{
    for (; len >= SALVAGED_BYTES; data += SALVAGED_BYTES, len -= SALVAGED_BYTES) {
        g_autoptr(GError) error = NULL;
        uint8_t again[SALVAGED_BYTES];
        struct salvaged salvaged;

        if (!salvaged_decode(data, &salvaged, &error)) {
            fuzz_require(error && *error->message);
            continue;
        }
        fuzz_require(salvaged.len > 0 && salvaged.len <= CLUSTER_BYTES);
        fuzz_require((salvaged.kind == CLUSTER_PLAIN) == (salvaged.len == CLUSTER_BYTES));
        salvaged_encode(&salvaged, again);
        fuzz_require(memcmp(again, data, SALVAGED_BYTES) == 0);
    }
}

/* ---- chains */

/* What one layer says, by cluster: 0 is nothing, otherwise the first byte of the digest plus 1. */
struct layer_model {
    uint64_t bytes;
    uint16_t says[LAYER_CLUSTERS + 1];
};

static bool append_digests(void *context, uint64_t offset, const void *data, size_t len,
                           GError **error)
{
    GByteArray *bytes = context;

    fuzz_require(offset == bytes->len);
    g_byte_array_append(bytes, data, (unsigned)len);
    return true;
}

/* One layer of DATA; returns how much of it was used, 0 for the end. */
static size_t write_layer(const uint8_t *data, size_t len, const char *path,
                          struct layer_model *model)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    AUTO(digest_writer) writer = NULL;
    uint8_t digest[DIGEST_SIZE] = {};
    uint64_t cluster = 0, written;
    size_t used = 4;

    if (len < 4)
        return 0;
    model->bytes =
        (be32_get(data) >> 16) % LAYER_CLUSTERS * (uint64_t)CLUSTER_BYTES + data[2] * 256u;
    writer = digest_writer_new(append_digests, bytes, model->bytes);
    for (unsigned i = 0; i < data[3] && used + 2 <= len; i++, used += 2, cluster++) {
        cluster += data[used];
        if (cluster >= cluster_count(model->bytes))
            break;
        digest[0] = data[used + 1];
        model->says[cluster] = (uint16_t)(digest[0] + 1);
        fuzz_require(digest_writer_add(writer, cluster, digest, NULL));
    }
    fuzz_require(digest_writer_finish(writer, &written, NULL));
    store(path, bytes->data, bytes->len);
    return used;
}

/* Does RECORD say what the topmost layer says that has the cluster, and what is hidden of it? */
static void check_record(const struct chain_record *record, struct layer_model **models,
                         unsigned count)
{
    uint64_t start = record->cluster * CLUSTER_BYTES, limit = UINT64_MAX, shown, has;
    unsigned i = 0;

    for (; i < count; i++) {
        limit = MIN(limit, models[i]->bytes);
        if (start < limit && models[i]->says[record->cluster])
            break;
    }
    fuzz_require(i < count && record->layer == i);
    fuzz_require(record->digest[0] + 1 == models[i]->says[record->cluster]);
    shown = MIN(limit - start, CLUSTER_BYTES);
    has = MIN(models[i]->bytes - start, CLUSTER_BYTES);
    fuzz_require(record->hidden == has - shown);
}

static uint64_t count_shown(struct layer_model **models, unsigned count)
{
    uint64_t shown = 0;

    for (uint64_t n = 0; n <= LAYER_CLUSTERS; n++) {
        uint64_t limit = UINT64_MAX;
        bool found = false;

        for (unsigned i = 0; i < count && !found; i++) {
            limit = MIN(limit, models[i]->bytes);
            found = n * CLUSTER_BYTES < limit && models[i]->says[n];
        }
        shown += found;
    }
    return shown;
}

static void read_chain(const struct digest_layer *layers, struct layer_model **models,
                       unsigned count)
{
    AUTO(digest_chain) chain = digest_chain_open(layers, count, NULL);
    struct chain_record record = {};
    uint64_t next = 0, told = 0;
    bool found = true;

    fuzz_require(chain != NULL);
    while (true) {
        fuzz_require(digest_chain_next(chain, &record, &found, NULL));
        if (!found)
            break;
        fuzz_require(record.cluster >= next);
        check_record(&record, models, count);
        next = record.cluster + 1;
        told++;
    }
    fuzz_require(told == count_shown(models, count));
}

static void fuzz_chain(const uint8_t *data, size_t len)
{
    struct digest_layer layers[LAYERS_MAX] = {};
    struct layer_model *models[LAYERS_MAX] = {};
    char *paths[LAYERS_MAX] = {};
    unsigned count = 0;

    while (count < LAYERS_MAX) {
        g_autofree char *path = g_strdup_printf("%s/%u.digests", dir, count);
        g_autofree struct layer_model *model = g_new0(struct layer_model, 1);
        size_t used = write_layer(data, len, path, model);

        if (used == 0)
            break;
        layers[count] = (struct digest_layer){path, model->bytes};
        paths[count] = g_steal_pointer(&path);
        models[count++] = g_steal_pointer(&model);
        data += used;
        len -= used;
    }
    if (count > 0)
        read_chain(layers, models, count);
    for (unsigned i = 0; i < count; i++) {
        g_free(paths[i]);
        g_free(models[i]);
    }
}

/* ---- checkpoint.xml */

/* libvirt looks at the names of attributes only, not at their namespaces. */
static void fuzz_checkpoint(const uint8_t *data, size_t len)
{
    g_autofree char *text = g_strndup((const char *)data, len);
    g_autofree char *foreign = NULL;
    AUTO(xml) xml = NULL;

    if (!checkpoint_defines(text, CHECKPOINT_NAME))
        return;
    xml = xml_parse(text, "checkpoint", NULL);
    fuzz_require(xml != NULL && !xml_find(xml_root(xml), "//domain"));
    foreign = xml_string(xml_root(xml),
                         "//@*[local-name()='bitmap' and string(.)!='" CHECKPOINT_NAME "']");
    fuzz_require(foreign == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (!dir)
        prepare();
    if (len == 0)
        return 0;
    if (data[0] == 's')
        fuzz_partial(data + 1, len - 1);
    else if (data[0] == 'r')
        fuzz_records(data + 1, len - 1);
    else if (data[0] == 'c')
        fuzz_chain(data + 1, len - 1);
    else if (data[0] == 'x')
        fuzz_checkpoint(data + 1, len - 1);
    return 0;
}
