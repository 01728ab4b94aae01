# SPDX-License-Identifier: Apache-2.0
"""Bars in SVG: several groups below each other, each with a scale of its own."""
from xml.sax.saxutils import escape

WIDTH, LABEL, VALUE = 860, 250, 70  # of all, of the names, of the numbers behind the bars
LINE, BAR, TITLE, GAP = 20, 13, 26, 14
FONT = "font-family='system-ui, sans-serif'"
OURS, FLOOR, OTHER = "#1f6feb", "#8c959f", "#d0a215"


def colour(name):
    return OURS if name.startswith("drctl") else FLOOR if name in ("floor", "one disk and the changes") else OTHER


def seconds(value):
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1}f} s"


def bar(name, value, longest, y):
    width = max(1, value / longest * (WIDTH - LABEL - VALUE - GAP))
    middle = y + LINE / 2
    return [f"<text x='{LABEL - 8}' y='{middle + 4}' text-anchor='end' font-size='12' fill='#24292f'>{escape(name)}</text>",
            f"<rect x='{LABEL}' y='{middle - BAR / 2}' width='{width:.1f}' height='{BAR}' rx='2' fill='{colour(name)}'/>",
            f"<text x='{LABEL + width + 6:.1f}' y='{middle + 4}' font-size='12' fill='#57606a'>{seconds(value)}</text>"]


def bars(groups):
    """GROUPS of (title, [(name, seconds)]), as the text of an SVG file; the shortest bar of each group is on top."""
    parts, y = [], GAP
    for title, values in groups:
        if not values:
            continue
        parts.append(f"<text x='{GAP}' y='{y + 16}' font-size='14' font-weight='600' fill='#24292f'>{escape(title)}</text>")
        y += TITLE
        longest = max(value for _, value in values)
        for name, value in sorted(values, key=lambda entry: entry[1]):
            parts += bar(name, value, longest, y)
            y += LINE
        y += GAP
    return "\n".join([f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {y}' width='{WIDTH}' height='{y}' {FONT}>",
                      "<rect width='100%' height='100%' fill='#ffffff'/>", *parts, "</svg>", ""])
