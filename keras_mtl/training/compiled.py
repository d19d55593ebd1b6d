"""What runs when a compiled model trains: losses, weighting, penalties and trackers."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_mtl import weighting as weightings
from keras_mtl._checks import check_number
from keras_mtl._float64 import float64
from keras_mtl._keras_private import layers_of
from keras_mtl._types import Tensor
from keras_mtl.losses.names import loss_kind
from keras_mtl.metrics._task_metric import make_task_metrics
from keras_mtl.metrics._trackers import TaskMeans, TaskPairs, TotalLoss, check_log_names, names_of
from keras_mtl.penalties._of_model import Penalties
from keras_mtl.training.faults import Faults
from keras_mtl.training.static_weights import StaticWeights

if TYPE_CHECKING:
    from keras_mtl.fairness.demographic_parity_gap import DemographicParityGap
    from keras_mtl.losses.task_losses import TaskBatch
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.penalties.penalty import Penalty
    from keras_mtl.training.options import Options
    from keras_mtl.weighting.base import Weighting

GRADIENTS = ("parameters", "last_shared", "features")
_COLLECTED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Compiled:
    """The tasks' losses, weights, weighting and trackers of a compiled model.

    A plain object: what it holds is not tracked as state of the model. The
    weighting and the penalties are, through the model's own lists. What
    changes as training goes on changes through its methods.

    Args:
        model: The `MultiTaskModel`.
        options: `Options`.

    Attributes:
        options: As above.
        outputs: Tuple of the names of all outputs.
        tasks: Tuple of the tasks with a loss.
        left_out: Tasks that get no data on purpose, as `leave_out` says.
        optimized: The variables that the optimizer was built for, as
            `keep_optimized` says; `None` where the model has not built it.
        evaluating: Boolean. Whether the logs are those of an `evaluation`.
        in_step: Boolean. Whether our own step, which has tracked its batch,
            asks for the logs.
        tasks_total: What `total_of_tasks` gave for the batch that
            `compute_loss` was called with last.
    """

    def __init__(self, model: MultiTaskModel, options: Options) -> None:
        self.options = options
        self.outputs, self.tasks = tuple(options.outputs), options.tasks
        self.missing, self.on_nonfinite = options.missing, options.on_nonfinite
        self.left_out, self.optimized, self.tasks_total = (), None, None
        self.evaluating = self.in_step = False
        self.static_weights = StaticWeights(options.loss_weights)
        self.loss_tracker = TaskMeans(self.tasks, "loss", empty=float("nan"))
        self.total_tracker = TotalLoss(self.loss_tracker, self.static_weights, lambda: self.evaluating)
        self.penalties = Penalties(options.penalties, options.losses, options.outputs)
        self.task_metrics = make_task_metrics(options.metrics, options.losses, options.outputs, self._has_labels)
        # Names of the entries of `y` that metrics and penalties read beside the labels.
        self.columns = tuple(dict.fromkeys(reader.column for _, reader in self._column_readers()))
        self.task_losses = model.make_task_losses(
            options.losses,
            options.outputs,
            missing=options.missing,
            sample_space=options.sample_space,
            class_weight=options.class_weight,
            columns=self.columns,
        )
        self.weighting = _own_weighting(weightings.get(options.given["weighting"]), model)
        self.weighting.set_tasks(list(self.tasks), [loss_kind(loss) for loss in options.losses.values()])
        self.gradients = self._gradients(options.given["gradients"])
        self.gramian_fraction = self._gramian_fraction(options.given["gramian_fraction"])
        self.weighting.check_options(self.gradients, self.gramian_fraction)
        self.check_trunk(model)
        self._build_weighting(model)
        self.penalties.build()
        self.weight_tracker = TaskMeans(self.tasks, "weight")
        self.norm_tracker = TaskMeans(self.tasks, "grad_norm")
        self.cosine_tracker = keras.metrics.Mean(name="grad_cosine", dtype="float32")
        self.pair_tracker = self._pair_tracker(options.diagnostics)
        self.faults = Faults(self.tasks, logged=self.on_nonfinite != "raise")
        self.check_inputs = options.check_inputs and self.on_nonfinite == "raise"
        self.delta_m = options.delta_m
        if self.delta_m is not None:
            self.delta_m.bind(self.tasks, self._sources())
        self._check_overrides(model)
        check_log_names(model.name, self.evaluation_metrics, self.metrics, model.further_metrics)

    def belongs_to(self, model: MultiTaskModel) -> None:
        """Makes the weighting the model's own: another model that is given it gets one from its config."""
        for part in layers_of(self.weighting):
            part._owner = weakref.ref(model)

    def leave_out(self, tasks: Iterable[str]) -> None:
        """Says which tasks get no data on purpose, as in a curriculum, so that nobody is warned of them.

        Args:
            tasks: Collection of tasks, in place of those from before.
        """
        self.left_out = tuple(tasks)

    def keep_optimized(self, variables: Sequence[keras.Variable]) -> None:
        """Says which variables the optimizer was built for.

        Args:
            variables: List of `keras.Variable`.
        """
        self.optimized = list(variables)

    @contextlib.contextmanager
    def evaluation(self) -> Iterator[None]:
        """Within it, the logs are those of an evaluation: no step's."""
        self.evaluating = True
        try:
            yield
        finally:
            self.evaluating = False

    @property
    def takes_task_gradients(self) -> bool:
        """Whether the weighting sees the tasks' gradients."""
        return self.weighting.sees_gradients

    @property
    def keeps_tasks_apart(self) -> bool:
        """Whether a task's gradient may be left out of a step without the others'."""
        return self.on_nonfinite == "skip_task"

    @property
    def evaluation_metrics(self) -> list[keras.metrics.Metric]:
        """Trackers that make sense without an optimizer step."""
        more = (self.penalties.tracker, self.delta_m, self.faults if self.check_inputs else None)
        more = [tracker for tracker in more if tracker is not None]
        return [self.total_tracker, self.loss_tracker, *self.task_metrics, *more]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All trackers, in the order of the logs."""
        trackers = [*self.evaluation_metrics, self.weight_tracker]
        if self.takes_task_gradients:
            trackers.append(self.norm_tracker)
            if len(self.tasks) > 1:
                trackers.append(self.cosine_tracker)
        if self.pair_tracker is not None:
            trackers.append(self.pair_tracker)
        return trackers if self.check_inputs else [*trackers, self.faults]

    @property
    def log_names(self) -> list[str]:
        """Names of the logs of an evaluation, in their order: the total, the tasks' losses, metrics."""
        return [name for tracker in self.evaluation_metrics for name in names_of(tracker)]

    def check_columns(self, y: Mapping[str, np.ndarray] | None) -> None:
        """Raises where a column beside the labels is not what its reader needs."""
        for task, reader in self._column_readers():
            if isinstance(y, dict) and y.get(reader.column) is not None:
                reader.check_column(task, y[reader.column])

    def _column_readers(self) -> list[tuple[str, DemographicParityGap | Penalty]]:
        """Pairs of task and what reads a column beside its labels."""
        read = [(metric.task, metric.metric) for metric in self.task_metrics if metric.column is not None]
        return read + self.penalties.all

    def check_trunk(self, model: MultiTaskModel) -> None:
        """Raises where task gradients are needed and nothing shared is trained, or has no features where these are."""
        if self.takes_task_gradients and not model.sharing.shared_variables(self.tasks):
            raise ValueError(
                f"Weighting {type(self.weighting).__name__} needs trainable variables that two tasks or more share. "
                f"Received: model '{model.name}' with none. Is its trunk frozen, or its sharing depth 0?"
            )
        for argument, value, usual in self.weighting.needs_features(self.gradients, self.gramian_fraction):
            if value != usual:
                try:
                    model.sharing.features(self.tasks)
                except ValueError as error:
                    raise ValueError(
                        f"`{argument}` should be {usual!r} for model '{model.name}', which has no shared features to "
                        f"take gradients of. Received: {argument}={value!r}. {error}"
                    ) from error

    def track_losses(self, batch: TaskBatch, added: Tensor, batch_size: Tensor, finite: Tensor | None = None) -> None:
        """Adds a batch to the trackers of losses and metrics.

        Args:
            batch: A `TaskBatch`.
            added: Scalar. What layers add to the loss; `None` for nothing.
            batch_size: Scalar.
            finite: `None` or boolean tensor of shape `(K,)`. The tasks that
                are tracked, where `on_nonfinite` leaves the others out.
        """
        counts, labels = batch.counts, batch.labels
        if finite is not None and self.on_nonfinite != "raise":
            counts = counts * ops.cast(finite, "float32")
            by_task = {task: finite[i] for i, task in enumerate(self.tasks)}
            labels = {task: of.where(by_task[task]) if task in by_task else of for task, of in labels.items()}
            if added is not None:
                batch_size = batch_size * ops.cast(ops.isfinite(added), "float32")
                added = ops.where(ops.isfinite(added), added, ops.zeros_like(added))
        self.loss_tracker.update_state(ops.divide_no_nan(ops.stack(batch.sums), batch.divisors), counts)
        if added is not None:
            self.total_tracker.update_state(added, batch_size)
        for metric in self.task_metrics:
            if metric.task in labels:
                metric.update_state(labels[metric.task], batch.columns)

    def track_weights(self, weights: Tensor, present: Tensor) -> None:
        """Adds a step's task weights, static and dynamic together."""
        present = present * ops.cast(ops.isfinite(weights), "float32")  # others were of a step that was not taken
        self.weight_tracker.update_state(weights * self.static_weights.value, present)

    @float64()
    def track_gramian(self, gramian: Tensor, present: Tensor) -> None:
        """Adds a step's gradient norms and the cosines of task pairs."""
        # A step that mixed precision skips has gradients that are not finite: it says nothing.
        finite = ops.all(ops.isfinite(gramian))
        gramian = ops.where(finite, gramian, ops.zeros_like(gramian))
        present = present * ops.cast(finite, "float32")
        norms = ops.sqrt(ops.maximum(ops.diagonal(gramian), 0.0))
        self.norm_tracker.update_state(ops.cast(norms, "float32"), present)
        if len(self.tasks) > 1:
            pairs = present[:, None] * present[None, :] * (1.0 - ops.eye(len(self.tasks), dtype="float32"))
            # Divided one side at a time: the product of two norms may overflow or vanish.
            cosines = ops.divide_no_nan(ops.divide_no_nan(gramian, norms[:, None]), norms[None, :])
            cosines = ops.cast(cosines, "float32")
            mean = ops.divide_no_nan(ops.sum(cosines * pairs), ops.sum(pairs))
            self.cosine_tracker.update_state(mean, sample_weight=ops.cast(ops.sum(pairs) > 0, "float32"))
            if self.pair_tracker is not None:
                self.pair_tracker.update_state(cosines, pairs)

    def get_config(self) -> dict[str, Any]:
        """The options as `compile_from_config` takes them back, with static weights and weighting as they are now."""
        static = dict(zip(self.tasks, self.static_weights.numpy().tolist(), strict=True))
        return self.options.get_config(loss_weights=static, weighting=weightings.serialize(self.weighting))

    def _has_labels(self, task: str) -> Tensor:
        """Whether a task has had a labelled example."""
        return self.loss_tracker.counts[self.tasks.index(task)] > 0

    def _sources(self) -> dict[str, Callable[[], Any]]:
        """Dict from the name of a log to a function that gives its value."""
        sources = {metric.name: metric.result for metric in self.task_metrics}
        for index, task in enumerate(self.tasks):
            sources[f"{task}_loss"] = lambda index=index: self.loss_tracker.means()[index]  # type: ignore[misc]
        return sources

    def _gradients(self, gradients: str) -> str:
        if gradients not in GRADIENTS:
            raise ValueError(f"`gradients` should be one of {GRADIENTS}. Received: gradients={gradients!r}")
        return gradients

    def _gramian_fraction(self, fraction: float) -> float:
        return check_number(fraction, "gramian_fraction", above=0, most=1)

    def _check_overrides(self, model: MultiTaskModel) -> None:
        parts = [name for name in ("sub_batches",) if getattr(self.weighting, name, 1) > 1]
        if parts and model.overrides("compute_metrics"):
            raise ValueError(
                f"`weighting` should see each batch as a whole with {type(model).__name__}, which overrides "
                f"`compute_metrics`. Received: {self.weighting!r} with `{parts[0]}` above 1"
            )

    def _pair_tracker(self, diagnostics: bool) -> TaskPairs | None:
        if diagnostics and not self.takes_task_gradients:
            raise ValueError(
                f"`diagnostics` should be False with weighting {type(self.weighting).__name__}, which sees losses "
                "only: cosines and conflicts are by-products of weightings on task gradients. "
                "Received: diagnostics=True"
            )
        return TaskPairs(self.tasks) if diagnostics and len(self.tasks) > 1 else None

    def _build_weighting(self, model: MultiTaskModel) -> None:
        if not self.weighting.built:
            self.weighting.build(self.weighting.shape_for(model, self.tasks))
        elif self.weighting.num_tasks != len(self.tasks):
            raise ValueError(
                f"`weighting` was built for {self.weighting.num_tasks} tasks. Received: {len(self.tasks)} tasks"
            )


def _own_weighting(weighting: Weighting, model: MultiTaskModel) -> Weighting:
    """The weighting, or a new one from its config where it belongs to another model."""
    parts = [part for part in layers_of(weighting) if isinstance(part, weightings.Weighting)]
    owners = [getattr(part, "_owner", None) for part in parts]
    if all(owner is None or owner() is model for owner in owners):
        return weighting
    for part in parts:
        options = inspect.signature(type(part)).parameters.values()
        names = {option.name for option in options if option.kind not in _COLLECTED}
        lost = names - set(part.get_config())
        if lost:
            raise ValueError(
                "`weighting` should be an object of its own for each model. Received: a "
                f"{type(part).__name__} that belongs to another model, and of which no copy can be made, since its "
                f"`get_config` lacks {sorted(lost)}"
            )
    return type(weighting).from_config(weighting.get_config())
