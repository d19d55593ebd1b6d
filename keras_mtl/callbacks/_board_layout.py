"""Which series go on one chart of the dashboard."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from keras_mtl._types import Tasks
from keras_mtl.metrics._trackers import split_log

if TYPE_CHECKING:
    from tensorboard.plugins.custom_scalar.layout_pb2 import Chart, Layout


def layout(logs: Collection[str], tasks: Tasks, alone: bool = False) -> Layout:
    """The custom-scalars layout for what the first epoch logged.

    Args:
        logs: Collection of the names of the logs.
        tasks: Collection of names.
        alone: Boolean. Whether Keras' own callback writes nothing beside. Defaults
            to `False`.

    Returns:
        `Layout` protocol buffer. No chart of it is empty.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2

    of_tasks = {found for log in logs if (found := split_log(log, tasks))}
    of_tasks |= {(task, f"relative_{kind}") for task, kind in of_tasks if kind in ("loss", "val_loss")}
    kinds = sorted({rest for _, rest in of_tasks})

    def chart(title: str, *tags: Any) -> Chart:
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))

    def of_all(name: str) -> str:
        return f"^all tasks/{name}$" if alone else f"^epoch_{name}$"

    titles = {
        "relative_loss": "task losses, relative to the first epoch",
        "relative_val_loss": "task losses, relative to the first epoch, validation",
        "loss": "task losses",
        "val_loss": "task losses, validation",
        "weight": "task weights",
        "grad_norm": "gradient norms",
        "grad_share": "share of the trunk's update",
    }
    order = [*titles, *(kind for kind in kinds if kind not in titles)]
    together = [chart(titles.get(kind, _words(kind)), f"^task/{re.escape(kind)}$") for kind in order if kind in kinds]
    pairs = any(f"grad_cosine_{a}_{b}" in logs for a, b in itertools.combinations(tasks, 2))
    for title, name in (
        ("delta_m", "delta_m"),
        ("gradient cosine, mean of all pairs", "grad_cosine"),
        ("conflict rate", "conflict_rate"),
        ("dead experts", "dead_experts"),
    ):
        if name in logs or f"val_{name}" in logs:
            together.append(chart(title, of_all(name)))
        if name == "grad_cosine" and pairs:
            together.append(chart("gradient cosine of each pair", "^pair/cosine$"))
    by_task = []
    for task in tasks:
        for kind in kinds:
            if f"val_{task}_{kind}" in logs:
                title = f"{task} {_words(kind)}: training and validation"
                named = re.escape(f"{task}/{kind}" if alone else f"epoch_{task}_{kind}")
                by_task.append(chart(title, f"^{named}$"))
    categories = [layout_pb2.Category(title="all tasks", chart=together)]
    if by_task:
        categories.append(layout_pb2.Category(title="task by task", chart=by_task))
    return layout_pb2.Layout(category=categories)


def _words(kind: str) -> str:
    name = kind.removeprefix("val_").replace("_", " ")
    return f"{name}, validation" if kind.startswith("val_") else name
