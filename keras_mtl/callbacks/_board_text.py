"""The text cards of a dashboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

# What Markdown, its tables or HTML would read as something else than itself.
_MARKUP = re.compile(r"[\\`*\[\]<>|&!~#$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def as_it_is(text: object) -> str:
    """Text that Markdown shows as it is, on one line, whatever it holds."""
    return _MARKUP.sub(lambda found: f"&#{ord(found.group())};", " ".join(str(text).split()))


def sharing_card(model: MultiTaskModel) -> str:
    """Which layers serve which tasks, as a Markdown table."""
    sharing = model.sharing
    lines = ["| layer | parameters | tasks | |", "|---|---:|---|---|"]
    for layer in sharing.layers:
        served = sharing.tasks_of(layer)
        whose = "all tasks" if len(served) == len(model.tasks) else as_it_is(", ".join(served))
        state = "" if layer.trainable_variables else "frozen"
        lines.append(f"| {as_it_is(layer.name)} | {layer.count_params():,} | {whose} | {state} |")
    lines.append(f"| **all** | **{sum(layer.count_params() for layer in sharing.layers):,}** | | |")
    return "\n".join(lines)


def compile_card(model: MultiTaskModel) -> str:
    """What `compile` was given, as a Markdown table."""
    compiled = model.compiled_tasks
    lines = ["| setting | value |", "|---|---|"]
    lines.append(f"| optimizer | {as_it_is(_optimizer(model.optimizer))} |")
    lines.append(f"| weighting | {as_it_is(repr(compiled.weighting))} |")
    if compiled.takes_task_gradients:
        lines.append(f"| gradients | {as_it_is(compiled.gradients)} |")
    for task, weight in model.task_weights().items():
        loss = compiled.task_losses.losses[task]
        metrics = [metric.name.removeprefix(f"{task}_") for metric in compiled.task_metrics if metric.task == task]
        also = f", metrics {', '.join(metrics)}" if metrics else ""
        about = f"{getattr(loss, 'name', loss)}, static weight {weight:g}{also}"
        lines.append(f"| {as_it_is(task)} | {as_it_is(about)} |")
    if compiled.delta_m is not None:
        for task, of_task in compiled.delta_m.baselines.items():
            values = ", ".join(f"{metric} {value:.4g}" for metric, value in of_task.items())
            lines.append(f"| {as_it_is(task)} alone | {as_it_is(values)} |")
    return "\n".join(lines)


def _optimizer(optimizer: keras.optimizers.Optimizer) -> str:
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    rate = optimizer.get_config().get("learning_rate")
    if isinstance(rate, dict):
        rate = rate["class_name"]
    elif isinstance(rate, float):
        rate = f"{rate:.3g}"
    return type(optimizer).__name__ + (f", learning rate {rate}" if rate is not None else "")
