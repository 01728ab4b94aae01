# SPDX-License-Identifier: Apache-2.0
"""What a command costs: wall time, CPU of all that works for it, peak memory; and rounds of several commands.

CPU is user + system of the command with its descendants, plus what the daemons that serve it (QEMU, libvirtd, sshd)
used meanwhile. Of programs that are installed side by side, each runs once in every round, so what else happens on
the machine meets all of them; ratios are taken within a round.
"""
import ctypes
import dataclasses
import os
import statistics
import subprocess
import threading
import time

TICK = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.01
DISTURBED = 0.2  # CPU seconds of others in a second


@dataclasses.dataclass
class Figures:
    """One run. None: not measured."""
    wall: float
    cpu: float | None  # seconds, of the command's processes
    cpu_served: float | None  # seconds, of QEMU, libvirtd and sshd
    rss: int | None  # bytes, peak of the command's own process; a shell's would mean nothing
    other: float  # CPU seconds of everybody else on this machine, stolen time included
    stored: int | None = None  # bytes
    bytes: int | None = None  # of plain data that were read
    stdout: str = ""

    @property
    def cpu_total(self):
        return None if self.cpu is None else self.cpu + self.cpu_served

    @property
    def seconds_per_gib(self):
        return None if self.bytes is None else self.wall / (self.bytes / (1 << 30))


class Failed(Exception):
    """A command that was to be measured, or needed for it, did not do its work."""


@dataclasses.dataclass
class Command:
    """Something to run: as USER (uid, gid; None: as we are), with ENV and nothing else in the environment."""
    argv: list
    env: dict
    user: tuple | None = None
    log: str = os.devnull


def cpu_of(pid):
    """CPU seconds of a process with its children that have ended, and those that run."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICK


def machine_cpu():
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK


def adopt_orphans():
    """Daemons that a command leaves become our children, so that their CPU time comes to us."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children():
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return {int(pid) for pid in file.read().split()}


def orphans_cpu(known, deadline_s=10):
    """Wait for the children that are not KNOWN; their CPU seconds."""
    total, end = 0.0, time.monotonic() + deadline_s
    while True:
        left = children() - known
        for pid in left:
            done, _, usage = os.wait4(pid, os.WNOHANG)
            if done:
                total += usage.ru_utime + usage.ru_stime
        if not left or time.monotonic() > end:
            return total
        time.sleep(0.005)


class PeakMemory(threading.Thread):
    """Watches the high-water mark of a process. Not rusage: that remembers us, whom it was forked from."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.path, self.bytes, self.ended = f"/proc/{pid}/status", 0, threading.Event()

    def run(self):
        while not self.ended.wait(SAMPLE_S):
            try:
                with open(self.path, encoding="ascii", errors="replace") as file:
                    for line in file:
                        if line.startswith("VmHWM:"):
                            self.bytes = int(line.split()[1]) * 1024
            except OSError:
                return

    def end(self):
        self.ended.set()
        self.join()
        return self.bytes


def measure(command, served_by=()):
    """Run COMMAND; Figures. SERVED_BY: the pids of the daemons that work for it. Raises Failed."""
    known = children()
    served, machine, own = [cpu_of(pid) for pid in served_by], machine_cpu(), time.process_time()
    uid, gid = command.user or (None, None)
    with open(command.log, "ab") as log:
        log.write(f"\n$ {' '.join(command.argv)}\n".encode())
        log.flush()
        start = time.monotonic()
        with subprocess.Popen(command.argv, env=command.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=log, user=uid, group=gid, extra_groups=[] if command.user else None) as process:
            memory = PeakMemory(process.pid)
            memory.start()
            try:
                stdout = process.stdout.read()
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            wall = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
        log.write(stdout)
    peak = memory.end()
    rss = None if command.argv[0] == "sh" else peak
    cpu = usage.ru_utime + usage.ru_stime + orphans_cpu(known)
    cpu_served = sum(cpu_of(pid) - before for pid, before in zip(served_by, served))
    if process.returncode != 0:
        raise Failed(f"exit status {process.returncode}: {' '.join(command.argv)}; see {command.log}")
    other = machine_cpu() - machine - cpu - cpu_served - (time.process_time() - own)
    return Figures(wall, cpu, cpu_served, rss, max(0.0, other), stdout=stdout.decode(errors="replace"))


def warm(paths):
    """Into the page cache."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            at, size = 0, os.fstat(file.fileno()).st_size
            while at < size:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                file.seek(at)
                at += len(file.read(4 << 20)) or size


def disk_usage(path):
    """Bytes that a file or tree takes on its disk, directories not counted."""
    if os.path.isfile(path):
        return os.stat(path).st_blocks * 512
    return sum(os.lstat(os.path.join(at, name)).st_blocks * 512 for at, _, files in os.walk(path) for name in files)


def wait_for_quiet(deadline_s):
    """Until the rest of the machine does little, or the deadline."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        before = machine_cpu()
        time.sleep(0.5)
        if machine_cpu() - before < 0.5 * DISTURBED:
            return


def quietest(run, patience_s):
    """RUN, again (once) when others used the machine meanwhile; the Figures of the least disturbed one."""
    best = None
    for _ in range(2):
        wait_for_quiet(patience_s)
        figures = run()
        if not best or figures.other / figures.wall < best.other / best.wall:
            best = figures
        if best.other < DISTURBED * best.wall + 0.05 or not patience_s:
            break
    return best


def rounds(n, runs, say, patience_s=0):
    """Call each of RUNS, a dict of name -> callable that returns Figures, N times, all once in each round.

    A dict of name -> list of Figures by round, None where a run failed; what fails is told by SAY, once, and not
    tried again.
    """
    results = {name: [] for name in runs}
    failed = set()
    for number in range(n):
        for name, run in runs.items():
            figures = None
            if name not in failed:
                try:
                    figures = quietest(run, patience_s)
                    say(f"  round {number + 1}: {name}: {figures.wall:.3f} s"
                        + (f", disturbed: {figures.other:.1f} s CPU" if figures.other > DISTURBED * figures.wall + 0.05
                           else ""))
                except Failed as failure:
                    failed.add(name)
                    say(f"  {name} failed: {failure}")
            results[name].append(figures)
    return results


def median(figures, attribute):
    """Median over the rounds that succeeded; None if none did or nothing was measured."""
    values = [getattr(figure, attribute) for figure in figures if figure]
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def ratio(figures, reference, attribute="wall"):
    """Median of the ratios within each round; None if there is none."""
    pairs = [(getattr(a, attribute), getattr(b, attribute)) for a, b in zip(figures, reference) if a and b]
    ratios = [a / b for a, b in pairs if a is not None and b]
    return statistics.median(ratios) if ratios else None
