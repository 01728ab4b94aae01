# SPDX-License-Identifier: Apache-2.0
"""What drctl is to reach, on the server disk, and what it does."""
import dataclasses

import measure


@dataclasses.dataclass(frozen=True)
class Target:
    """ATTRIBUTE of a program's figures, divided by that of REFERENCE (None: as it is), is to be at most LIMIT."""
    scenario: str
    limit: float
    reference: str | None = None
    attribute: str = "wall"
    program: str = "drctl"
    why: str | None = None  # where the time goes, and what was tried, for when it is missed

    def text(self):
        what = {"wall": "time", "cpu_total": "CPU", "stored": "size", "seconds_per_gib": "time for each GiB"}
        of = f"{what[self.attribute]} of {self.program}"
        return of if not self.reference else f"{of} / {self.reference}"

    def value(self, results):
        """None where it was not measured."""
        figures = results.get(self.scenario, {})
        mine = figures.get(self.program, [])
        if self.reference:
            return measure.ratio(mine, figures.get(self.reference, []), self.attribute)
        return measure.median(mine, self.attribute)


FLOOR = ("Two cores are busy from the beginning to the end: zstd takes more than half of their time, then come SHA-256 of "
         "the clusters, QEMU and the socket to it, SHA-256 of the file. The floor is what is left when only reading, "
         "digest, zstd and writing are done. Tried and kept: matches from five bytes on and a table that stays in the "
         "first-level cache for zstd, a keyed checksum instead of two of three SHA-256 of what arrives. Tried and not "
         "kept: zstd without packing literals, which is a seventh faster and a seventh larger.")

SMALL = ("The limits are absolute, and were set where the floor took 0.09 s: what the floor takes in the same rounds says how "
         "fast this machine was. About a third of the time is libvirt's, which begins the backup job and makes the "
         "checkpoint; then come the fsyncs of the commit, without which it would not be durable.")

RESTORE = ("drctl's restore is that very qemu-img, which leaves the image in the page cache, and an fsync after it, which took "
           "as long again. Since then the image is on its way to the disk while qemu-img makes it.")

TARGETS = (
    Target("full", 0.45, "virtnbdbackup", why="virtnbdbackup does not compress here, and leaves its files in the page "
           "cache: it stores three times as much. " + FLOOR),
    Target("full", 0.65, "qemu-img convert", why=FLOOR),
    Target("full", 0.65, "borg", why=FLOOR),
    Target("full", 1.3, "floor", why=FLOOR),
    Target("full", 1.0, "qemu-img convert", "cpu_total", why=FLOOR),
    Target("full", 1.0, "borg", "cpu_total", why="borg reads a raw file, and no NBD server; it digests pieces of 4 MiB that "
           "it compresses as one, and does not read back what it wrote."),
    Target("full", 1.06, "borg", "stored"),
    Target("full", 1.25, "drctl", program="drctl over ssh", why="libssh2 1.10 hands the cipher 16 bytes at a time: that "
           "alone costs 2 to 3 s of a core, and both cores are busy already. What CPUs have instructions for, "
           "aes128-ctr and HMAC-SHA-256, is preferred already; several connections would only share the same two cores."),
    Target("small", 0.2, why=SMALL),
    Target("small", 0.35, program="drctl over ssh", why=SMALL),
    Target("small", 0.15, program="drctl over ssh (connected)", why=SMALL),
    Target("scattered", 0.35, "virtnbdbackup", why="virtnbdbackup does not compress here and does not sync its files; most "
           "of drctl's time is zstd, then the read-back of the commit."),
    Target("scattered", 1.01, "floor", "stored", why="Tables of the image are 1.3 MiB (an L2 table for each 512 MiB that has "
           "changed somewhere); a cluster that zstd cannot shrink begins at a multiple of 64 KiB, which leaves 32 KiB before "
           "it on average: so a VM that runs on the point reads from it what it asks for, and not 64 KiB for every 4. "
           "The floor has neither."),
    Target("restore", 0.5, "virtnbdbackup", why=RESTORE),
    Target("restore", 1.0, "qemu-img convert of drctl's chain", why=RESTORE),
    Target("verify", 1.0, attribute="seconds_per_gib", why="The limit is absolute, and the machine was not as fast as where "
           "it was set; borg checks the same data no faster. SHA-256 of the files, on one core, comes before all clusters are "
           "unpacked and digested, on all: doing both at once would take about two thirds of the time."),
    Target("fleet", 1.1, "one disk and the changes", "stored"),
    Target("fleet", 1.15, "borg", "stored"),
    Target("linear", 1.3, "drctl", program="drctl, disk 10 times as large"),
    Target("points", 0.05, why="Two thirds were for reading the names of all 10,000 VMs, which are keys of the catalog "
           "since; then comes the loading of libraries."),
    Target("site", 2.0, program="drctl plan check"),
    Target("site", 2.0, program="drctl failover --dry-run"),
    Target("site", 0.1, program="20 steps of one VM"),
    Target("site", 5.0, program="20 steps of 50 VMs"),
)
