"""What `compile` was given, checked and made ready for the training step."""

import inspect
import numbers

import keras
import numpy as np
from keras import ops

from keras_mtl import weighting as weightings
from keras_mtl.losses.names import get_loss, loss_kind
from keras_mtl.losses.task_losses import TaskLosses
from keras_mtl.metrics._names import get_metric
from keras_mtl.metrics.delta_m import DeltaM
from keras_mtl.numbers import check_number
from keras_mtl.penalties._of_model import Penalties
from keras_mtl.training.log_names import check_log_names, names_of
from keras_mtl.training.static_weights import StaticWeights
from keras_mtl.training.trackers import FaultyInputs, NonFiniteSteps, TaskMeans, TaskMetric, TaskPairs, TotalLoss

GRADIENTS = ("parameters", "last_shared", "features")
_COLLECTED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
ON_NONFINITE = ("raise", "skip_task", "skip_step")


class Compiled:
    """The tasks' losses, weights, weighting and trackers of a compiled model.

    A plain object: what it holds is not tracked as state of the model. The
    weighting is, through the model's own list.

    Args:
        model: The `MultiTaskModel`.
        options: Dict of the arguments of `compile` that are not Keras' own.
    """

    def __init__(self, model, options):
        self.outputs = model.tasks
        self.optimized = None  # the variables that the optimizer was built for, where the model built it
        self.left_out = ()  # tasks that get no data on purpose, as curricula do
        self.evaluating = False  # the trackers' logs are those of an evaluation
        self.in_step = False  # our own step, which has tracked its batch, asks for the logs
        self.tasks_total = None  # of the batch that `compute_loss` was called with last
        self.options = options
        losses = self._losses(options["loss"])
        self.tasks = tuple(losses)
        self.static_weights = StaticWeights(self.checked_static_weights(options["loss_weights"]))
        self.loss_tracker = TaskMeans(self.tasks, "loss", empty=float("nan"))
        self.total_tracker = TotalLoss(
            self.loss_tracker, self.static_weights, empty=lambda: float("nan") if self.evaluating else 0.0
        )
        self.penalties = Penalties(options["penalties"] or {}, losses, model.output)
        self.task_metrics = self._task_metrics(options["metrics"], options["weighted_metrics"], losses, model.output)
        self.missing = self._missing(options["missing"])
        # Names of the entries of `y` that metrics and penalties read beside the labels.
        self.columns = tuple(dict.fromkeys(reader.column for _, reader in self._column_readers()))
        self.task_losses = TaskLosses(
            losses,
            {task: model.output[task] for task in self.outputs},
            missing=self.missing,
            sample_space=self._sample_space(options["sample_space"]),
            class_weight=self._class_weight(options["class_weight"]),
            columns=self.columns,
        )
        self.weighting = self._own_weighting(weightings.get(options["weighting"]), model)
        self.weighting.set_tasks(list(self.tasks), [loss_kind(loss) for loss in losses.values()])
        self.gradients = self._gradients(options["gradients"])
        self.gramian_fraction = self._gramian_fraction(options["gramian_fraction"])
        self.check_trunk(model)
        self._build_weighting(model)
        self.penalties.build()
        self.weight_tracker = TaskMeans(self.tasks, "weight")
        self.norm_tracker = TaskMeans(self.tasks, "grad_norm")
        self.cosine_tracker = keras.metrics.Mean(name="grad_cosine", dtype="float32")
        self.pair_tracker = self._pair_tracker(options["diagnostics"])
        self.on_nonfinite = self._on_nonfinite(options["on_nonfinite"])
        self.nonfinite_tracker = NonFiniteSteps(self.tasks, logged=self.on_nonfinite != "raise")
        self.check_inputs = self._check_inputs(options["check_inputs"])
        self.inputs_tracker = FaultyInputs() if self.check_inputs and self.on_nonfinite == "raise" else None
        self.delta_m = self._delta_m(options["delta_m"])
        self._check_overrides(model)
        check_log_names(model.name, self.evaluation_metrics, self.metrics, model.further_metrics)

    @property
    def takes_task_gradients(self):
        """Whether the weighting sees the tasks' gradients."""
        return self.weighting.requires != "losses"

    @property
    def evaluation_metrics(self):
        """Trackers that make sense without an optimizer step."""
        more = (self.penalties.tracker, self.delta_m, self.inputs_tracker)
        more = [tracker for tracker in more if tracker is not None]
        return [self.total_tracker, self.loss_tracker, *self.task_metrics, *more]

    @property
    def metrics(self):
        """All trackers, in the order of the logs."""
        trackers = [*self.evaluation_metrics, self.weight_tracker]
        if self.takes_task_gradients:
            trackers.append(self.norm_tracker)
            if len(self.tasks) > 1:
                trackers.append(self.cosine_tracker)
        if self.pair_tracker is not None:
            trackers.append(self.pair_tracker)
        return [*trackers, self.nonfinite_tracker]

    @property
    def log_names(self):
        """Names of the logs of an evaluation, in their order: the total, the tasks' losses, metrics."""
        return [name for tracker in self.evaluation_metrics for name in names_of(tracker)]

    def check_columns(self, y):
        """Raises where a column beside the labels is not what its reader needs."""
        for task, reader in self._column_readers():
            if isinstance(y, dict) and y.get(reader.column) is not None:
                reader.check_column(task, y[reader.column])

    def _column_readers(self):
        """Pairs of task and what reads a column beside its labels."""
        read = [(metric.task, metric.metric) for metric in self.task_metrics if metric.column is not None]
        return read + self.penalties.all

    def check_trunk(self, model):
        """Raises where task gradients are needed and nothing shared is trained, or has no features where these are."""
        if self.takes_task_gradients and not model.sharing.shared_variables(self.tasks):
            raise ValueError(
                f"Weighting {type(self.weighting).__name__} needs trainable variables that two tasks or more share. "
                f"Received: model '{model.name}' with none. Is its trunk frozen, or its sharing depth 0?"
            )
        if self.weighting.requires != "gramian":
            return
        for argument, value, usual in (
            ("gradients", self.gradients, GRADIENTS[0]),
            ("gramian_fraction", self.gramian_fraction, 1),
            ("every", self.weighting.every, 1),
        ):
            if value != usual:
                try:
                    model.sharing.features(self.tasks)
                except ValueError as error:
                    raise ValueError(
                        f"`{argument}` should be {usual!r} for model '{model.name}', which has no shared features to "
                        f"take gradients of. Received: {argument}={value!r}. {error}"
                    ) from error

    def track_losses(self, batch, added, batch_size, finite=None):
        """Adds a batch to the trackers of losses and metrics.

        Args:
            batch: A `TaskBatch`.
            added: Scalar. What layers add to the loss.
            batch_size: Scalar.
            finite: `None` or boolean tensor of shape `(K,)`. The tasks that
                are tracked, where `on_nonfinite` leaves the others out.
        """
        counts, labels = batch.counts, batch.labels
        if finite is not None and self.on_nonfinite != "raise":
            counts = counts * ops.cast(finite, "float32")
            by_task = {task: finite[i] for i, task in enumerate(self.tasks)}
            labels = {task: of.where(by_task[task]) if task in by_task else of for task, of in labels.items()}
            batch_size = batch_size * ops.cast(ops.isfinite(added), "float32")
            added = ops.where(ops.isfinite(added), added, ops.zeros_like(added))
        self.loss_tracker.update_state(ops.divide_no_nan(ops.stack(batch.sums), batch.divisors), counts)
        self.total_tracker.update_state(added, batch_size)
        for metric in self.task_metrics:
            if metric.task in labels:
                metric.update_state(labels[metric.task], batch.columns)

    def track_weights(self, weights, present):
        """Adds a step's task weights, static and dynamic together."""
        present = present * ops.cast(ops.isfinite(weights), "float32")  # others were of a step that was not taken
        self.weight_tracker.update_state(weights * self.static_weights.value, present)

    def track_gramian(self, gramian, present):
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

    def get_config(self):
        """The options as `compile_from_config` takes them back."""
        config = dict(self.options)
        current = dict(zip(self.tasks, ops.convert_to_numpy(self.static_weights.value).tolist(), strict=True))
        config["loss_weights"] = current
        config["class_weight"] = self.task_losses.class_weight or None
        config["weighting"] = weightings.serialize(self.weighting)
        return {key: keras.saving.serialize_keras_object(value) for key, value in config.items()}

    def _losses(self, loss):
        if loss is None:
            raise ValueError(
                f"`loss` should be given for the tasks, as a dict {list(self.outputs)}. Received: loss=None"
            )
        loss = self._in_order(loss, "loss")
        if not isinstance(loss, dict):
            loss = dict.fromkeys(self.outputs, loss)
        self._check_tasks(loss, "loss", self.outputs)
        losses = {task: get_loss(loss[task], task) for task in self.outputs if loss.get(task) is not None}
        if not losses:
            raise ValueError(f"`loss` should be given for at least one task of {self.outputs}. Received: loss={loss}")
        return losses

    def checked_static_weights(self, loss_weights):
        """List of the static weights, numbers or variables; 1 where none is given."""
        loss_weights = self._in_order({} if loss_weights is None else loss_weights, "loss_weights", self.tasks)
        if not isinstance(loss_weights, dict):
            raise ValueError(
                f"`loss_weights` should be a dict keyed by task, or a list in the order of the tasks "
                f"{list(self.tasks)}. Received: loss_weights={loss_weights!r}"
            )
        self._check_tasks(loss_weights, "loss_weights", self.tasks)
        for task, weight in loss_weights.items():
            value = ops.convert_to_numpy(weight) if hasattr(weight, "__array__") else weight
            value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
            good = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not good or not 0 <= value <= np.finfo("float32").max:
                raise ValueError(
                    "`loss_weights` should be finite and at least 0: numbers, or scalar `keras.Variable`s that may "
                    f"change. Received: {weight!r} for task '{task}'"
                )
        return [loss_weights.get(task, 1.0) for task in self.tasks]

    def _missing(self, missing):
        if not isinstance(missing, dict):
            missing = {} if missing is None else dict.fromkeys(self.outputs, missing)
        self._check_tasks(missing, "missing", self.outputs)
        for task, value in missing.items():
            if value is not None and value != "nan" and not _is_number(value):
                raise ValueError(f"`missing` of task '{task}' should be 'nan', a number or None. Received: {value!r}")
        return {
            task: "nan" if value != "nan" and np.isnan(value) else value
            for task, value in missing.items()
            if value is not None
        }

    def _sample_space(self, sample_space):
        sample_space = {} if sample_space is None else sample_space
        if not isinstance(sample_space, dict):
            raise ValueError(
                "`sample_space` should be a dict from task to the task whose label must be 1. "
                f"Received: sample_space={sample_space!r}"
            )
        self._check_tasks(sample_space, "sample_space", self.outputs)  # of outputs without a loss, for their metrics
        for task, condition in sample_space.items():
            if condition not in self.outputs or condition == task:
                raise ValueError(
                    f"`sample_space` of task '{task}' should name another task of {self.outputs}. "
                    f"Received: {condition!r}"
                )
        return sample_space

    def _class_weight(self, class_weight):
        class_weight = {} if class_weight is None else class_weight
        if not isinstance(class_weight, dict):
            raise ValueError(
                "`class_weight` should be a dict from task to a dict from class to weight. "
                f"Received: class_weight={class_weight!r}"
            )
        self._check_tasks(class_weight, "class_weight", self.tasks)
        for task, by_class in class_weight.items():
            if not isinstance(by_class, dict) or not by_class:
                raise ValueError(
                    f"`class_weight` of task '{task}' should be a dict from class to weight. Received: {by_class!r}. "
                    "Balanced weights of labels `y` are `len(y) / (len(counts) * counts)` with "
                    "`counts = np.bincount(y)`, as `dict(enumerate(...))`"
                )
        return {
            task: {_class_id(c, task): check_number(w, f"class_weight['{task}'][{c}]", least=0) for c, w in ws.items()}
            for task, ws in class_weight.items()
        }

    def _gradients(self, gradients):
        if gradients not in GRADIENTS:
            raise ValueError(f"`gradients` should be one of {GRADIENTS}. Received: gradients={gradients!r}")
        if self.weighting.requires == "jacobian" and gradients != "parameters":
            raise ValueError(
                f"`gradients` should be 'parameters' with {type(self.weighting).__name__}, which combines the "
                f"gradients of the parameters themselves. Received: gradients={gradients!r}"
            )
        return gradients

    def _gramian_fraction(self, fraction):
        fraction = check_number(fraction, "gramian_fraction", above=0, most=1)
        if fraction < 1 and self.weighting.requires != "gramian":
            raise ValueError(
                f"`gramian_fraction` should be 1 with {type(self.weighting).__name__}, which sees no Gramian. "
                f"Received: gramian_fraction={fraction!r}"
            )
        return fraction

    def _on_nonfinite(self, on_nonfinite):
        if on_nonfinite not in ON_NONFINITE:
            raise ValueError(f"`on_nonfinite` should be one of {ON_NONFINITE}. Received: on_nonfinite={on_nonfinite!r}")
        return on_nonfinite

    def _check_inputs(self, check_inputs):
        if not isinstance(check_inputs, bool):
            raise ValueError(f"`check_inputs` should be True or False. Received: check_inputs={check_inputs!r}")
        return check_inputs

    def _check_overrides(self, model):
        parts = [
            name for name, n in (("every", self.weighting.every), ("sub_batches", self.weighting.sub_batches)) if n > 1
        ]
        if parts and model.overrides("compute_metrics"):
            raise ValueError(
                f"`weighting` should see each batch as a whole with {type(model).__name__}, which overrides "
                f"`compute_metrics`. Received: {self.weighting!r} with `{parts[0]}` above 1"
            )

    def _own_weighting(self, weighting, model):
        """The weighting, or a new one from its config where it belongs to another model."""
        parts = [part for part in weighting._flatten_layers() if isinstance(part, weightings.Weighting)]
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

    def _pair_tracker(self, diagnostics):
        if not isinstance(diagnostics, bool):
            raise ValueError(f"`diagnostics` should be True or False. Received: diagnostics={diagnostics!r}")
        if diagnostics and not self.takes_task_gradients:
            raise ValueError(
                f"`diagnostics` should be False with weighting {type(self.weighting).__name__}, which sees losses "
                "only: cosines and conflicts are by-products of weightings on task gradients. "
                "Received: diagnostics=True"
            )
        return TaskPairs(self.tasks) if diagnostics and len(self.tasks) > 1 else None

    def _width_of_features(self, model):
        shapes = [tuple(feature.shape[1:]) for feature in model.sharing.features(self.tasks)]
        if any(size is None for shape in shapes for size in shape):
            raise ValueError(
                f"Weighting {type(self.weighting).__name__} needs shared features of known shapes. Received: {shapes}"
            )
        return sum(int(np.prod(shape)) for shape in shapes)

    def _build_weighting(self, model):
        shape = (len(self.tasks),)
        if self.weighting.requires == "features":
            shape += (self._width_of_features(model),)
        if self.weighting.requires == "jacobian":
            shape += (sum(int(np.prod(v.shape)) for v in model.sharing.shared_variables(self.tasks)),)
        if not self.weighting.built:
            self.weighting.build(shape)
        elif self.weighting.num_tasks != len(self.tasks):
            raise ValueError(
                f"`weighting` was built for {self.weighting.num_tasks} tasks. Received: {len(self.tasks)} tasks"
            )

    def _task_metrics(self, metrics, weighted_metrics, losses, outputs):
        found, names, owners = [], set(), {}
        for argument, given, weighted in (
            ("metrics", metrics, False),
            ("weighted_metrics", weighted_metrics, True),
        ):
            given = self._metrics_by_task(given, argument)
            for task in self.outputs:
                for identifier in given.get(task, ()):
                    metric = get_metric(identifier, task, tuple(outputs[task].shape))
                    if id(metric) in owners:
                        raise ValueError(
                            f"`{argument}` of task '{task}' should be metrics of its own, or two logs would be made "
                            f"of the same state. Received: '{metric.name}', which is in {owners[id(metric)]} too"
                        )
                    owners[id(metric)] = f"`{argument}` of task '{task}'"
                    if hasattr(metric, "check_task"):
                        metric.check_task(task, losses.get(task), tuple(outputs[task].shape))
                    label = identifier if isinstance(identifier, str) else metric.name
                    name = f"{task}_{label}"
                    if name in names:
                        name = f"{task}_weighted_{label}" if weighted else f"{name}_{len(names)}"
                    names.add(name)
                    found.append(TaskMetric(task, metric, weighted, name, self._counted(task)))
        return found

    def _counted(self, task):
        """A function that says whether the task has had a labelled example; `None` where its loss is not computed."""
        if task not in self.tasks:
            return None
        index = self.tasks.index(task)
        return lambda: self.loss_tracker.counts.value[index] > 0

    def _delta_m(self, delta_m):
        if delta_m is None:
            return None
        delta_m = DeltaM(delta_m) if isinstance(delta_m, dict) else delta_m
        if not isinstance(delta_m, DeltaM):
            raise ValueError(
                "`delta_m` should be a `keras_mtl.metrics.DeltaM`, or a dict from task to a dict from metric to its "
                f"single-task value. Received: delta_m={delta_m!r}"
            )
        sources = {metric.name: metric.result for metric in self.task_metrics}
        for index, task in enumerate(self.tasks):
            sources[f"{task}_loss"] = lambda index=index: self.loss_tracker.means()[index]
        delta_m.bind(self.tasks, sources)
        return delta_m

    def options_of(self, task):
        """The options for a model of one task alone: same loss, metrics, labels."""
        options = {"weighting": "equal", "loss": self.task_losses.losses[task]}
        for name in ("metrics", "weighted_metrics"):
            of_task = self._metrics_by_task(self.options[name], name).get(task)
            options[name] = None if of_task is None else {task: of_task}
        for name in ("missing", "class_weight"):
            given = getattr(self.task_losses, name)
            options[name] = {task: given[task]} if task in given else None
        options["penalties"] = {task: self.penalties.by_task[task]}
        return options

    def _metrics_by_task(self, given, argument):
        if given is None:
            return {}
        if isinstance(given, (list, tuple)) and len(self.outputs) > 1:
            # One list for each task, or one metric for each; a single one is for all of them.
            if len(given) != 1 or isinstance(given[0], (list, tuple)):
                given = self._in_order(given, argument)
        elif isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(given[0], (list, tuple)):
            given = given[0]
        if not isinstance(given, dict):
            flat = given if isinstance(given, (list, tuple)) else [given]
            if any(isinstance(metric, keras.metrics.Metric) for metric in flat) and len(self.outputs) > 1:
                raise ValueError(
                    f"`{argument}` should be a dict keyed by task, so that no two tasks share a metric's state. "
                    f"Received: {argument}={given!r}"
                )
            given = dict.fromkeys(self.outputs, given)
        self._check_tasks(given, argument, self.outputs)
        return {
            task: list(value) if isinstance(value, (list, tuple)) else [value]
            for task, value in given.items()
            if value is not None
        }

    def _in_order(self, given, argument, tasks=None):
        """What is given as a list, in the order of the outputs as Keras has it, as a dict keyed by task."""
        if not isinstance(given, (list, tuple)):
            return given
        for names in (self.outputs, tasks or self.outputs):
            if len(given) == len(names):
                return {task: value for task, value in zip(names, given, strict=True) if tasks is None or task in tasks}
        raise ValueError(
            f"`{argument}` should be a dict keyed by task, or a list with an entry for each task of "
            f"{list(self.outputs)}. Received: {argument}={given!r}"
        )

    def _check_tasks(self, given, argument, tasks):
        unknown = [task for task in given if task not in tasks]
        if unknown:
            raise ValueError(f"The keys of `{argument}` should be tasks: {list(tasks)}. Received: {unknown}")


def _class_id(given, task):
    """A class as an integer; one from a saved model is a string, as JSON's keys are."""
    try:
        if int(given) == float(given):
            return int(given)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"The classes in `class_weight` of task '{task}' should be integers. Received: {given!r}")


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
