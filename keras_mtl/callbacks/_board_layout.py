"""Which series go on one chart of the dashboard."""

import re


def split_log(log, tasks):
    """The task of a log and the rest of its name.

    Args:
        log: String, such as `"val_left_loss"`.
        tasks: Collection of names.

    Returns:
        Tuple such as `("left", "val_loss")`, or `None` where the log is no
        task's. Where the names of two tasks fit, the longer one counts.
    """
    prefix = "val_" if log.startswith("val_") else ""
    rest = log[len(prefix) :]
    owners = [task for task in tasks if rest.startswith(f"{task}_")]
    if not owners:
        return None
    task = max(owners, key=len)
    return task, prefix + rest[len(task) + 1 :]


def layout(logs, tasks):
    """The custom-scalars layout for what the first epoch logged.

    Args:
        logs: Collection of the names of the logs.
        tasks: Collection of names.

    Returns:
        `Layout` protocol buffer. No chart of it is empty.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2

    of_tasks = {split_log(log, tasks) for log in logs} - {None}
    of_tasks |= {(task, f"relative_{kind}") for task, kind in of_tasks if kind in ("loss", "val_loss")}
    kinds = sorted({rest for _, rest in of_tasks})

    def chart(title, *tags):
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))

    titles = {
        "loss": "task losses",
        "val_loss": "task losses, validation",
        "relative_loss": "task losses, relative to the first epoch",
        "relative_val_loss": "task losses, relative to the first epoch, validation",
        "weight": "task weights",
        "grad_norm": "gradient norms",
        "grad_share": "share of the trunk's update",
    }
    order = [*titles, *(kind for kind in kinds if kind not in titles)]
    together = [chart(titles.get(kind, _words(kind)), f"^task/{re.escape(kind)}$") for kind in order if kind in kinds]
    for title, pattern in (
        ("delta_m", "delta_m"),
        ("gradient cosine", "grad_cosine.*"),
        ("conflict rate", "conflict_rate"),
        ("dead experts", "dead_experts"),
    ):
        named = re.compile(f"(val_)?{pattern}")
        if any(named.fullmatch(log) and split_log(log, tasks) is None for log in logs):
            together.append(chart(title, f"^epoch_{pattern}$"))
    by_task = []
    for task in tasks:
        for kind in kinds:
            if f"val_{task}_{kind}" in logs:
                title = f"{task} {_words(kind)}: training and validation"
                by_task.append(chart(title, f"^epoch_{re.escape(task)}_{re.escape(kind)}$"))
    categories = [layout_pb2.Category(title="all tasks", chart=together)]
    if by_task:
        categories.append(layout_pb2.Category(title="task by task", chart=by_task))
    return layout_pb2.Layout(category=categories)


def _words(kind):
    name = kind.removeprefix("val_").replace("_", " ")
    return f"{name}, validation" if kind.startswith("val_") else name
