# SPDX-License-Identifier: Apache-2.0
"""What is measured. A scenario takes a Bench and gives {name of the result: {program: [Figures by round]}}.

Sources are in the page cache before each run, programs take turns, and each has its own copy of the disk.
"""
import collections
import concurrent.futures
import dataclasses
import functools
import json
import os
import shutil

import measure
import programs
import workload


@dataclasses.dataclass
class Bench:
    """What all scenarios need."""
    lab: object
    load: workload.Workload
    rounds: int
    patience_s: float  # how long a run may wait until the machine is quiet
    without: list  # programs that are not wanted, by title
    drctl: str  # paths of programs
    floor: str
    points: str
    site: str
    steps: str
    guests: int  # of the crowd; 0: as many as there is memory for
    say: object  # prints a line
    versions: dict = dataclasses.field(default_factory=dict)
    absent: dict = dataclasses.field(default_factory=dict)

    def compare(self, used, run, rounds=None):
        """Let each program RUN once in each round."""
        return measure.rounds(rounds or self.rounds, {program.title: functools.partial(run, program) for program in used},
                              self.say, self.patience_s)

    def available(self, *wanted):
        """Those of the programs that are installed; the others are told."""
        there = []
        for program in wanted:
            missing = program.missing()
            why = "not wanted" if program.title in self.without else f"not found: {', '.join(missing)}" if missing else None
            if why:
                self.absent[program.title] = why
                self.say(f"  left out: {program.title}: {why}")
            else:
                self.versions[program.title] = program.version()
                there.append(program)
        return there


def files(directory):
    return [os.path.join(at, name) for at, _, names in os.walk(directory) for name in names]


def timed(bench, program, command, warm=()):
    measure.warm([*program.sources(), *warm])
    return program.figures(measure.measure(command, program.daemons()))


def prepared(bench, wanted):
    """A set-up copy for each program that can be set up."""
    for program in bench.available(*wanted):
        bench.say(f"  preparing {program.title}")
        program.set_up(bench.load)
        yield program


def drctl(bench, **options):
    return programs.Drctl(bench.lab, bench.drctl, **options)


def drctl_ssh(bench):
    return drctl(bench, title="drctl over ssh", identifier="drctl-ssh", remote=True)


def clean_up(used):
    """All at once: a guest may take seconds to go."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda program: program.clean_up(), used))


# --- saving ---


def full(bench):
    """A whole disk into an empty store."""
    def save(program):
        program.empty()
        figures = timed(bench, program, program.full())
        figures.stored = program.stored()
        return figures

    lab = bench.lab
    used = list(prepared(bench, [drctl(bench), drctl_ssh(bench), programs.Virtnbdbackup(lab), programs.QemuImg(lab),
                                 programs.Borg(lab), programs.Borg(lab, remote=True), programs.Restic(lab),
                                 programs.Restic(lab, remote=True), programs.Floor(lab, bench.floor)]))
    results = bench.compare(used, save)
    clean_up(used)
    return {"full": results}


def increments(bench, used, changes):
    """One increment in each round, after a full save; of CHANGES(number)."""
    numbers = collections.Counter()

    def save(program):
        numbers[program.title] += 1
        program.change(changes(numbers[program.title]))
        before = program.stored()
        figures = timed(bench, program, program.increment())
        figures.stored = program.stored() - before
        return figures

    for program in used:
        measure.measure(program.full())
    results = bench.compare(used, save)
    clean_up(used)
    return results


def changing(bench, *more):
    lab = bench.lab
    return list(prepared(bench, [drctl(bench), drctl_ssh(bench), *more, programs.Virtnbdbackup(lab), programs.Borg(lab),
                                 programs.Borg(lab, remote=True), programs.Restic(lab), programs.Restic(lab, remote=True),
                                 programs.Floor(lab, bench.floor)]))


def small(bench):
    """1 MiB in 12 extents has changed."""
    return {"small": increments(bench, changing(bench, programs.DrctlWarm(bench.lab, bench.drctl)), bench.load.small)}


def scattered(bench):
    """Much has changed, all over the disk."""
    return {"scattered": increments(bench, changing(bench), bench.load.scattered)}


def linear(bench):
    """The small increment, on the disk and on one that is ten times as large (with the same data on it)."""
    class Large(programs.Drctl):
        def copy_disk(self, load):
            super().copy_disk(load)
            self.lab.call("qemu-img", "resize", "-q", self.image, str(10 * load.bytes))

    wanted = [drctl(bench), Large(bench.lab, bench.drctl, "drctl, disk 10 times as large", "drctl-large")]
    return {"linear": increments(bench, list(prepared(bench, wanted)), bench.load.small)}


# --- bringing back ---


def restore(bench):
    """Bring back a full save with one scattered increment as a disk image; read and check all of that store."""
    lab = bench.lab
    own = drctl(bench)
    used = list(prepared(bench, [own, programs.Virtnbdbackup(lab), programs.Borg(lab), programs.Restic(lab)]))
    changes = bench.load.scattered(0)
    expected = lab.copy(bench.load.raw, "expected.raw")
    workload.write_raw(expected, changes)
    saved = 0
    for program in used:
        for save in (program.full, program.increment):
            if save == program.increment:
                program.change(changes)
            figures = measure.measure(save())
            if program is own:
                saved += programs.changed_bytes(figures)
    results = {"restore": restores(bench, [*used, programs.QemuImgChain(lab, own)], expected),
               "verify": verifies(bench, [program for program in used if program.can_verify])}
    for figures in results["verify"].get(own.title, []):
        if figures:
            figures.bytes = saved
    clean_up(used)
    os.unlink(expected)
    return results


def restores(bench, used, expected):
    checked = set()

    def bring_back(program):
        out = bench.lab.directory("images", "restored")
        measure.warm(files(program.store()))
        figures = measure.measure(program.restore(out))
        image = program.restored(out)
        figures.stored = measure.disk_usage(image)
        if program.title not in checked:
            workload.same_content(image, expected)
            checked.add(program.title)
        shutil.rmtree(out)
        return figures

    return bench.compare(used, bring_back)


def verifies(bench, used):
    def verify(program):
        measure.warm(files(program.store()))
        return measure.measure(program.verify())

    return bench.compare(used, verify)


# --- much of it ---


def fleet(bench):
    """Clones of one disk, each with changes of its own, in one store: all that it takes. Once: sizes do not vary.

    `one disk and the changes` is what cannot be had for less: the disk once, and each clone's changes.
    """
    lab, load = bench.lab, bench.load

    def clones(program):
        program.empty()
        cost = []
        for number in range(load.size.clones):
            program.become(load, number)
            program.change(load.clone(number))
            cost.append(timed(bench, program, program.increment()))
        return total(program, cost)

    def chain(program):
        program.empty()
        cost = [timed(bench, program, program.full())]
        for number in range(load.size.clones):
            program.change(load.clone(number))
            cost.append(timed(bench, program, program.increment()))
        return total(program, cost)

    def total(program, cost):
        return measure.Figures(sum(one.wall for one in cost), sum(one.cpu for one in cost),
                               sum(one.cpu_served for one in cost), max(one.rss for one in cost),
                               sum(one.other for one in cost), program.stored())

    used = list(prepared(bench, [drctl(bench), programs.Borg(lab), programs.Restic(lab)]))
    ideal = drctl(bench, title="one disk and the changes", identifier="drctl-ideal")
    ideal.set_up(load)
    results = bench.compare(used, clones, rounds=1) | bench.compare([ideal], chain, rounds=1)
    clean_up([*used, ideal])
    return {"fleet": results}


def points(bench):
    """`drctl points VM` in a store of very many points."""
    results = {}
    for program in prepared(bench, [programs.DrctlPoints(bench.lab, bench.drctl, bench.points)]):
        results = bench.compare([program], lambda program: measure.measure(program.list()))
        clean_up([program])
    return {"points": results}


def site(bench):
    """1,000 VMs in 50 vApps that are brought up at 20 hosts: checking and planning that; and what the journal of steps costs,
    of one VM and of 50 at once, on a disk: bench-steps does nothing else."""
    size, results = bench.load.size, {}
    for program in bench.available(programs.DrctlSite(bench.lab, bench.drctl, bench.site, size.vapps, 20, 20)):
        program.set_up(bench.load)
        store = os.path.join(program.site(), "store")
        commands = {"drctl plan check": program.drctl("plan", "check", "all"),
                    "drctl failover --dry-run": program.drctl("failover", "all", "--dry-run"),
                    "20 steps of one VM": bench.lab.command(bench.steps, store, 1),
                    "20 steps of 50 VMs": bench.lab.command(bench.steps, store, 50)}
        results = measure.rounds(bench.rounds, {name: functools.partial(measure.measure, command)
                                                for name, command in commands.items()}, bench.say, bench.patience_s)
        program.clean_up()
    return {"site": results}


GUEST_BYTES = 64 << 20  # what a QEMU with a guest of 16 MiB takes, with some room


def available_bytes():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))


def crowd(bench):
    """A failover of as many tiny guests as the machine carries, until all of them run. Once."""
    guests = min(bench.guests or available_bytes() * 3 // 4 // GUEST_BYTES, 1000)
    each = min(guests, 20)
    results = {}
    for program in bench.available(programs.DrctlSite(bench.lab, bench.drctl, bench.site, guests // each, each, 1)):
        program.set_up(bench.load)
        try:
            figures = measure.measure(program.drctl("failover", "all", "--yes", "--json"), program.lab.daemons())
            ran = sum(vm["state"] == "done" for vm in json.loads(figures.stdout)["vms"])
            bench.say(f"  {ran} guests run after {figures.wall:.1f} s")
            results = {f"drctl failover, {ran} guests": [figures]}
        finally:
            program.remove_guests()
        program.clean_up()
    return {"crowd": results}


SCENARIOS = {"full": full, "small": small, "scattered": scattered, "restore": restore, "fleet": fleet, "linear": linear,
             "points": points, "site": site, "crowd": crowd}
