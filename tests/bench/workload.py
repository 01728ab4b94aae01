# SPDX-License-Identifier: Apache-2.0
"""The data: a disk, and what is written to it. Equal on every run.

`server` is a Debian system on 8 GiB (debian-disk; made once, kept in the work directory's cache), `small` 256 MiB of
seeded text and noise, for a quick test of the benchmark itself.

What is written to a disk is data of the same disk with each byte exchanged for another one: it packs as well as
the original, but nothing of it is anywhere on the disk already, so no program can find it there.
"""
import dataclasses
import os
import random
import subprocess

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
CLUSTER = 65536
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is on the disk and how much of it changes."""
    name: str
    scattered: int  # bytes of the scattered increment
    fleet: int  # bytes that each clone has of its own
    clones: int
    points: int  # in the store of the catalog scenario
    vapps: int  # of 20 VMs each, of the large site


SIZES = {size.name: size for size in (Size("server", 256 * MIB, 100 * MIB, 5, 1000000, 50),
                                      Size("small", 8 * MIB, 4 * MIB, 2, 1000, 2))}
SMALL_CHANGE = MIB
SMALL_EXTENTS = 12


class Workload:
    """The disk as a raw and as a qcow2 image, and writes for it."""

    def __init__(self, cache, size):
        self.size = SIZES[size]
        self.raw = os.path.join(cache, f"{size}.raw")
        self.qcow2 = os.path.join(cache, f"{size}.qcow2")
        self.cache = cache

    def make(self):
        """Make what the cache does not have."""
        if not os.path.exists(self.raw):
            new = self.raw + ".new"
            if self.size.name == "server":
                subprocess.run([os.path.join(HERE, "debian-disk"), os.path.join(self.cache, "debian"), new], check=True)
            else:
                make_small(new)
            os.rename(new, self.raw)
        if not os.path.exists(self.qcow2):
            new = self.qcow2 + ".new"
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.raw, new], check=True)
            os.rename(new, self.qcow2)
        self.bytes = os.path.getsize(self.raw)
        self.used = used_clusters(self.raw)
        self.data_bytes = len(self.used) * CLUSTER

    def small(self, number):
        """Change NUMBER of 1 MiB in 12 extents; the same places each time, other data."""
        return self.writes("small", number, [SMALL_CHANGE // CLUSTER // SMALL_EXTENTS + (i < 4)
                                              for i in range(SMALL_EXTENTS)])

    def scattered(self, number):
        """Change NUMBER all over the disk, in extents of 64 to 256 KiB; the same places each time, other data."""
        return self.writes("scattered", number, extent_lengths("scattered", self.size.scattered))

    def clone(self, number):
        """What clone NUMBER has of its own: other places and other data for each."""
        return self.writes(f"clone {number}", number, extent_lengths(f"clone {number}", self.size.fleet))

    def writes(self, name, number, lengths):
        """A list of (offset, data). Seven in ten overwrite what is used, half of the rest follow another extent."""
        seeded, taken, writes = random.Random(name), set(), []
        table = bytes(random.Random(f"{name} {number}").sample(range(256), 256))
        clusters, at = self.bytes // CLUSTER, None
        for length in lengths:
            while True:
                draw = seeded.random()
                start = (seeded.choice(self.used) if draw < 0.7 else at if draw < 0.85 and at else
                         seeded.randrange(clusters))
                if start + length <= clusters and taken.isdisjoint(range(start, start + length)):
                    break
                at = None
            at = start + length
            taken.update(range(start, at))
            writes.append((start * CLUSTER, b"".join(self.other_data(seeded, table) for _ in range(length))))
        return writes

    def other_data(self, seeded, table):
        with open(self.raw, "rb") as file:
            while True:
                data = os.pread(file.fileno(), CLUSTER, seeded.choice(self.used) * CLUSTER)
                if data.count(0) < CLUSTER:
                    return data.translate(table)


def extent_lengths(seed, total):
    seeded, left = random.Random(seed), total // CLUSTER
    lengths = []
    while left:
        lengths.append(min(left, seeded.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]))
        left -= lengths[-1]
    return lengths


def used_clusters(path):
    """Numbers of the clusters of a sparse file that have data."""
    used = []
    with open(path, "rb") as file:
        at, size = 0, os.path.getsize(path)
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            first = start // CLUSTER
            used += range(max(first, used[-1] + 1 if used else 0), (at + CLUSTER - 1) // CLUSTER)
    return used


def make_small(path):
    """256 MiB, a quarter of it in use: words, and every eighth cluster noise."""
    seeded = random.Random("small disk")
    words = [bytes(seeded.choices(b"abcdefghijklmnopqrstuvwxyz", k=seeded.randint(2, 12))) for _ in range(5000)]
    with open(path, "wb") as file:
        file.truncate(256 * MIB)
        for cluster in range(0, 4096, 4):
            noise = cluster % 32 == 0
            data = seeded.randbytes(CLUSTER) if noise else b" ".join(seeded.choices(words, k=9500))[:CLUSTER]
            file.seek((cluster if cluster % 64 else cluster + 1) * CLUSTER)
            file.write(data)


def write_raw(path, writes):
    with open(path, "r+b") as file:
        for offset, data in writes:
            file.seek(offset)
            file.write(data)


def write_pieces(directory, writes):
    """The data of WRITES in files of their own: (offset, path) of each, for QEMU to read."""
    pieces = []
    for number, (offset, data) in enumerate(writes):
        path = os.path.join(directory, str(number))
        with open(path, "wb") as file:
            file.write(data)
        pieces.append((offset, path))
    return pieces


def same_content(image, raw):
    """Does a restored image hold what RAW does? Raises measure.Failed when not."""
    with open(image, "rb") as file:
        kind = "qcow2" if file.read(4) == b"QFI\xfb" else "raw"
    done = subprocess.run(["qemu-img", "compare", "-f", kind, "-F", "raw", image, raw], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise measure.Failed(f"{image} is not what was saved: {done.stdout.strip()}")
