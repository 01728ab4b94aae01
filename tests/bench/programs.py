# SPDX-License-Identifier: Apache-2.0
"""The programs that are compared: each knows how to save a disk in full, how to save what changed, how to bring it
back and how to check what it keeps, and its exact command line for that.

There are programs that save the disk of a running guest (drctl, virtnbdbackup, whatever reads libvirt's NBD export)
and programs that read a file (borg, restic); the latter get a raw image, which nobody writes meanwhile.
"""
import glob
import json
import os
import shutil
import uuid

import measure
import workload


def shell(*commands):
    """argv of a shell that runs COMMANDS, each an argv, as long as they succeed."""
    quote = lambda argv: " ".join("'" + str(arg).replace("'", "'\\''") + "'" for arg in argv)
    return ["sh", "-c", " && ".join(map(quote, commands))]


class Program:
    """One program on its own copy of the disk, with its own store."""
    needs = ()  # commands that must be there
    can_verify = True

    def __init__(self, lab, title, identifier):
        self.lab, self.title, self.id = lab, title, identifier
        self.number = 0  # of the last save

    def missing(self):
        """The commands that are not installed."""
        return [name for name in self.needs if not shutil.which(name, path=self.lab.environment()["PATH"])]

    def version(self):
        return ""

    def set_up(self, load):
        """Take a copy of the disk of LOAD as source, and an empty store."""
        raise NotImplementedError

    def empty(self):
        """Make the store empty, so that the next save is a full one."""
        self.number = 0
        self.lab.directory("stores", self.id)

    def change(self, writes):
        """Write to the source."""
        raise NotImplementedError

    def become(self, load, number):
        """Go on with another source, clone NUMBER of the disk of LOAD, and the same store."""
        raise NotImplementedError

    def full(self):
        """The command that saves the whole disk into the empty store."""
        raise NotImplementedError

    def increment(self):
        """The command that saves what changed since."""
        raise NotImplementedError

    def restore(self, directory):
        """The command that brings the last save back into DIRECTORY."""
        raise NotImplementedError

    def restored(self, directory):
        """The image that restore() made: the largest file there."""
        files = [os.path.join(at, name) for at, _, names in os.walk(directory) for name in names]
        return max(files, key=os.path.getsize)

    def verify(self):
        """The command that reads all that is stored and checks it."""
        raise NotImplementedError

    def sources(self):
        """Files that a save reads."""
        raise NotImplementedError

    def daemons(self):
        return self.lab.daemons()

    def figures(self, figures):
        """FIGURES as they are to be counted."""
        return figures

    def stored(self):
        return measure.disk_usage(self.store())

    def store(self):
        return os.path.join(self.lab.dir, "stores", self.id)

    def clean_up(self):
        shutil.rmtree(self.store(), ignore_errors=True)


# --- of guests ---


class GuestProgram(Program):
    """Saves the disk of a guest."""

    def set_up(self, load):
        self.guest = self.id
        self.copy_disk(load)
        self.start_guest()
        self.empty()

    def copy_disk(self, load):
        self.image = self.lab.copy(load.qcow2, f"{self.id}.qcow2")

    def start_guest(self):
        self.lab.guest(self.guest, self.image, uuid.uuid5(uuid.NAMESPACE_DNS, self.guest))

    def empty(self):
        self.lab.end_job(self.guest)
        self.lab.forget_checkpoints(self.guest)
        super().empty()

    def change(self, writes):
        directory = self.lab.directory("images", "pieces")
        self.lab.write(self.guest, workload.write_pieces(directory, writes))
        shutil.rmtree(directory)

    def sources(self):
        return [self.image]

    def daemons(self):
        return self.lab.daemons(self.guest)

    def clean_up(self):
        self.lab.remove_guest(self.guest)
        os.unlink(self.image)
        super().clean_up()


SITE = """[site]
name = {name}
libvirt = {libvirt}
store = {dir}/store
images = {dir}/images
scratch = {dir}/scratch
run-dir = {dir}/run
"""
REMOTE = """
[remote peer]
address = {user}@127.0.0.1:{port}
key = {key}
known-hosts = {ssh}/known_hosts
"""
PROTECTION = """
[protection bench]
vms = {vms}
destination = {destination}
"""


class Drctl(GuestProgram):
    """drctl as it is built, to its own store or to that of another site, on this machine, by ssh."""
    def __init__(self, lab, path, title="drctl", identifier="drctl", remote=False):
        super().__init__(lab, title, identifier)
        self.path, self.remote = path, remote

    def missing(self):
        return [] if os.access(self.path, os.X_OK) else [self.path]

    def version(self):
        return self.lab.call(self.path, "--version").strip()

    def vms(self):
        return [self.guest]

    def site(self):
        return os.path.join(self.lab.images, f"{self.id}.site")

    def peer(self):
        return os.path.join(self.lab.dir, f"{self.id}.peer")

    def write_config(self, directory, name, *more):
        with open(os.path.join(directory, "drctl.conf"), "w", encoding="utf-8") as file:
            file.write(SITE.format(name=name, libvirt=self.lab.uri, dir=directory) + "".join(more))

    def empty(self):
        super().empty()
        self.lab.directory("images", f"{self.id}.site")
        self.configure()
        self.lab.call(self.path, "--config", self.site(), "init")
        if self.remote:
            self.empty_peer()

    def configure(self):
        """This site, with its guest protected."""
        remote = self.remote and REMOTE.format(
            user=self.lab.account.pw_name, port=self.lab.port, ssh=self.lab.ssh,
            key=self.lab.authorize(self.id, f"{self.path} --config {self.peer()} serve"))
        self.write_config(self.site(), "bench", remote or "", PROTECTION.format(
            vms="; ".join(self.vms()), destination="peer" if self.remote else "local"))

    def become(self, load, number):
        self.lab.remove_guest(self.guest)
        self.guest = f"{self.id}-{number}"
        self.copy_disk(load)
        self.start_guest()
        self.configure()

    def empty_peer(self):
        self.lab.directory(f"{self.id}.peer")
        self.write_config(self.peer(), "peer")
        self.lab.call(self.path, "--config", self.peer(), "init")

    def drctl(self, *arguments):
        return self.lab.command(self.path, "--quiet", "--config", self.site(), *arguments)

    def full(self):
        return self.drctl("replicate", "--json")

    increment = full

    def restore(self, directory):
        return self.drctl("restore", self.guest, "--to-dir", os.path.join(directory, "restored"))

    def verify(self):
        return self.drctl("verify", self.guest)

    def store(self):
        return os.path.join(self.peer() if self.remote else self.site(), "store", "vms")

    def chain(self):
        """The images of the last point, base first."""
        return sorted(glob.glob(os.path.join(self.store(), "*", "*", "vda.qcow2")))

    def clean_up(self):
        super().clean_up()
        shutil.rmtree(self.site())
        if self.remote:
            shutil.rmtree(self.peer())


def changed_bytes(figures):
    """How much the one point holds that drctl has said it made."""
    return json.loads(figures.stdout)["changed_bytes"]


class DrctlWarm(Drctl):
    """A point over a connection that another point of the same command has opened: its own seconds, as drctl says."""
    def __init__(self, lab, path):
        super().__init__(lab, path, "drctl over ssh (connected)", "drctl-warm", remote=True)

    def vms(self):
        return ["drctl-first", self.guest]

    def start_guest(self):
        super().start_guest()
        first = os.path.join(self.lab.images, "drctl-first.qcow2")
        self.lab.call("qemu-img", "create", "-q", "-f", "qcow2", first, "16M")
        self.lab.guest("drctl-first", first, uuid.uuid5(uuid.NAMESPACE_DNS, "drctl-first"))

    def empty(self):
        self.lab.forget_checkpoints("drctl-first")
        super().empty()

    def figures(self, figures):
        last = json.loads(figures.stdout.splitlines()[-1])
        if last["vm"] != self.guest:
            raise measure.Failed(f"the last point is that of {last['vm']}")
        figures.wall, figures.cpu, figures.cpu_served = last["seconds"], None, None
        return figures

    def clean_up(self):
        self.lab.remove_guest("drctl-first")
        super().clean_up()


class Virtnbdbackup(GuestProgram):
    can_verify = False  # its checksums are compared when it restores
    needs = ("virtnbdbackup", "virtnbdrestore")

    def __init__(self, lab):
        super().__init__(lab, "virtnbdbackup", "virtnbd")

    def version(self):
        return self.lab.call("virtnbdbackup", "--version").strip()

    def save(self, level):
        return self.lab.command("virtnbdbackup", "-n", "-U", self.lab.uri, "-d", self.guest, "-l", level, "-S", self.lab.images,
                                "-f", self.lab.socket(self.guest), "-o", os.path.join(self.store(), "backup"))

    def full(self):
        return self.save("full")

    def increment(self):
        return self.save("inc")

    def restore(self, directory):
        return self.lab.command("virtnbdrestore", "-n", "-U", self.lab.uri, "-f", self.lab.socket(self.guest),
                                "-L", os.path.join(self.lab.images, "virtnbdrestore.log"),
                                "-i", os.path.join(self.store(), "backup"), "-o", directory)


class Export(GuestProgram):
    """Reads the NBD export of a backup job of libvirt. For a full read the job is there already."""

    def empty(self):
        super().empty()
        self.begin()

    def begin(self):
        self.lab.virsh(*self.lab.backup_arguments(self.guest, f"{self.id}.0"))

    def change(self, writes):
        self.lab.end_job(self.guest)
        super().change(writes)

    def clean_up(self):
        self.lab.end_job(self.guest)
        super().clean_up()


class QemuImg(Export):
    needs = ("qemu-img",)

    def __init__(self, lab):
        super().__init__(lab, "qemu-img convert", "qemu-img")

    def version(self):
        return self.lab.call("qemu-img", "--version").splitlines()[0]

    def full(self):
        return self.lab.command("qemu-img", "convert", "-c", "-o", "compression_type=zstd", "-W", "-m16", "-f", "raw",
                                "-O", "qcow2", self.lab.export(self.guest), os.path.join(self.store(), "vda.qcow2"))


class Floor(Export):
    """floor.c; for an increment with the two calls of virsh that begin and end the job."""

    def __init__(self, lab, path):
        super().__init__(lab, "floor", "floor")
        self.path = path

    def missing(self):
        return [] if os.access(self.path, os.X_OK) else [self.path]

    def read(self, context):
        return [self.path, self.lab.export(self.guest), context, os.path.join(self.store(), str(self.number))]

    def full(self):
        return self.lab.command(*self.read("base:allocation"))

    def increment(self):
        self.number += 1
        begin = self.lab.backup_arguments(self.guest, f"{self.id}.{self.number}", f"{self.id}.{self.number - 1}")
        virsh = ["virsh", "-q", "-c", self.lab.uri]
        return self.lab.command(*shell(virsh + begin, self.read("qemu:dirty-bitmap:changes"),
                                       virsh + ["domjobabort", self.guest]))


class DrctlPoints(Drctl):
    """A store of very many points, which bench-points fills, and the command that lists those of one VM."""

    def __init__(self, lab, path, filler):
        super().__init__(lab, path)
        self.filler = filler

    def missing(self):
        return [path for path in (self.path, self.filler) if not os.access(path, os.X_OK)]

    def set_up(self, load):
        self.guest = "vm-7"
        self.lab.directory("images", f"{self.id}.site")
        self.configure()
        self.lab.call(self.path, "--config", self.site(), "init")
        self.lab.call(self.path, "--config", self.site(), "points")  # makes the catalog
        self.lab.call(self.filler, os.path.join(self.site(), "store"), load.size.points)

    def list(self):
        return self.drctl("points", self.guest)

    def clean_up(self):
        shutil.rmtree(self.site())


TINY = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/><target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><source bridge='bench-none'/><model type='virtio'/></interface>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"""
TINY_BYTES = 16 << 20


class DrctlSite(Drctl):
    """A recovery site of very many VMs, which bench-site makes of one with two points, and all hosts, which are connections
    to one libvirtd."""

    def __init__(self, lab, path, maker, vapps, vms, hosts):
        super().__init__(lab, path, identifier="drctl-site")
        self.maker, self.vapps, self.vms_of_each, self.hosts = maker, vapps, vms, hosts

    def missing(self):
        return [path for path in (self.path, self.maker) if not os.access(path, os.X_OK)]

    def set_up(self, load):
        lab = self.lab
        source = lab.directory("images", f"{self.id}.source")
        lab.directory("images", f"{self.id}.site")
        self.write_config(source, "dc1", PROTECTION.format(vms="tiny", destination="local"))
        lab.call(self.path, "--config", source, "init")
        self.take_points(source)
        self.write_config(self.site(), "dr1")
        self.name_hosts()
        lab.call(self.path, "--config", self.site(), "init")
        lab.call(self.maker, os.path.join(self.site(), "store"), os.path.join(source, "store"), self.vapps, self.vms_of_each)
        with open(os.path.join(self.site(), "all.plan"), "w", encoding="utf-8") as file:
            file.write("[plan]\nvapps = " + "; ".join(f"v{number}" for number in range(self.vapps))
                       + "\n[network bench-none]\ntarget = disconnected\n")

    def take_points(self, source):
        image, xml = (os.path.join(source, name) for name in ("tiny.qcow2", "tiny.xml"))
        self.lab.call("qemu-img", "create", "-q", "-f", "qcow2", image, TINY_BYTES)
        with open(xml, "w", encoding="utf-8") as file:
            file.write(TINY.format(name="tiny", image=image))
        self.lab.virsh("define", xml)
        for pattern in (17, 34):
            self.lab.call("qemu-io", "-c", f"write -q -P {pattern} 0 256k", image)
            self.lab.call(self.path, "--config", source, "replicate")
        self.lab.virsh("undefine", "tiny")

    def name_hosts(self):
        path = os.path.join(self.site(), "drctl.conf")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        uris = "; ".join(f"{self.lab.uri}&host={number}" for number in range(self.hosts))
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(f"libvirt = {self.lab.uri}\n", f"libvirt = {uris}\n"))

    def remove_guests(self):
        names = self.lab.virsh("list", "--all", "--name").split()
        running = set(self.lab.virsh("list", "--name").split())
        for name in names:
            if name in running:
                self.lab.virsh("destroy", name)
            self.lab.virsh("undefine", name)

    def clean_up(self):
        shutil.rmtree(self.site())
        shutil.rmtree(os.path.join(self.lab.images, f"{self.id}.source"))


class QemuImgChain(Program):
    """Only brings back: qemu-img convert of the chain that a drctl program keeps."""
    needs = ("qemu-img",)

    def __init__(self, lab, drctl):
        super().__init__(lab, "qemu-img convert of drctl's chain", "chain")
        self.drctl = drctl

    def version(self):
        return QemuImg.version(self)

    def restore(self, directory):
        return self.lab.command("qemu-img", "convert", "-W", "-m16", "-f", "qcow2", "-O", "qcow2", self.drctl.chain()[-1],
                                os.path.join(directory, "vda.qcow2"))


# --- of files ---


class FileProgram(Program):
    """Saves a raw image."""
    remote = False

    def set_up(self, load):
        self.become(load, 0)
        self.empty()

    def become(self, load, number):
        self.image = self.lab.copy(load.raw, f"{self.id}.raw")

    def empty(self):
        super().empty()
        self.cache = self.lab.directory("cache", self.id)
        self.initialize()

    def initialize(self):
        raise NotImplementedError

    def change(self, writes):
        workload.write_raw(self.image, writes)

    def sources(self):
        return [self.image]

    def clean_up(self):
        os.unlink(self.image)
        super().clean_up()


class Borg(FileProgram):
    needs = ("borg",)

    def __init__(self, lab, remote=False):
        super().__init__(lab, "borg over ssh" if remote else "borg", "borg-ssh" if remote else "borg")
        self.remote = remote

    def version(self):
        return self.lab.call("borg", "--version").strip()

    def environ(self):
        return {"BORG_BASE_DIR": self.cache, "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
                "BORG_RSH": f"ssh -F {self.lab.ssh}/config"}

    def repository(self):
        path = os.path.join(self.store(), "repository")
        return f"ssh://peer{path}" if self.remote else path

    def initialize(self):
        self.lab.call("borg", "init", "-e", "none", self.repository(), **self.environ())

    def full(self):
        self.number += 1
        return self.lab.command("borg", "create", "--sparse", "--chunker-params", "fixed,4194304", "--compression", "zstd,1",
                                f"{self.repository()}::{self.number}", self.image, **self.environ())

    increment = full

    def restore(self, directory):
        extract = ["borg", "extract", "--sparse", f"{self.repository()}::{self.number}"]
        return self.lab.command(*shell(["cd", directory], extract), **self.environ())

    def verify(self):
        return self.lab.command("borg", "check", "--verify-data", self.repository(), **self.environ())


class Restic(FileProgram):
    needs = ("restic",)

    def __init__(self, lab, remote=False):
        super().__init__(lab, "restic over ssh" if remote else "restic", "restic-ssh" if remote else "restic")
        self.remote = remote

    def version(self):
        return self.lab.call("restic", "version").strip()

    def restic(self, *arguments):
        path = os.path.join(self.store(), "repository")
        where = (["-o", f"sftp.command=ssh -F {self.lab.ssh}/config peer -s sftp", "-r", f"sftp:peer:{path}"] if self.remote
                 else ["-r", path])
        return ["restic", "-q", *where, *arguments]

    def environ(self):
        return {"RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": self.cache}

    def initialize(self):
        self.lab.call(*self.restic("init", "--repository-version", "2"), **self.environ())

    def full(self):
        return self.lab.command(*self.restic("backup", "--host", "bench", self.image), **self.environ())

    increment = full

    def restore(self, directory):
        return self.lab.command(*self.restic("restore", "latest", "--target", directory), **self.environ())

    def verify(self):
        return self.lab.command(*self.restic("check", "--read-data"), **self.environ())
