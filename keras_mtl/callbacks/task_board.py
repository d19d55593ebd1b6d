"""A TensorBoard dashboard of the tasks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mtl._checks import is_integer
from keras_mtl._files import writable_folder
from keras_mtl._types import Structure
from keras_mtl.callbacks._board_graph import graph_def
from keras_mtl.callbacks._board_layout import layout
from keras_mtl.callbacks._board_overview import pictures
from keras_mtl.callbacks._board_text import compile_card, sharing_card
from keras_mtl.callbacks._board_writer import BoardWriter
from keras_mtl.callbacks._copied import CopiedCallback
from keras_mtl.callbacks._heat_map import heat_map
from keras_mtl.callbacks.conflict_monitor import ConflictMonitor
from keras_mtl.metrics._trackers import split_log
from keras_mtl.models._stage_graph import StageGraph


class TaskBoard(CopiedCallback):
    """Writes what the stock TensorBoard callback does not: the tasks, together.

    What opens first, under *1 at a glance*, are pictures: which task starves,
    and the tasks' losses, shares of the trunk's update and weights over the
    epochs, without smoothing and with every value. TensorBoard gives each run
    one color, so every task is a run of its own:
    `<log_dir>/<task>` has the task's logs as `task/loss`, `task/val_loss`,
    `task/weight` and so on, and `task/relative_loss`, the loss divided by that
    of the first epoch; every pair of tasks is one too, where their cosines are
    logged. A custom-scalars layout puts all tasks on one
    chart for each of them, training against validation on one for each task,
    and charts of delta_m and gradient cosines. `<log_dir>/tasks` has heat
    maps of the gradients' agreement by stage and of gates, units and other
    sharing coefficients; text cards of the architecture and the compile
    settings; histograms of weighting state; and the model's graph.

    It can stand beside `keras.callbacks.TensorBoard(log_dir)`, which puts each
    log into a group of its own. Without that one, it writes training and
    validation too, in one group for each task. Callbacks that add to the logs come before it in the list.

    Args:
        log_dir: Path of the log directory, the same as the stock callback's.
        conflict_monitor: A `ConflictMonitor` of the same `fit`, for the heat maps of
            the gradients. Defaults to `None`.
        x: Inputs for gates and masks that depend on the example; they are left
            out of the heat maps without it. Defaults to `None`.
        images_every: Integer. Epochs between two pictures, of which the last
            epoch has one in any case; 0 for none. Defaults to `1`.

    Raises:
        ValueError: If the directory cannot be written to; when training
            begins, if the monitor does not come before it.

    Example:

    >>> board = keras_mtl.callbacks.TaskBoard("runs/a")
    """

    _of_training = ("_writer", "_stages")

    def __init__(
        self,
        log_dir: str | os.PathLike,
        conflict_monitor: ConflictMonitor | None = None,
        x: Structure | None = None,
        images_every: int = 1,
    ) -> None:
        super().__init__()
        if conflict_monitor is not None and not isinstance(conflict_monitor, ConflictMonitor):
            raise ValueError(f"`conflict_monitor` should be a `ConflictMonitor`. Received: {conflict_monitor!r}")
        if not is_integer(images_every) or images_every < 0:
            raise ValueError(f"`images_every` should be an integer of at least 0. Received: {images_every!r}")
        self.log_dir = str(log_dir)
        self.conflict_monitor = conflict_monitor
        self.x = x
        self.images_every = images_every
        writable_folder(self.log_dir, "log_dir")
        self._files_before = self._stock_files()

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self.conflict_monitor is not None and not self.conflict_monitor.layers:
            raise ValueError(
                "`conflict_monitor` should come before `TaskBoard` in the callbacks. "
                "Received: one that has not begun yet"
            )
        tasks = self.model.compiled_tasks.tasks
        self._owners = (*tasks, "shared")
        self._pairs = {f"grad_cosine_{a}_{b}": f"{a} and {b}" for a, b in itertools.combinations(tasks, 2)}
        self._stages = StageGraph(self.model)
        self._has_layout, self._first, self._epochs = False, {}, []
        self._undrawn: tuple[int, Mapping[str, Any]] | None = None
        self._writer = BoardWriter(self.log_dir)
        self._writer.text("tasks", "sharing", sharing_card(self.model))
        self._writer.text("tasks", "compile", compile_card(self.model))
        self._writer.graph("tasks", graph_def(self.model))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        logs = {name: value for name, value in (logs or {}).items() if np.ndim(value) == 0}
        if not self._has_layout:
            self._write_layout(logs)
        for log, value in logs.items():
            self._add_log(log, value)
        self._epochs.append({log: float(value) for log, value in logs.items() if not log.startswith("val_")})
        for variable in self.model.compiled_tasks.weighting.variables:
            if "float" in str(variable.dtype):
                self._writer.histogram("tasks", f"weighting/{variable.name}", variable)
        self._undrawn = (epoch, logs)
        if self.images_every and epoch % self.images_every == 0:
            self._draw(logs)
        self._writer.write(epoch)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self.images_every and self._undrawn is not None:
            epoch, logs = self._undrawn
            self._draw(logs)
            self._writer.write(epoch)
        self._writer.close()
        self._files_before = self._stock_files()

    def _draw(self, logs: Mapping[str, Any]) -> None:
        """Adds the pictures of the last epoch."""
        self._undrawn = None
        for title, pixels in pictures(self.model.compiled_tasks.tasks, self._epochs).items():
            self._writer.image("tasks", title, pixels)
        for title, table in self._tables(logs).items():
            rows, columns, values = table
            self._writer.image("tasks", title, heat_map(rows, columns, values, "conflict" in title))

    def _add_log(self, log: str, value: float) -> None:
        of_task = split_log(log, self._owners)
        if of_task is not None:
            task, name = of_task
            self._writer.scalar(task, f"task/{name}", value)
            if name in ("loss", "val_loss") and self._first.setdefault(log, value):
                self._writer.scalar(task, f"task/relative_{name}", value / self._first[log])
        elif log in self._pairs:  # each pair is a run, and so has a color and a name
            self._writer.scalar(self._pairs[log], "pair/cosine", value)
        if self._alone:
            run = "validation" if log.startswith("val_") else "train"
            group, name = of_task or ("all tasks", log)
            self._writer.scalar(run, f"{group}/{name.removeprefix('val_')}", value)

    def _write_layout(self, logs: Mapping[str, Any]) -> None:
        """Writes the layout, once it is known what there is to chart."""
        from tensorboard.plugins.custom_scalar import summary

        # The stock callback opens its file as it gets its model, before or after this one gets it.
        self._alone = self._stock_files() == self._files_before
        self._writer.add("tasks", summary.pb(layout(logs, self._owners, self._alone)))
        self._writer.write(0)
        self._has_layout = True

    def _stock_files(self) -> set[str]:
        folder = os.path.join(self.log_dir, "train")
        return set(os.listdir(folder)) if os.path.isdir(folder) else set()

    def _tables(self, logs: Mapping[str, Any]) -> dict[str, tuple[list[str], list[str], np.ndarray]]:
        """Heat maps by title: rows, columns and values."""
        tables = {}
        if self.conflict_monitor is not None and len(self.conflict_monitor.tasks) > 1:
            tables.update(_gradient_tables(self.conflict_monitor, logs))
        for title, table in self._stages.tables(self._stages.read(self.x)).items():
            tables[f"sharing/{title}"] = table
        return tables


def _gradient_tables(
    monitor: ConflictMonitor, logs: Mapping[str, Any]
) -> dict[str, tuple[list[str], list[str], np.ndarray]]:
    """Tables of the epoch's task gradients, for pairs and by stage."""
    tasks = list(monitor.tasks)
    stages = [*(name.removeprefix("shared_") for name in monitor.layers), "all"]
    pairs = [f"{a},\n{b}" for a, b in itertools.combinations(tasks, 2)]
    first, second = np.triu_indices(len(tasks), 1)

    def of_pairs(by_stage: np.ndarray, total: np.ndarray) -> tuple[list[str], list[str], np.ndarray]:
        return stages, pairs, np.vstack([by_stage[:, first, second], total[first, second]])

    names = ("cosine", "magnitude_similarity")
    cosine, similarity = ((monitor.epoch_mean(name), monitor.epoch_mean(f"total_{name}")) for name in names)
    negative = np.mean([entry["total_cosine"] < 0 for entry in monitor.epoch_entries], axis=0)
    tables = {
        "gradients/cosine": (tasks, tasks, cosine[1]),
        "gradients/cosine by stage": of_pairs(*cosine),
        "gradients/magnitude similarity by stage": of_pairs(*similarity),
        "gradients/conflict rate by stage": of_pairs(monitor.conflict_rates(monitor.epoch_entries), negative),
    }
    weights = [logs.get(f"{task}_weight") for task in tasks]
    if None not in weights:
        shares = [monitor.grad_shares(weights), monitor.grad_shares(weights, "total_grad_norm")]
        tables["gradients/share of the update by stage"] = (stages, tasks, np.vstack(shares))
    return tables
