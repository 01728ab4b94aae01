/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot loader of a lab's guest, behind its first sector (mbr.S): finds the virtio disk that
 * the BIOS has booted from, and reads kernel and initramfs from it to where they belong. mbr.S
 * then enters the kernel as Xen's public/arch-x86/hvm/start_info.h says (PVH).
 *
 * Through the BIOS this takes hundreds of requests of at most 64 KiB. It waits for each with a busy
 * processor, and where that is emulated, it is in the way of the thread that has to do the work.
 * With GRUB that cost nearly as much as all else of a boot, and unpacking the kernel a tenth.
 * Here it is one request, for what is unpacked.
 *
 * mkguest defines KERNEL_SECTOR, KERNEL_SECTORS, KERNEL_ADDRESS, KERNEL_ENTRY, INITRAMFS_ADDRESS,
 * INITRAMFS_BYTES (the initramfs follows the kernel on the disk) and COMMAND_LINE.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory_range {
    uint64_t address, size;
    uint32_t type, reserved;
};
/* Of mbr.S. */
extern const uint8_t mbr[512];
extern const struct memory_range memory[];
extern const uint32_t n_memory;

static uint32_t pci_read(uint32_t device, uint32_t at)
{
    uint32_t value;

    __asm__ volatile("outl %0, %w1" : : "a"(0x80000000 | device | (at & 0xfc)), "Nd"(0xcf8));
    __asm__ volatile("inl %w1, %0" : "=a"(value) : "Nd"(0xcfc));
    return value >> (at & 3) * 8;
}

static void pci_write(uint32_t device, uint32_t at, uint32_t value)
{
    __asm__ volatile("outl %0, %w1" : : "a"(0x80000000 | device | at), "Nd"(0xcf8));
    __asm__ volatile("outl %0, %w1" : : "a"(value), "Nd"(0xcfc));
}

/* ---- virtio; numbers are sections of version 1.1 */

/* 4.1.4.3 */
struct common {
    uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
    uint16_t msix_config, num_queues;
    uint8_t device_status, config_generation;
    uint16_t queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    uint64_t queue_desc, queue_driver, queue_device;
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };

/* 2.6 */
enum { QUEUE_SIZE = 4 };
enum { NEXT = 1, WRITE = 2 };
struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};
struct available {
    uint16_t flags, index, ring[QUEUE_SIZE];
};
struct used {
    uint16_t flags, index;
    struct {
        uint32_t id, length;
    } ring[QUEUE_SIZE];
};

struct disk {
    volatile struct common *common;
    volatile uint16_t *notify;
};
static struct descriptor descriptors[QUEUE_SIZE] __attribute__((aligned(16)));
static volatile struct available available __attribute__((aligned(4)));
static volatile struct used used __attribute__((aligned(4)));

/* 4.1.4: capabilities say where in which BAR the registers are. */
static bool disk_find(struct disk *disk, uint32_t device)
{
    uint32_t multiplier = 0;
    uint8_t *notify = NULL;

    *disk = (struct disk){0};
    for (uint32_t at = pci_read(device, 0x34) & 0xff; at; at = pci_read(device, at + 1) & 0xff) {
        uint32_t type = pci_read(device, at + 3) & 0xff;
        uint32_t bar = 0x10 + (pci_read(device, at + 4) & 0xff) * 4;
        uint8_t *place;

        if ((pci_read(device, at) & 0xff) != 9 || type > 2 || bar > 0x24)
            continue;
        if ((pci_read(device, bar) & 6) == 4 && pci_read(device, bar + 4) != 0)
            return false;
        place = (uint8_t *)((pci_read(device, bar) & ~0xfu) + pci_read(device, at + 8));
        if (type == 1) {
            disk->common = (volatile struct common *)place;
        } else if (type == 2) {
            notify = place;
            multiplier = pci_read(device, at + 16);
        }
    }
    if (!disk->common || !notify)
        return false;
    pci_write(device, 4, (pci_read(device, 4) & 0xffff) | 6);
    disk->common->queue_select = 0;
    disk->notify = (volatile uint16_t *)(notify + disk->common->queue_notify_off * multiplier);
    return true;
}

static void disk_reset(const struct disk *disk)
{
    disk->common->device_status = 0;
    while (disk->common->device_status != 0)
        ;
}

/* 3.1.1 */
static void disk_start(const struct disk *disk)
{
    volatile struct common *common = disk->common;

    disk_reset(disk);
    common->device_status = ACKNOWLEDGE | DRIVER;
    common->driver_feature_select = 0;
    common->driver_feature = 0;
    common->driver_feature_select = 1;
    common->driver_feature = 1; /* VIRTIO_F_VERSION_1 */
    common->device_status = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    available.index = 0;
    used.index = 0;
    common->queue_select = 0;
    common->queue_size = QUEUE_SIZE;
    common->queue_desc = (uintptr_t)descriptors;
    common->queue_driver = (uintptr_t)&available;
    common->queue_device = (uintptr_t)&used;
    common->queue_enable = 1;
    common->device_status = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
}

/* Read FIRST_BYTES from SECTOR on to FIRST, and SECOND_BYTES after those to SECOND. */
static bool disk_read(const struct disk *disk, uint64_t sector, void *first, uint32_t first_bytes,
                      void *second, uint32_t second_bytes)
{
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header = {.sector = sector};
    volatile uint8_t status = 0xff;

    descriptors[0] = (struct descriptor){(uintptr_t)&header, sizeof header, NEXT, 1};
    descriptors[1] = (struct descriptor){(uintptr_t)first, first_bytes, NEXT | WRITE, 2};
    descriptors[2] = (struct descriptor){(uintptr_t)second, second_bytes, NEXT | WRITE, 3};
    descriptors[3] = (struct descriptor){(uintptr_t)&status, 1, WRITE, 0};
    available.ring[available.index % QUEUE_SIZE] = 0;
    __asm__ volatile("" : : : "memory");
    available.index++;
    *disk->notify = 0;
    while (used.index != available.index)
        __asm__ volatile("pause" : : : "memory");
    return status == 0;
}

/* ---- */

_Noreturn static void stop(void)
{
    static const char text[] = "the boot loader cannot read its disk\r\n";

    for (const char *c = text; *c; c++)
        __asm__ volatile("outb %0, %w1" : : "a"(*c), "Nd"(0x3f8));
    for (;;)
        __asm__ volatile("hlt");
}

/* Is it the one that mbr came from? */
static bool disk_is_ours(const struct disk *disk)
{
    static uint8_t sectors[2][512];

    if (!disk_read(disk, 0, sectors[0], 512, sectors[1], 512))
        return false;
    for (unsigned i = 0; i < 512; i++)
        if (sectors[0][i] != mbr[i])
            return false;
    return true;
}

static void load_from(const struct disk *disk)
{
    if (!disk_read(disk, KERNEL_SECTOR, (void *)KERNEL_ADDRESS, KERNEL_SECTORS * 512u,
                   (void *)INITRAMFS_ADDRESS, (INITRAMFS_BYTES + 511u) / 512u * 512u))
        stop();
    disk_reset(disk);
}

static void load_all(void)
{
    for (uint32_t device = 0; device < 1 << 24; device += 1 << 8) {
        uint32_t id = pci_read(device, 0);
        struct disk disk;

        if ((id != 0x10011af4 && id != 0x10421af4) || !disk_find(&disk, device))
            continue;
        disk_start(&disk);
        if (disk_is_ours(&disk)) {
            load_from(&disk);
            return;
        }
        disk_reset(&disk);
    }
    stop();
}

/* Returns what the kernel wants to be told. */
void *load(void)
{
    static const char command_line[] = COMMAND_LINE;
    static struct {
        uint64_t address, size, command_line, reserved;
    } module = {.address = INITRAMFS_ADDRESS, .size = INITRAMFS_BYTES};
    static struct {
        uint32_t magic, version, flags, n_modules;
        uint64_t modules, command_line, rsdp, memory;
        uint32_t n_memory, reserved;
    } info = {.magic = 0x336ec578, .version = 1, .n_modules = 1};

    load_all();
    info.modules = (uintptr_t)&module;
    info.command_line = (uintptr_t)command_line;
    info.memory = (uintptr_t)memory;
    info.n_memory = n_memory;
    return &info;
}
