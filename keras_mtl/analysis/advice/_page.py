"""The report of `advise` as one page of HTML without further files."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._colors import color, task_colors
from keras_mtl.analysis.advice._decide import signed
from keras_mtl.metrics.directions import higher_is_better

if TYPE_CHECKING:
    from keras_mtl.analysis.advice.advice import Advice
    from keras_mtl.metrics._affinity import Affinity

_HELPS = "Percent that a step for the row's task takes off the loss of the column's, means over the watched training."
_ALIKE = "Rank correlation of what the tasks' columns, trained alone, find alike; mean over the stages."
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5d6875; --line: #d9dee5; --back: #ffffff; --box: #f4f6f9;
  --good: #2e7d4f; --bad: #b3402a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf0; --soft: #a3adba; --line: #3a4350; --back: #171c23;
  --box: #212832; --good: #6fc08f; --bad: #ef8a74; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.2rem; color: var(--ink); background: var(--back);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .6rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.verdict { background: var(--box); border-left: 4px solid var(--good); padding: .8rem 1rem; margin: 0; }
.note { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child, td.words, th.words { text-align: left; }
td.words { min-width: 10rem; }
tr.chosen td { font-weight: 600; background: var(--box); }
pre { background: var(--box); padding: 1rem; overflow-x: auto; font-size: .8125rem; line-height: 1.45; }
svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } svg .zero { stroke: var(--soft); stroke-dasharray: 3 3; }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }
"""


def page_of(advice: Advice) -> str:
    """The page.

    Args:
        advice: `Advice`.

    Returns:
        String.
    """
    sections = [
        ("What the test says", _forest(advice)),
        ("What is shared", _sharing(advice)),
        ("What was seen", _findings(advice)),
        ("Candidates", _candidates(advice)),
        ("Curves on validation examples", _curves(advice)),
        ("Which task helps which", _affinity(advice.affinity, _HELPS, factor=100)),
        ("Whose features are alike", _affinity(advice.watched.similarity, _ALIKE, largest=1.0)),
        ("Code of the chosen model", f"<pre>{html.escape(advice.code())}</pre>"),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections if content)
    origin = "" if advice.origin is None else f" {html.escape(advice.origin)}"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(advice.sharing)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{html.escape(advice.sharing)}</h1>"
        f'<p class="verdict">{html.escape(advice.verdict)}</p>{body}'
        f'<p class="note">{html.escape(advice.plan)}. It took {advice.seconds:.0f} s.{origin}</p>'
        "</main></body></html>\n"
    )


def _findings(advice: Advice) -> str:
    items = "".join(f"<li>{html.escape(finding.text)}</li>" for finding in advice.findings)
    return f"<ul>{items}</ul>"


def _forest(advice: Advice) -> str:
    """Gains with their intervals, all tasks together at the bottom."""
    if advice.test is None:
        return ""
    rows = [(task, *numbers) for task, numbers in advice.test["gains"].items()]
    rows.append(("all (delta_m)", advice.test["delta_m"], *(advice.test["interval"] or (None, None))))
    ends = [value for row in rows for value in row[1:] if value is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    margin = 0.05 * (high - low or 1.0)
    low, high = low - margin, high + margin
    left, width, step = 120, 260, 26
    height = step * len(rows) + 34

    def place(value: float) -> float:
        return left + width * (value - low) / (high - low)

    parts = [f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="6" y2="{height - 26}"/>']
    for value in _ticks(low, high):
        tick = f"{value:+g}" if value else "0"
        parts.append(f'<text x="{place(value):.1f}" y="{height - 8}" text-anchor="middle">{tick}</text>')
    for i, (name, mean, bottom, top) in enumerate(rows):
        y = 18 + step * i
        color = "var(--soft)"
        if bottom is not None:
            color = "var(--good)" if bottom > 0 else "var(--bad)" if top < 0 else color
            parts.append(
                f'<line x1="{place(bottom):.1f}" x2="{place(top):.1f}" y1="{y}" y2="{y}" stroke="{color}" '
                'stroke-width="2"/>'
            )
        text = html.escape(_short(name))
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{text}</text>')
        parts.append(f'<circle cx="{place(mean):.1f}" cy="{y}" r="4.5" fill="{color}"/>')
        parts.append(f'<text x="{left + width + 8}" y="{y + 4}">{signed(mean)}</text>')
    seeds = advice.test["seeds"]
    note = (
        f"Gains of {html.escape(advice.test['of'])} in percent over {html.escape(advice.test['against'])}, "
        f"{seeds} fresh seed{'s' * (seeds > 1)}."
    )
    if seeds > 1:
        note += " Intervals of 95 %, those of the tasks shared out over all of them."
    label = "Gain of each task with its interval"
    return f'{_svg(left + width + 60, height, parts, label)}<p class="note">{note}</p>'


def _sharing(advice: Advice) -> str:
    """Stages from left to right, a box for each group that shares one."""
    tree = advice.tree
    if tree is None:
        return f"<p>{html.escape(advice.sharing)}: features of all columns or experts are mixed.</p>"
    tasks = advice.tasks
    colors = task_colors(tasks)
    order = [task for group in tree[-1] for task in group]  # groups that share lie next to each other
    row, column, left = 30, 130, 8
    parts = []
    for index, groups in enumerate(tree):
        x = left + column * index
        for group in groups:
            places = [order.index(task) for task in group]
            top, high = row * min(places) + 28, row * (max(places) - min(places) + 1) - 8
            share = high / len(group)
            for i, task in enumerate(group):
                parts.append(
                    f'<rect x="{x}" y="{top + share * i:.1f}" width="{column - 30}" height="{share:.1f}" '
                    f'fill="{colors[task]}" fill-opacity=".75"/>'
                )
            parts.append(
                f'<rect x="{x}" y="{top}" width="{column - 30}" height="{high}" fill="none" '
                'stroke="var(--ink)" rx="3"/>'
            )
        parts.append(f'<text x="{x + (column - 30) / 2}" y="16" text-anchor="middle">stage {index + 1}</text>')
    x = left + column * len(tree)
    for i, task in enumerate(order):
        parts.append(f'<text x="{x}" y="{row * i + 28 + 15}">{html.escape(_short(task))}</text>')
    return _svg(x + 140, row * len(order) + 34, parts, "Which tasks share which stages")


def _candidates(advice: Advice) -> str:
    heads = ["candidate", "delta_m", *advice.metrics, "epochs", "seeds", "parameters", "ms/step", "s"]
    header = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    header += '<th class="words">outcome</th>'
    rows = reasons = ""
    for each in advice.candidates:
        delta = each["delta_m"]
        cells = [html.escape(each["name"]), signed(np.mean(delta)) if delta else "–"]
        cells += [signed(each["gains"][task]) if task in each["gains"] else "–" for task in advice.metrics]
        cells += [str(each["epochs"]), str(len(each["seeds"])), f"{each['parameters']:,}", f"{each['step_ms']:.2f}"]
        cells += [f"{each['seconds']:.1f}"]
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        row += f'<td class="words">{html.escape(each["outcome"])}</td>'
        reasons += f"<li>{html.escape(each['name'])}: {html.escape(each['reason'])}</li>"
        rows += f"<tr{' class=chosen' if each['name'] == advice.name else ''}>{row}</tr>"
    left_out = "".join(f"<li>{html.escape(n)}: {html.escape(why)}</li>" for n, why in advice.left_out.items())
    more = f'<p class="note">Left out:</p><ul>{left_out}</ul>' if left_out else ""
    note = "Gains in percent over single-task columns on validation examples, at the same epochs and seeds."
    table = f'<div class="wide"><table><tr>{header}</tr>{rows}</table></div>'
    return f'{table}<p class="note">{note}</p><ul>{reasons}</ul>{more}'


def _curves(advice: Advice) -> str:
    """A panel for each task: the chosen candidate, one that was overturned, single-task and the fully shared one."""
    wanted = (advice.name, advice.overturned, "nothing shared", "all shared")
    names = [name for name in wanted if name is not None and name in advice.curves]
    names = list(dict.fromkeys(names))
    panels = []
    for task, metric in advice.metrics.items():
        log = f"{task}_{metric}"
        lines = {
            name: {epoch: values[log] for epoch, values in enumerate(advice.curves[name], 1) if log in values}
            for name in names
        }
        lines = {name: line for name, line in lines.items() if len(line) > 1 and all(map(math.isfinite, line.values()))}
        if not lines:
            continue
        reached = [value for line in lines.values() for value in line.values()]
        low, high = min(reached), max(reached)
        longest, span = max(map(max, lines.values())), high - low or 1.0
        parts = ['<line class="axis" x1="58" x2="300" y1="150" y2="150"/>']
        parts += [f'<text x="54" y="{y}" text-anchor="end">{v:.3g}</text>' for v, y in ((low, 150), (high, 20))]
        parts.append(f'<text x="300" y="166" text-anchor="end">epoch {longest}</text>')
        for i, line in enumerate(lines.values()):
            points = " ".join(
                f"{60 + 238 * (e - 1) / (longest - 1):.1f},{148 - 130 * (v - low) / span:.1f}" for e, v in line.items()
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{color(i)}" stroke-width="2"/>')
        better = "more" if higher_is_better(metric, advice.directions) else "less"
        title = f'<p class="note">{html.escape(task)}: {html.escape(metric)} ({better} is better)</p>'
        panels.append(f"<div>{title}{_svg(306, 172, parts, f'Curves of {log}')}</div>")
    legend = " ".join(f'<span style="color:{color(i)}">■</span> {html.escape(name)}' for i, name in enumerate(names))
    return f'<p class="note">{legend}</p><div class="curves">{"".join(panels)}</div>' if panels else ""


def _affinity(affinity: Affinity | None, note: str, factor: int = 1, largest: float | None = None) -> str:
    """A table colored by value: fully at `largest`, by default the largest value there is."""
    if affinity is None:
        return ""
    values, tasks = affinity.values, affinity.tasks
    off = values[~np.eye(len(tasks), dtype=bool)]
    if largest is None:
        largest = float(np.nanmax(np.abs(off))) if np.isfinite(off).any() else 1.0
    header = "<th></th>" + "".join(f"<th>{html.escape(task)}</th>" for task in tasks)
    rows = ""
    for i, source in enumerate(tasks):
        cells = ""
        for j in range(len(tasks)):
            value = values[i, j]
            if i == j or not math.isfinite(value):
                cells += "<td>–</td>"
                continue
            strength = min(0.7, 0.7 * abs(value) / (largest or 1.0))
            color = f"rgba({'46,125,79' if value > 0 else '179,64,42'},{strength:.2f})"
            cells += f'<td style="background:{color}">{factor * value:+.3g}</td>'
        rows += f"<tr><td>{html.escape(source)}</td>{cells}</tr>"
    return f'<div class="wide"><table><tr>{header}</tr>{rows}</table></div><p class="note">{note}</p>'


def _svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if (high - low) / s <= 6)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
