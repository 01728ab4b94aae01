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


TARGETS = (
    Target("full", 0.45, "virtnbdbackup"),
    Target("full", 0.65, "qemu-img convert"),
    Target("full", 0.65, "borg"),
    Target("full", 1.3, "floor"),
    Target("full", 1.0, "qemu-img convert", "cpu_total"),
    Target("full", 1.0, "borg", "cpu_total"),
    Target("full", 1.06, "borg", "stored"),
    Target("full", 1.25, "drctl", program="drctl over ssh"),
    Target("small", 0.2),
    Target("small", 0.35, program="drctl over ssh"),
    Target("small", 0.15, program="drctl over ssh (connected)"),
    Target("scattered", 0.35, "virtnbdbackup"),
    Target("scattered", 1.01, "floor", "stored"),
    Target("restore", 0.5, "virtnbdbackup"),
    Target("restore", 1.0, "qemu-img convert of drctl's chain"),
    Target("verify", 1.0, attribute="seconds_per_gib"),
    Target("fleet", 1.1, "one disk and the changes", "stored"),
    Target("fleet", 1.15, "borg", "stored"),
    Target("linear", 1.3, "drctl", program="drctl, disk 10 times as large"),
    Target("points", 0.05),
)
