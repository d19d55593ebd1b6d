"""`compile`, `fit` and their kin: what a multi-task model adds to Keras' trainer."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_mtl._keras_private import ModelBuiltBefore, exclude_from_weight_decay, loss_tracker_of
from keras_mtl._types import Callbacks, Data, LossLike, MetricLike, Structure, Tensor
from keras_mtl.losses.arrays import by_task, check_lengths
from keras_mtl.losses.task_losses import TaskLosses
from keras_mtl.metrics._trackers import names_of
from keras_mtl.training.compiled import Compiled
from keras_mtl.training.faults import check_finite, raise_faults, warn_unlabelled
from keras_mtl.training.fit_callback import FitCallback, with_callbacks
from keras_mtl.training.options import Options
from keras_mtl.training.progress import with_progress

if TYPE_CHECKING:
    from keras_mtl.data.mixture import Mixture
    from keras_mtl.metrics.delta_m import DeltaM
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.penalties.penalty import Penalty
    from keras_mtl.weighting.base import Weighting


class TaskTrainer(ModelBuiltBefore):
    """`compile`, `fit` and their kin for a functional model with tasks.

    The base of `MultiTaskModel`. A subclass is a functional model whose
    outputs are a dict keyed by task, and has two properties:

    - `tasks`: Tuple of the tasks' names, in the order of the outputs.
    - `sharing`: `keras_mtl.models._sharing.Sharing`, which says which variables
      serve which tasks and where the shared features are.

    Beside `compute_loss`, `compute_metrics`, `train_step` and `test_step`, it
    may override `make_task_losses`, `further_targets`, `after_train_step` and
    `own_callbacks`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._compiled_tasks = None
        # Lists of layers, which Keras tracks: what `compile` was given is state of the model, and a new call drops it.
        self._weightings = []
        self._penalties = []

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: LossLike | Mapping[str, LossLike] | None = None,
        loss_weights: Mapping[str, float] | Sequence[float] | None = None,
        metrics: Mapping[str, MetricLike | Sequence[MetricLike]] | None = None,
        weighted_metrics: Mapping[str, MetricLike | Sequence[MetricLike]] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | Literal["auto"] = "auto",
        auto_scale_loss: bool = True,
        *,
        weighting: str | Mapping[str, Any] | Weighting = "equal",
        gradients: Literal["parameters", "last_shared", "features"] = "parameters",
        gramian_fraction: float = 1.0,
        missing: Mapping[str, Any] | float | str | None = None,
        class_weight: Mapping[str, Mapping[int, float]] | None = None,
        sample_space: Mapping[str, str] | None = None,
        diagnostics: bool = False,
        delta_m: DeltaM | Mapping[str, Any] | None = None,
        on_nonfinite: Literal["raise", "skip_task", "skip_step"] = "raise",
        check_inputs: bool = True,
        penalties: Mapping[str, Sequence[Penalty] | Penalty] | None = None,
    ) -> None:
        """Configures the model for training.

        Args:
            optimizer: String or `keras.optimizers.Optimizer`.
            loss: Dict from task to loss, as Keras takes them; a task that is
                left out is not trained. Or a list in the order of `tasks`, or
                one loss for all tasks.
            loss_weights: Dict from task to number, the static weights. Tasks
                that are left out weigh 1. Or a list in the order of `tasks`.
                A scalar `keras.Variable` in place of a number is read anew at
                each step; what is saved is its value. A dynamic weighting sees
                the losses times their static weights.
            metrics: Dict from task to a list of metrics, over the labelled
                examples. Tasks may be left out. Or a list with an entry for
                each task, in the order of `tasks`, or with one metric for all.
            weighted_metrics: Same, with sample and class weights.
            run_eagerly: Boolean. As in Keras.
            steps_per_execution: Integer. As in Keras.
            jit_compile: Boolean or `"auto"`. As in Keras.
            auto_scale_loss: Boolean. As in Keras.
            weighting: String (see `keras_mtl.weighting.names()`), a
                `keras_mtl.weighting.Weighting` or its config. What sets the
                task weights during training. An object that belongs to another
                model is copied from its config and starts anew; the model's
                own is `model.weighting`. Defaults to `"equal"`.
            gradients: `"parameters"`, `"last_shared"` or `"features"`. Where
                weightings that see task gradients take them: all shared
                parameters, those of the last shared layer, or the shared
                features, which costs one backward pass of the trunk instead
                of one for each task. Gradients of features count what flows
                through later shared features too. Defaults to `"parameters"`.
            gramian_fraction: Float above 0, at most 1. The part of each batch
                that the Gramian is computed from, with a forward and K backward
                passes of its own, which move no statistics of layers; one
                weighted backward pass over the whole batch follows. Cheaper
                with many tasks, and noisier. Defaults to `1.0`.
            missing: `"nan"`, a number, or a dict from task to one of them. The
                label that means "missing". Defaults to `None`.
            class_weight: Dict from task to a dict from class to weight. In
                training only.
            sample_space: Dict from task to another task: train and evaluate
                the one only where the other's label is 1.
            diagnostics: Boolean. Whether to log `grad_cosine_<task>_<task>`
                for every pair of tasks and `conflict_rate`, the share of pairs
                whose gradients have a negative cosine. By-products of
                weightings that see task gradients, where `gradients` takes
                them; others refuse. Defaults to `False`.
            delta_m: `keras_mtl.metrics.DeltaM`, or a dict of the single-task
                baselines that it takes. Logs the mean relative gain over them.
            on_nonfinite: `"raise"`, `"skip_task"` or `"skip_step"`. What to do
                when a loss or gradient is NaN or infinite. `"raise"`: stop with
                a `FloatingPointError` that names the tasks, the model being as
                it was before that step; on a GPU without XLA, where that would
                make each step wait, training goes on until the host looks,
                which the error says. `"skip_step"`: leave such steps out, as
                if their batch had not come. `"skip_task"`: leave the task out
                of such steps and train the others, whose gradients are taken
                apart for it; a step is left out where nothing finite remains.
                Both log `<task>_nonfinite` and `skipped_steps`, the numbers of
                steps in an epoch, and warn. Defaults to `"raise"`.
            check_inputs: Boolean. Whether inputs that are NaN or infinite are
                an error, in training and evaluation. `False` lets them pass,
                for models with layers that fill or clip them. Where
                `on_nonfinite` leaves steps out, inputs are not checked.
                Defaults to `True`.
            penalties: Dict from task to a penalty or a list of them, such as
                those of `keras_mtl.fairness`. What they read beside the labels
                is an entry of `y`.

        Raises:
            ValueError: If a task or name is unknown, two logs would have the
                same name, a weighting needs shared trainable variables and
                there are none, or `diagnostics` is asked of a weighting that
                sees no task gradients.
            RuntimeError: If Keras runs on another backend than TensorFlow and
                JAX.
        """
        check_backend()
        given = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "weighting": weighting,
            "gradients": gradients,
            "gramian_fraction": gramian_fraction,
            "missing": missing,
            "class_weight": class_weight,
            "sample_space": sample_space,
            "delta_m": delta_m,
            "diagnostics": diagnostics,
            "on_nonfinite": on_nonfinite,
            "check_inputs": check_inputs,
            "penalties": penalties,
        }
        # Checked first, so that a refused call leaves the model as it was.
        compiled = Compiled(self, Options(given, {task: self.output[task] for task in self.tasks}))
        step_options = {
            "run_eagerly": run_eagerly,
            "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
            "auto_scale_loss": auto_scale_loss,
        }
        super().compile(optimizer, **step_options)
        self._step_options = step_options
        self._weightings.clear()
        self._weightings.append(compiled.weighting)
        self._penalties.clear()
        self._penalties.extend(penalty for _, penalty in compiled.penalties.all)
        self._compiled_tasks = compiled
        compiled.belongs_to(self)
        _exclude_from_weight_decay(self.optimizer, compiled.weighting.trainable_variables)

    @property
    def compiled_tasks(self) -> Compiled:
        """The tasks' losses, weights and trackers, once the model is compiled."""
        if self._compiled_tasks is None:
            raise ValueError(f"You must call `compile()` before using model '{self.name}' with its tasks.")
        return self._compiled_tasks

    def task_weights(self) -> dict[str, float]:
        """The static task weights as they are now.

        Returns:
            Dict from task to number.
        """
        return dict(zip(self.compiled_tasks.tasks, self.compiled_tasks.static_weights.numpy().tolist(), strict=True))

    def set_task_weights(self, weights: Mapping[str, float]) -> None:
        """Changes static task weights from the next step on.

        A task of weight 0 is left out: weightings treat it as absent.

        Args:
            weights: Dict from task to number; other tasks keep theirs.
        """
        compiled = self.compiled_tasks
        compiled.static_weights.assign(compiled.options.checked_loss_weights({**self.task_weights(), **weights}), self)

    def get_compile_config(self) -> dict[str, Any]:
        if self._compiled_tasks is None:
            return {}
        optimizer = self.optimizer
        return {
            "optimizer": keras.saving.serialize_keras_object(optimizer),
            **self._step_options,
            **self.compiled_tasks.get_config(),
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        if keras.backend.backend() not in TRAINS_ON:
            warnings.warn(f"Model '{self.name}' is not compiled, since {_where_it_trains()}", stacklevel=2)
            return
        config = {key: keras.saving.deserialize_keras_object(value) for key, value in config.items()}
        self.compile(**config)
        if self.optimizer is not None and self.built:
            self.build_optimizer()

    @property
    def weighting(self) -> Weighting:
        """The weighting that the model was compiled with."""
        return self.compiled_tasks.weighting

    @property
    def further_metrics(self) -> list[keras.metrics.Metric]:
        """Metrics of the user's own: of layers, and attributes of a subclass."""
        of_keras = loss_tracker_of(self)
        return [metric for metric in super().metrics if metric is not of_keras]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        if self._compiled_tasks is None:
            return self.further_metrics
        compiled = self.compiled_tasks
        own = compiled.evaluation_metrics if compiled.evaluating else compiled.metrics
        return [*own, *self.further_metrics]

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        # On JAX a step sees the values of these and of the model's and the optimizer's variables, and of no others.
        compiled = self._compiled_tasks
        return [*super().metrics_variables, *(() if compiled is None else compiled.static_weights.state)]

    @property
    def metrics_names(self) -> list[str]:
        """Names of what `evaluate` gives as a list, in its order."""
        own = [] if self._compiled_tasks is None else self.compiled_tasks.log_names
        return [*own, *(metric.name for metric in self.further_metrics)]

    def compute_loss(
        self,
        x: Structure | None = None,
        y: Mapping[str, Tensor] | None = None,
        y_pred: Mapping[str, Tensor] | None = None,
        sample_weight: Structure | None = None,
        training: bool | None = True,
    ) -> Tensor:
        """The static-weights total of a batch, and what layers and penalties add to it.

        A subclass that overrides this adds terms to what it gets from here.
        They reach the variables under every weighting. A loss that is not made
        of this one takes its place where the weighting is `"equal"`; others
        need the tasks' losses, and refuse.
        """
        del x
        total = self.total_of_tasks(y, y_pred, sample_weight, training)
        self.compiled_tasks.tasks_total = total
        return total

    def total_of_tasks(
        self,
        y: Mapping[str, Tensor] | None,
        y_pred: Mapping[str, Tensor] | None,
        sample_weight: Structure | None = None,
        training: bool | None = True,
    ) -> Tensor:
        """What `compute_loss` is before a subclass overrides it."""
        compiled = self.compiled_tasks
        batch = compiled.task_losses(y, y_pred, sample_weight, training)  # type: ignore[arg-type]
        means = ops.divide_no_nan(ops.stack(batch.sums), batch.divisors)
        penalties = compiled.penalties(batch, training).total if compiled.penalties else 0.0
        return ops.sum(means * compiled.static_weights.value) + sum(self.losses) + penalties

    def compute_metrics(
        self,
        x: Structure,
        y: Mapping[str, Tensor],
        y_pred: Mapping[str, Tensor],
        sample_weight: Structure | None = None,
    ) -> dict[str, Tensor]:
        """The logs. Subclasses may add to them.

        The steps of this class have updated the tasks' metrics. A `train_step`
        or `test_step` of a subclass that goes its own way calls this to have
        them updated with its batch.
        """
        compiled = self.compiled_tasks
        if not compiled.in_step:
            from keras_mtl.training import step

            step.track(self, x, by_task(y, "y", compiled), y_pred, sample_weight, training=not compiled.evaluating)
        return self.get_metrics_result()

    def overrides(self, method: str) -> bool:
        """Whether a subclass has a method of its own."""
        return getattr(type(self), method) is not getattr(TaskTrainer, method)

    def make_task_losses(
        self, losses: Mapping[str, keras.losses.Loss], outputs: Mapping[str, keras.KerasTensor], **options: Any
    ) -> TaskLosses:
        """What computes the tasks' losses on a batch. `compile` calls it; subclasses may give another.

        Args:
            losses: Dict from trained task to `keras.losses.Loss`.
            outputs: Dict from task to Keras tensor.
            **options: Other options of `keras_mtl.losses.task_losses.TaskLosses`.

        Returns:
            A `TaskLosses`.
        """
        return TaskLosses(losses, outputs, **options)

    def further_targets(self, x: Structure, training: bool | None) -> dict[str, Any]:
        """What the losses of a batch read beside its labels. Subclasses may give what data sets do not hold.

        Args:
            x: Inputs of a batch.
            training: Boolean. Whether it is a training step's.

        Returns:
            Dict of tensors, or structures of them, each with an axis of
            examples: by the name of a task its labels, by another name one of
            the columns that the `TaskLosses` read.
        """
        del x, training
        return {}

    def after_train_step(self) -> None:
        """Ends each training step. Subclasses may change state of their own."""

    # On JAX, Keras hands the values of variables before the data and takes the new ones beside the logs.

    def train_step(self, *state_and_data: Any) -> Structure:
        from keras_mtl.training import step

        def train_step(model: MultiTaskModel, data: Data) -> Structure:
            logs = step.train_step(model, self._with_targets(data, training=True))
            model.after_train_step()
            return logs

        return step.core.run(train_step, self, *state_and_data)

    def test_step(self, *state_and_data: Any) -> Structure:
        from keras_mtl.training import step

        def test_step(model: MultiTaskModel, data: Data) -> Structure:
            return step.test_step(model, self._with_targets(data, training=False))

        return step.core.run(test_step, self, *state_and_data)

    def _with_targets(self, data: Structure, training: bool | None) -> Structure:
        if not self.overrides("further_targets"):
            return data
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y = by_task(y, "y", self.compiled_tasks)
        if not isinstance(y, dict):
            y = {} if y is None else {self.tasks[0]: y}
        targets = self.further_targets(x, training)
        taken = [name for name in targets if y.get(name) is not None]
        if taken:
            raise ValueError(
                f"`y` should not have {taken}, which {type(self).__name__} makes itself. Received: y with {list(y)}"
            )
        return x, {**y, **targets}, sample_weight

    def make_train_function(self, force: bool = False) -> Callable[..., Any] | None:
        self.compiled_tasks.check_trunk(self)
        if not self.trainable_variables:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        trained = [id(variable) for variable in self.trainable_variables]
        if trained != getattr(self, "_trained", trained):
            force = True  # layers were frozen or released since the last trace
        self._trained = trained
        self.build_optimizer()
        return super().make_train_function(force=force)

    def build_optimizer(self) -> None:
        """Makes the optimizer's variables for what is trainable now, if it has none yet."""
        if not self.optimizer.built:
            from keras_mtl.training.backends import core

            with core.strategy_scope(self):
                self.optimizer.build(self.trainable_variables)
            self.compiled_tasks.keep_optimized(self.trainable_variables)

    def fit(
        self,
        x: Data | None = None,
        y: Mapping[str, npt.ArrayLike] | None = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callbacks | None = None,
        validation_split: float = 0.0,
        validation_data: Data | None = None,
        shuffle: bool = True,
        class_weight: Mapping[str, Mapping[int, float]] | None = None,
        sample_weight: Structure | None = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> keras.callbacks.History:
        self._check_ready("fit")
        self._check_class_weight(class_weight)
        x, steps, brought = self._prepared(x, steps_per_epoch)
        y, sample_weight = self._arrays(x, y, sample_weight)
        validation_data, val_steps, _ = self._prepared(validation_data, training=False)
        validation_data = self._validation_arrays(validation_data)
        callbacks = with_progress(with_callbacks([*self.own_callbacks(), *brought], callbacks), verbose)
        return super().fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            class_weight=class_weight,
            sample_weight=sample_weight,
            initial_epoch=initial_epoch,
            steps_per_epoch=steps or steps_per_epoch,
            validation_steps=validation_steps or val_steps,
            validation_batch_size=validation_batch_size,
            validation_freq=validation_freq,
        )

    def own_callbacks(self) -> list[FitCallback]:
        """The callbacks that `fit` adds to the user's, the first of them last. Subclasses may add to them."""
        return [FitCallback()]

    def train_on_batch(
        self,
        x: Structure,
        y: Mapping[str, npt.ArrayLike] | None = None,
        sample_weight: Structure | None = None,
        class_weight: Mapping[str, Mapping[int, float]] | None = None,
        return_dict: bool = False,
    ) -> list[float] | dict[str, float]:
        self._check_ready("train_on_batch")
        self._check_class_weight(class_weight)
        y, sample_weight = self._arrays(x, y, sample_weight)
        self.compiled_tasks.static_weights.follow(self)
        logs = super().train_on_batch(x, y, sample_weight, class_weight, return_dict=True)
        raise_faults(self, "a training step")
        return logs if return_dict else self._as_list(logs)

    def evaluate(
        self,
        x: Data | None = None,
        y: Mapping[str, npt.ArrayLike] | None = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Structure | None = None,
        steps: int | None = None,
        callbacks: Callbacks | None = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> list[float] | dict[str, float]:
        self._check_ready("evaluate")
        in_fit = bool(kwargs)  # only `fit` gives more than the arguments that there are
        if not in_fit:  # else `fit` has prepared it
            x, prepared_steps, _ = self._prepared(x, training=False)
            steps = steps or prepared_steps
            y, sample_weight = self._arrays(x, y, sample_weight)
            callbacks = with_progress(callbacks, verbose)
        with self._evaluation():
            logs = super().evaluate(
                x, y, batch_size, verbose, sample_weight, steps, callbacks, return_dict=True, **kwargs
            )
        if not in_fit:
            warn_unlabelled(self, "in the data of `evaluate`: its logs are NaN, and the total is that of other tasks")
        return logs if return_dict else self._as_list(logs)

    def test_on_batch(
        self,
        x: Structure,
        y: Mapping[str, npt.ArrayLike] | None = None,
        sample_weight: Structure | None = None,
        return_dict: bool = False,
    ) -> list[float] | dict[str, float]:
        self._check_ready("test_on_batch")
        y, sample_weight = self._arrays(x, y, sample_weight)
        with self._evaluation():
            logs = super().test_on_batch(x, y, sample_weight, return_dict=True)
        return logs if return_dict else self._as_list(logs)

    @contextlib.contextmanager
    def _evaluation(self) -> Iterator[None]:
        """The trackers of evaluation alone; ends with a look at the inputs."""
        self.compiled_tasks.static_weights.follow(self)
        with self.compiled_tasks.evaluation():
            try:
                yield
            except BaseException:
                from keras_mtl.training.backends import core

                core.synchronize(self)  # Keras does where all goes well
                raise
        if self.compiled_tasks.check_inputs:
            raise_faults(self, "evaluation")

    def _as_list(self, logs: Mapping[str, Any]) -> Structure:
        """Logs in Keras' order: `metrics_names`, then what metrics have logged besides; a number where it is one."""
        names = [name for name in self.metrics_names if name in logs]
        known = {name for tracker in self.metrics for name in names_of(tracker)}
        names += sorted(name for name in logs if name not in names and name not in known)
        return logs[names[0]] if len(names) == 1 else [logs[name] for name in names]

    def _check_ready(self, method: str) -> None:
        check_backend()
        if not self.compiled:
            raise ValueError(f"You must call `compile()` before calling `{method}()`.")

    def _validation_arrays(self, validation_data: Mixture | None) -> Data:
        if not isinstance(validation_data, (list, tuple)):
            return validation_data
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(validation_data)
        if y is None:
            raise ValueError(
                "`validation_data` should have labels, as `(x, y)` or `(x, y, sample_weight)`. "
                f"Received: a {type(validation_data).__name__} of {len(validation_data)} entries"
            )
        return x, *self._arrays(x, y, sample_weight)

    def _arrays(self, x: Structure, y: Structure, sample_weight: Structure) -> tuple[Any, ...]:
        """Labels and weights as Keras wants them: dicts of arrays, with weights for every task in `y`."""
        compiled = self.compiled_tasks
        if compiled.check_inputs:
            check_finite(x)
        y, sample_weight = by_task(y, "y", compiled), by_task(sample_weight, "sample_weight", compiled)
        check_lengths(x, y, sample_weight)
        compiled.check_columns(y)
        if not isinstance(y, dict) or not isinstance(sample_weight, dict):
            return y, sample_weight
        unknown = [key for key in sample_weight if key not in self.tasks]
        if unknown:
            raise ValueError(f"The keys of `sample_weight` should be tasks: {self.tasks}. Received: {unknown}")
        return y, {key: sample_weight.get(key) for key in y}

    def _check_class_weight(self, class_weight: Mapping[str, Mapping[int, float]] | None) -> None:
        if class_weight is not None and len(self.tasks) > 1:
            keyed = isinstance(class_weight, dict) and all(key in self.tasks for key in class_weight)
            example = class_weight if keyed else {self.tasks[0]: {0: 1.0, 1: 2.0}}
            raise ValueError(
                "`class_weight` should be given to `compile`, keyed by task, since classes differ from task to task: "
                f"`compile(class_weight={example})`. Received: class_weight={class_weight!r}"
            )

    def _prepared(
        self,
        data: Mixture | np.ndarray | Mapping[str, np.ndarray] | None,
        steps_per_epoch: int | None = None,
        training: bool | None = True,
    ) -> Structure:
        """Data as Keras takes them, their steps and callbacks where they bring any, as `keras_mtl.data.mix` does."""
        prepare = getattr(data, "prepare_for", None)
        return (data, None, []) if prepare is None else prepare(self, steps_per_epoch, training)


TRAINS_ON = ("tensorflow", "jax")


def check_backend() -> None:
    """Raises where Keras runs on a backend on which models do not train."""
    if keras.backend.backend() not in TRAINS_ON:
        raise RuntimeError(_where_it_trains())


def _where_it_trains() -> str:
    return (
        "keras_mtl trains on the backends TensorFlow and JAX of Keras: models should be compiled, fitted and evaluated "
        f"where `KERAS_BACKEND` is 'tensorflow' or 'jax'. Received: the backend {keras.backend.backend()!r}"
    )


def _exclude_from_weight_decay(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> None:
    """Keeps learned weightings out of the optimizer's weight decay."""
    if not variables or optimizer is None or optimizer.built:
        return
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    for one in getattr(optimizer, "optimizers", [optimizer]):
        exclude_from_weight_decay(one, variables)
