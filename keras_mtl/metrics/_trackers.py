"""Trackers of task losses and weights, each with its own count, and the names of the logs."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl._types import Tasks, Tensor

if TYPE_CHECKING:
    from keras_mtl.training.static_weights import StaticWeights


def split_log(log: str, tasks: Collection[str]) -> tuple[str, str] | None:
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


class Tracker(keras.metrics.Metric):
    """A metric that starts from 0 at little cost, since each `fit` and each epoch does."""

    def reset_state(self) -> None:
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape, "float32"))


class TaskMeans(Tracker):
    """Weighted means of K numbers, one for each task, in the logs by name.

    Args:
        tasks: Tuple of K task names.
        suffix: String. The logs are named `<task>_<suffix>`.
        empty: 0 or NaN. What is logged where nothing was counted. Defaults
            to 0.
    """

    def __init__(self, tasks: Tasks, suffix: str, empty: float = 0.0) -> None:
        super().__init__(name=f"task_{suffix}")
        self.log_names = tuple(f"{task}_{suffix}" for task in tasks)
        self._empty = empty
        # Totals and counts: one variable, since every step adds to it and every `fit` resets it.
        self.sums = self.add_weight(shape=(2, len(tasks)), initializer="zeros", name="sums")

    @property
    def totals(self) -> Tensor:
        """Sums of what was counted, of shape `(K,)`."""
        return self.sums.value[0]

    @property
    def counts(self) -> Tensor:
        """Tensor of shape `(K,)`."""
        return self.sums.value[1]

    def update_state(self, values: Tensor, counts: Tensor) -> None:
        """Adds the values of one batch, of shape `(K,)`, each with its count."""
        values = ops.where(counts > 0, values, ops.zeros_like(values))
        self.sums.assign_add(ops.stack([values * counts, counts]))

    def means(self) -> Tensor:
        """The means so far, of shape `(K,)`; `empty` where nothing was counted."""
        totals, counts = ops.unstack(self.sums.value)
        return ops.divide_no_nan(totals, counts) if self._empty == 0 else totals / counts  # 0 / 0 is NaN

    def result(self) -> dict[str, Tensor]:
        return dict(zip(self.log_names, ops.unstack(self.means()), strict=True))


class TaskPairs(Tracker):
    """Mean cosine of every pair of task gradients, and how often it is negative.

    The logs are `grad_cosine_<task>_<task>`, a mean over the steps in which
    both tasks were present, and `conflict_rate`, the share of present pairs
    whose cosine is negative.

    Args:
        tasks: Tuple of K task names.
    """

    def __init__(self, tasks: Tasks) -> None:
        super().__init__(name="task_pairs")
        self.names = [f"grad_cosine_{a}_{b}" for a, b in itertools.combinations(tasks, 2)]
        self.log_names = (*self.names, "conflict_rate")
        self._pairs = tuple(np.triu_indices(len(tasks), 1))
        shape = (len(self.names),)
        self.totals = self.add_weight(shape=shape, initializer="zeros", name="totals")
        self.conflicts = self.add_weight(shape=shape, initializer="zeros", name="conflicts")
        self.counts = self.add_weight(shape=shape, initializer="zeros", name="counts")

    def update_state(self, cosines: Tensor, pairs: Tensor) -> None:
        """Adds one step.

        Args:
            cosines: Float tensor of shape `(K, K)`.
            pairs: Float tensor of shape `(K, K)`. 1 where both tasks are
                present, else 0.
        """
        first, second = self._pairs
        size = cosines.shape[0]
        where = first * size + second
        cosines, pairs = (ops.take(ops.reshape(matrix, (-1,)), where) for matrix in (cosines, pairs))
        self.totals.assign_add(cosines * pairs)
        self.conflicts.assign_add(ops.cast(cosines < 0, "float32") * pairs)
        self.counts.assign_add(pairs)

    def result(self) -> dict[str, Tensor]:
        means = ops.divide_no_nan(self.totals.value, self.counts.value)
        rate = ops.divide_no_nan(ops.sum(self.conflicts), ops.sum(self.counts))
        return {**dict(zip(self.names, ops.unstack(means), strict=True)), "conflict_rate": rate}


class TotalLoss(Tracker):
    """The static-weights total: `sum_k c_k L_k` and what layers add.

    It is made of the tasks' means, so it agrees with the logged task losses
    whatever the batch sizes and gaps, and it does not depend on the dynamic
    weights. Tasks without a labelled example are left out.

    Args:
        task_losses: A `TaskMeans` of the task losses.
        static_weights: `StaticWeights`.
        empty_is_nan: Function that says whether the total is NaN, not 0,
            where no task has a labelled example.
    """

    def __init__(self, task_losses: TaskMeans, static_weights: StaticWeights, empty_is_nan: Callable[..., Any]) -> None:
        super().__init__(name="loss")

        # A closure: attributes would be tracked, and their variables reset, twice.
        def tasks_total() -> Tensor:
            totals, counts = ops.unstack(task_losses.sums.value)
            total = ops.sum(ops.multiply(ops.divide_no_nan(totals, counts), static_weights.value))
            return ops.where(ops.any(counts > 0), total, np.nan) if empty_is_nan() else total

        self._tasks_total = tasks_total
        self.added = self.add_weight(shape=(2,), initializer="zeros", name="added")  # their sum, and the examples

    def update_state(self, added: Tensor, batch_size: int) -> None:
        """Adds one batch's regularization and `add_loss` terms."""
        self.added.assign_add(ops.stack([ops.cast(added, "float32") * batch_size, batch_size]))

    def result(self) -> Tensor:
        return self._tasks_total() + ops.divide_no_nan(*ops.unstack(self.added.value))


def names_of(tracker: keras.metrics.Metric) -> list[str]:
    """Names of the logs that a tracker is known to give, in their order."""
    return list(getattr(tracker, "log_names", (tracker.name,)))


def check_log_names(
    model: str,
    evaluation: Sequence[keras.metrics.Metric],
    training: Sequence[keras.metrics.Metric],
    others: Sequence[keras.metrics.Metric],
) -> None:
    """Raises where two numbers would have the same name in the logs of `fit`.

    Args:
        model: String. Name of the model.
        evaluation: List of the trackers of evaluation.
        training: List of all trackers.
        others: List of the metrics that the model has besides.
    """
    of_evaluation = [name for tracker in [*evaluation, *others] for name in names_of(tracker)]
    names = [name for tracker in [*training, *others] for name in names_of(tracker)]
    names += [f"val_{name}" for name in of_evaluation]
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"The logs of model '{model}' should have names of their own, made of the names of tasks and metrics, with "
            "'val_' before those of validation. Rename a task, or a metric by its `name`. "
            f"Received: two logs named {', '.join(repr(name) for name in twice)}"
        )
