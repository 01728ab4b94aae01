# SPDX-License-Identifier: Apache-2.0
"""The results as a text with tables (bench.md), a plot (bench.svg) and for programs (bench.json)."""
import dataclasses
import datetime
import json
import os
import platform

import measure
import plot
import targets

TITLES = {
    "full": "A whole disk into an empty store",
    "small": "An increment: 1 MiB in 12 extents has changed",
    "scattered": "An increment: {scattered} have changed, all over the disk",
    "restore": "A full save and a scattered increment back into a disk image",
    "verify": "All of that store read and checked",
    "fleet": "{clones} clones of the disk, each with {fleet} of its own, in one store",
    "linear": "The small increment on a disk that is ten times as large",
    "points": "drctl points VM in a store of {points} points",
    "site": "A site of {vms} VMs that is brought up at 20 hosts",
    "crowd": "A failover of as many tiny guests as the machine carries",
}


def number(value, unit=""):
    """Three digits; a dash for what is not known."""
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}{unit}"


def mebibytes(value):
    return None if value is None else value / (1 << 20)


def size(value):
    return f"{mebibytes(value):.4g} MiB" if value < 1 << 30 else f"{value / (1 << 30):.3g} GiB"


def table(header, rows):
    """A table of Markdown; all columns but the first stand right."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) * 1024
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}, {size(memory)}, Linux {platform.release()}"


def verdict(target, value):
    if value is None:
        return "not measured"
    if value <= target.limit:
        return "met"
    return f"missed: {number(value / target.limit)} x the limit"


@dataclasses.dataclass
class Report:
    """All that a run has found."""
    load: object
    rounds: int
    versions: dict  # program -> its version
    absent: dict  # program -> why it is not there
    results: dict  # name -> program -> [Figures or None]

    def title(self, name):
        of = self.load.size
        return TITLES[name].format(scattered=size(of.scattered), fleet=size(of.fleet), clones=of.clones, points=of.points,
                                   vms=20 * of.vapps)

    def rows(self, name):
        programs = self.results[name]
        for program, figures in programs.items():
            walls = [figure.wall for figure in figures if figure]
            if not walls:
                yield [program, "failed"] + ["-"] * 7
                continue
            rate = measure.ratio(figures, programs.get("drctl", []))
            yield [program, number(measure.median(figures, "wall")), f"{number(min(walls))} - {number(max(walls))}",
                   number(rate), number(measure.median(figures, "cpu")), number(measure.median(figures, "cpu_served")),
                   number(mebibytes(measure.median(figures, "stored"))), number(mebibytes(measure.median(figures, "rss"))),
                   number(measure.median(figures, "other"))]

    def target_rows(self):
        for target in targets.TARGETS:
            value = target.value(self.results)
            yield [f"{target.scenario}: {target.text()}", number(target.limit), number(value), verdict(target, value)]

    def reasons(self):
        """One line for each reason of missed targets, which names them."""
        missed = {}
        for target in targets.TARGETS:
            value = target.value(self.results)
            if target.why and value is not None and value > target.limit:
                missed.setdefault(target.why, []).append(f"{target.scenario}: {target.text()}")
        return [f"- {'; '.join(names)}: {why}" for why, names in missed.items()]

    def markdown(self):
        parts = [
            "# Benchmark\n",
            "Made by tests/bench/run, where README.md says what is measured and how; this file is generated.\n",
            f"{datetime.date.today()}, {machine()}. The disk: {size(self.load.bytes)}, {size(self.load.data_bytes)} of it in "
            f"use ({self.load.size.name}). Medians of {self.rounds} rounds, in which the programs take turns; ratios are "
            "medians of the ratios within a round. Sources are in the page cache.\n",
            "![Medians of wall time](bench.svg)\n",
            "## Targets\n",
            table(["what", "at most", "is", ""], self.target_rows()),
        ]
        reasons = self.reasons()
        if reasons:
            parts += ["Where targets are missed:\n", "\n".join(reasons) + "\n"]
        for name in self.results:
            parts += [f"## {self.title(name)}\n", table(
                ["program", "s", "min - max", "x drctl", "CPU s", "daemons' CPU s", "stored MiB", "peak MiB", "others' CPU s"],
                self.rows(name))]
        parts += ["## Versions\n", table(["program", "version"], sorted(self.versions.items()))]
        if self.absent:
            parts += ["Left out: " + "; ".join(f"{program} ({why})" for program, why in self.absent.items()) + ".\n"]
        return "\n".join(parts)

    def json(self):
        figures = {name: {program: [figure and {key: value for key, value in dataclasses.asdict(figure).items()
                                                if key != "stdout"} for figure in figures]
                          for program, figures in programs.items()} for name, programs in self.results.items()}
        checked = [{"target": f"{target.scenario}: {target.text()}", "limit": target.limit,
                    "value": target.value(self.results)} for target in targets.TARGETS]
        return {"date": str(datetime.date.today()), "machine": machine(), "rounds": self.rounds,
                "disk": {"name": self.load.size.name, "bytes": self.load.bytes, "data_bytes": self.load.data_bytes},
                "versions": self.versions, "absent": self.absent, "results": figures, "targets": checked}

    def svg(self):
        return plot.bars([(self.title(name), [(program, measure.median(figures, "wall")) for program, figures in
                                              programs.items() if measure.median(figures, "wall") is not None])
                          for name, programs in self.results.items()])

    def write(self, directory):
        os.makedirs(directory, exist_ok=True)
        for name, text in (("bench.md", self.markdown()), ("bench.svg", self.svg()),
                           ("bench.json", json.dumps(self.json(), indent=1) + "\n")):
            with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
                file.write(text)
