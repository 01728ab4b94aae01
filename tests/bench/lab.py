# SPDX-License-Identifier: Apache-2.0
"""Where the programs run: a session libvirtd with paused guests (tests/session-libvirtd), an sshd on loopback, and
directories for sources and stores, all below one work directory.

Started by root, libvirtd, its guests, who logs in by ssh and all that is measured are an unprivileged user
(SESSION_USER, default nobody); otherwise who started it.
"""
import json
import os
import pwd
import shutil
import socket
import subprocess
import time

import measure

SESSION = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "session-libvirtd")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GUEST = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/><target dev='vda' bus='virtio'/></disk>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"""
PULL = """<domainbackup mode='pull'>{since}<server transport='unix' socket='{socket}'/><disks>
<disk name='vda' backup='yes' type='file' exportname='vda'{bitmap}><scratch file='{scratch}'/></disk></disks></domainbackup>"""
CHECKPOINT = "<domaincheckpoint><name>{name}</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>"
SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey {dir}/host
PidFile none
AuthorizedKeysFile {dir}/authorized_keys
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
Subsystem sftp internal-sftp
"""
SSH = """Host peer
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {dir}/peers
    IdentitiesOnly yes
    UserKnownHostsFile {dir}/known_hosts
    LogLevel ERROR
"""


def run(*argv, **options):
    """A command of the preparation: must succeed; its output."""
    done = subprocess.run([str(arg) for arg in argv], stdin=options.pop("stdin", subprocess.DEVNULL) if
                          "input" not in options else None, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False, **options)
    if done.returncode != 0:
        raise measure.Failed(f"{' '.join(map(str, argv))}: {done.stdout.strip()[-500:]}")
    return done.stdout


def wait_for(condition, what, deadline_s=30):
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise measure.Failed(f"{what}: nothing within {deadline_s} s")
        time.sleep(0.01)


class Lab:
    """All daemons and directories; a context manager, which ends what it started."""

    def __init__(self, work):
        self.work = work
        self.dir = os.path.join(work, "s")  # short: sockets lie below it
        self.images = os.path.join(self.dir, "images")
        self.log = os.path.join(work, "log")
        self.sshd = None
        self.account = pwd.getpwuid(os.geteuid())
        self.user = None
        if os.geteuid() == 0:
            self.account = pwd.getpwnam(os.environ.get("SESSION_USER", "nobody"))
            self.user = (self.account.pw_uid, self.account.pw_gid)

    def __enter__(self):
        os.makedirs(self.work, exist_ok=True)
        os.chmod(self.work, 0o711)
        with open(self.log, "wb"):
            pass
        self.uri = run(SESSION, "up", self.dir).splitlines()[-1]
        try:
            self.ssh_up()
        except BaseException:
            self.__exit__()
            raise
        measure.adopt_orphans()
        return self

    def __exit__(self, *_):
        if self.sshd:
            self.sshd.terminate()
            self.sshd.wait()
        run(SESSION, "down", self.dir)

    # --- files ---

    def own(self, path):
        if self.user:
            os.chown(path, *self.user)
        return path

    def directory(self, *names):
        """A new empty directory below that of the session."""
        path = os.path.join(self.dir, *names)
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return self.own(path)

    def copy(self, source, name):
        """A sparse copy of an image, for a guest or for programs that read files."""
        path = os.path.join(self.images, name)
        run("cp", "--sparse=always", source, path)
        return self.own(path)

    # --- commands ---

    def environment(self, **more):
        where = {"HOME": "home", "XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache",
                 "XDG_DATA_HOME": "data"}
        return {"PATH": PATH, "LC_ALL": "C.UTF-8"} | {key: f"{self.dir}/{value}" for key, value in where.items()} | more

    def command(self, *argv, **env):
        return measure.Command([str(arg) for arg in argv], self.environment(**env), self.user, self.log)

    def call(self, *argv, **env):
        """A command of the preparation, as the user."""
        uid, gid = self.user or (None, None)
        return run(*argv, env=self.environment(**env), user=uid, group=gid, extra_groups=[] if self.user else None)

    def virsh(self, *argv):
        return self.call("virsh", "-q", "-c", self.uri, *argv)

    # --- guests ---

    def guest(self, name, image, uuid):
        """A guest on IMAGE that runs, paused: it writes only what write() makes it write."""
        self.remove_guest(name)
        xml = os.path.join(self.dir, f"{name}.xml")
        with open(xml, "w", encoding="utf-8") as file:
            file.write(GUEST.format(name=name, image=image, uuid=uuid))
        self.virsh("define", xml)
        self.virsh("start", "--paused", name)

    def remove_guest(self, name):
        if name in self.virsh("list", "--all", "--name").split():
            if name in self.virsh("list", "--name").split():
                self.virsh("destroy", name)
            self.virsh("undefine", name, "--checkpoints-metadata")

    def forget_checkpoints(self, guest):
        for name in reversed(self.virsh("checkpoint-list", guest, "--name", "--topological").split()):
            self.virsh("checkpoint-delete", guest, name)

    def device(self, guest):
        """The name that QEMU's monitor has for the guest's disk."""
        answer = self.virsh("qemu-monitor-command", guest, '{"execute": "query-block"}')
        return next(entry["qdev"] for entry in json.loads(answer)["return"] if entry.get("inserted"))

    def write(self, guest, pieces):
        """Write PIECES (offset, file) through QEMU, which notes them in its dirty bitmaps."""
        device = self.device(guest)
        lines = [f"""qemu-monitor-command {guest} --hmp 'qemu-io -d {device} "{what}"'""" for what in
                 [f"write -q -s {path} {offset} {os.path.getsize(path)}" for offset, path in pieces] + ["flush"]]
        uid, gid = self.user or (None, None)
        said = run("virsh", "-q", "-c", self.uri, input="\n".join(lines) + "\n", env=self.environment(), user=uid,
                   group=gid, extra_groups=[] if self.user else None)
        if "error" in said.lower() or "fail" in said.lower():
            raise measure.Failed(f"writes to {guest}: {said[-500:]}")

    def end_job(self, guest):
        if "None" not in self.virsh("domjobinfo", guest):
            self.virsh("domjobabort", guest)
            wait_for(lambda: "None" in self.virsh("domjobinfo", guest), f"end of the job of {guest}")

    def backup_arguments(self, guest, checkpoint, since=None):
        """Arguments of virsh for a pull-mode backup of GUEST: all of its disk, or what is new SINCE."""
        backup, new = (os.path.join(self.dir, f"{guest}.{what}.xml") for what in ("backup", "checkpoint"))
        with open(backup, "w", encoding="utf-8") as file:
            file.write(PULL.format(socket=self.socket(guest), scratch=os.path.join(self.images, f"{guest}.scratch"),
                                   since=f"<incremental>{since}</incremental>" if since else "",
                                   bitmap=" exportbitmap='changes'" if since else ""))
        with open(new, "w", encoding="utf-8") as file:
            file.write(CHECKPOINT.format(name=checkpoint))
        return ["backup-begin", guest, backup, new]

    def socket(self, guest):
        return os.path.join(self.images, f"{guest}.nbd")

    def export(self, guest):
        return f"nbd+unix:///vda?socket={self.socket(guest)}"

    # --- ssh ---

    def ssh_up(self):
        """The key `peers` may run anything there; others see authorize()."""
        self.ssh = self.directory("ssh")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        for key in ("host", "peers"):
            self.make_key(key)
        self.own(f"{self.ssh}/peers")
        host = self.read("host.pub").split()
        for name, text in (("sshd_config", SSHD.format(port=self.port, dir=self.ssh)),
                           ("config", SSH.format(port=self.port, dir=self.ssh, user=self.account.pw_name)),
                           ("known_hosts", f"[127.0.0.1]:{self.port} {host[0]} {host[1]}\n"),
                           ("authorized_keys", self.read("peers.pub"))):
            with open(f"{self.ssh}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        self.start_sshd()

    def read(self, name):
        with open(f"{self.ssh}/{name}", encoding="ascii") as file:
            return file.read()

    def make_key(self, name):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", f"{self.ssh}/{name}")

    def authorize(self, name, command):
        """Path of a key NAME that runs COMMAND there and nothing else."""
        path = f"{self.ssh}/{name}"
        if not os.path.exists(path):
            self.make_key(name)
            self.own(path)
            with open(f"{self.ssh}/authorized_keys", "a", encoding="ascii") as file:
                file.write(f'command="{command}",restrict {self.read(name + ".pub")}')
        return path

    def start_sshd(self):
        server = ["exec", shutil.which("sshd", path=PATH), "-D", "-e", "-f", f"{self.ssh}/sshd_config"]
        argv = ["sh", "-c", " ".join(server)]
        if self.user:
            argv = ["unshare", "--mount", "sh", "-ec", " ".join([*self.private_system(), *server])]
        with open(self.log, "ab") as log:
            self.sshd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(self.ssh_answers, "sshd")

    def private_system(self):
        """As root sshd wants a directory that only a booted system has, and the user a shell and a home without
        start-up files: commands that give it both, for itself alone."""
        with open("/etc/passwd", encoding="utf-8") as file:
            lines = file.read().splitlines()
        mine = f"{self.account.pw_name}:x:{self.user[0]}:{self.user[1]}::{self.dir}/home:/bin/sh"
        with open(f"{self.ssh}/passwd", "w", encoding="utf-8") as file:
            file.writelines(f"{mine if line.startswith(self.account.pw_name + ':') else line}\n" for line in lines)
        return ["mount", "--bind", f"{self.ssh}/passwd", "/etc/passwd;", "mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs",
                "/run;", "mkdir", "/run/sshd;"]

    def ssh_answers(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    # --- who works for a command ---

    def daemons(self, *guests):
        """Pids of libvirtd, of the QEMUs of GUESTS, and of sshd."""
        paths = [f"{self.dir}/libvirtd.pid"] + [f"{self.dir}/run/libvirt/qemu/run/{guest}.pid" for guest in guests]
        pids = [self.sshd.pid]
        for path in paths:
            with open(path, encoding="ascii") as file:
                pids.append(int(file.read()))
        return pids
