"""The search spaces as one `HyperModel`, ready for keras-tuner's tuners."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
import numpy as np

from keras_mtl import models
from keras_mtl import weighting as weightings
from keras_mtl._checks import check_boolean
from keras_mtl._types import Data, Heads, Inputs, Stages, Structure, Tasks
from keras_mtl.analysis._runs import StepClock
from keras_mtl.analysis._traced_models import TracedModels
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import as_initialized, check_copy_weights
from keras_mtl.models._fresh import fresh_inputs, fresh_layer, fresh_metrics
from keras_mtl.tuning._trial_board import TrialBoard
from keras_mtl.tuning._weight_free_objective import LogObjective, WeightFreeObjective
from keras_mtl.tuning._whole_files import keep_files_whole
from keras_mtl.tuning.sharing_space import sharing_space
from keras_mtl.tuning.training_space import training_space
from keras_mtl.tuning.weighting_space import weighting_space

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.tuning.sharing_space import SharingChoice
    from keras_mtl.tuning.training_space import TrainingChoice


class SharingHyperModel(keras_tuner.HyperModel):
    """Search over how tasks share, how they are weighed and how they train.

    It is ready for `keras_tuner.RandomSearch`, `Hyperband`,
    `BayesianOptimization` and `GridSearch`. What it adds to the spaces:

    - The whole space is known before the first trial, from one build.
    - Each trial gets fresh copies of inputs, stages, heads and metrics, under
      the dtype policy of now; keras-tuner resets Keras' global state.
    - A trial whose loss stops being a number is marked as failed, and the
      search goes on.
    - A trial that has the structure of an earlier one is not traced again.
    - Trials keep every log, and `parameters` and `step_ms`, for
      `keras_mtl.tuning.pareto_front`.
    - Checkpoints hold the weighting's and the optimizer's state.
    - Files of keras-tuner are there whole or not at all, so that a search which
      is killed while it writes one can go on.
    - With `keras.callbacks.TensorBoard` among the callbacks of `search`, each
      trial gets a `TaskBoard`, and HParams has all parameters and the tasks'
      metrics from the first trial on.

    Where a choice shares no variable, methods that see task gradients have
    nothing to weigh, and are "equal".

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of stages, as builders take them; or a function of `hp`
            that returns fresh ones. Layers that are built keep their weights.
        heads: Dict from task to a Keras layer or a list of layers; or a
            function of `hp` that returns fresh ones, with the same tasks.
        compile: Dict of arguments of `MultiTaskModel.compile` that are not
            searched: at least `loss`.
        sharing: Dict of options of `sharing_space`, or a function of `hp` that
            returns what it does. Defaults to `None`: how many stages are
            shared.
        weighting: Same, of `weighting_space`. Defaults to `None`: not
            searched.
        training: Same, of `training_space`. Defaults to `None`: the learning
            rate; not searched where `compile` has an `optimizer`.
        data: Function of a `TrainingChoice` that returns the training data of
            a trial, for samplers with a searched temperature; `search` is then
            given all but these. Defaults to `None`.
        copy_weights: `None` or boolean. Whether columns and experts start from
            the stages' weights. Defaults to `None`: every copy starts anew, and
            weights that would be lost are refused, as by builders.
        task_board: Dict of options of `keras_mtl.callbacks.TaskBoard`, or
            `False` for none. Defaults to `None`: no images, which take time.
        reuse: Integer. How many traced models are kept for trials of the same
            structure; 0 for none. Defaults to `8`.
        seed: Integer. Seed of every trial's initial weights and order of data.
            Defaults to `None`: every trial its own.
        name: String. Defaults to `None`.

    Raises:
        ValueError: If a head, a stage or an option is missing, unknown or out
            of range.

    Example:

    >>> import keras_tuner
    >>> hypermodel = keras_mtl.tuning.SharingHyperModel(
    ...     keras.Input((8,)),
    ...     stages=[keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     compile={"loss": "mse"},
    ...     weighting={"methods": ["equal", "uncertainty"]},
    ... )
    >>> hp = keras_tuner.HyperParameters()
    >>> hypermodel.build(hp).tasks
    ('a', 'b')
    >>> hp.values
    {'hard_sharing/shared_depth': 2, 'weighting': 'equal', 'learning_rate': 0.001}
    """

    def __init__(
        self,
        inputs: Inputs,
        stages: Stages | Callable[..., Any],
        heads: Heads | Callable[..., Any],
        *,
        compile: Mapping[str, Any],
        sharing: Mapping[str, Any] | Callable[..., Any] | None = None,
        weighting: Mapping[str, Any] | Callable[..., Any] | None = None,
        training: Mapping[str, Any] | Callable[..., Any] | None = None,
        data: Callable[[Any], Data] | None = None,
        copy_weights: bool | None = None,
        task_board: Mapping[str, Any] | bool | None = None,
        reuse: int = 8,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        keep_files_whole()
        self.inputs = check_inputs(inputs)
        self._stages = stages if callable(stages) else check_stages(stages)
        self._heads = heads if callable(heads) else check_heads(heads)
        self.compile_options = _check_compile(compile, weighting, training)
        self._sharing = _space(sharing, "sharing", self._sharing_space)
        self._weighting = _space(weighting, "weighting", self._weighting_space)
        self._training = _space(training, "training", training_space)
        self._searches_weighting = weighting is not None
        self.data = data
        self.copy_weights = check_boolean(copy_weights, "copy_weights", or_none=True)
        if not callable(stages) and not callable(sharing) and _may_copy(sharing or {}, len(self._stages)):  # type: ignore[arg-type]
            check_copy_weights(self.copy_weights, self._stages)  # type: ignore[arg-type]
        self.seed = seed
        self.traced = TracedModels(reuse)
        self._task_board = {"images_every": 0} if task_board is None else task_board
        self._boards = TrialBoard(self._task_board)
        self._policy = keras.config.dtype_policy()
        if not callable(heads):
            self.tasks = tuple(self._heads)  # type: ignore[arg-type]
            _check_heads_for(self.compile_options, self.tasks)
        # Finds what is wrong with the options now, and not in the first trial.
        self.declare_hyperparameters(keras_tuner.HyperParameters())

    def choices(self, hp: keras_tuner.HyperParameters) -> tuple[Any, Any, Any]:
        """What `hp` says now.

        Args:
            hp: `keras_tuner.HyperParameters`.

        Returns:
            Tuple of a `SharingChoice`, a dict of arguments of `compile`, and a
            `TrainingChoice`, the last two `None` where they are not searched.
        """
        return (
            self._sharing(hp),
            self._weighting(hp) if self._searches_weighting else None,
            None if "optimizer" in self.compile_options else self._training(hp),
        )

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Declares the whole space, without building a model.

        Args:
            hp: `keras_tuner.HyperParameters`, to which the space is added.
        """
        seen, waiting = [], [{}]
        while waiting:
            trial = hp.copy()
            trial.values.update(waiting.pop())
            trial.ensure_active_values()
            self.choices(trial)
            hp.merge(trial.space, overwrite=False)
            # A user's function may declare something only under values that were not tried yet.
            for conditions in trial.inactive_scopes:
                if conditions not in seen:
                    waiting.append({condition.name: condition.values[0] for condition in conditions})
            seen += [c for c in (*trial.active_scopes, *trial.inactive_scopes) if c not in seen]

    def build(self, hp: keras_tuner.HyperParameters) -> MultiTaskModel:
        """Builds and compiles the model of `hp`.

        Args:
            hp: `keras_tuner.HyperParameters`.

        Returns:
            A compiled `keras_mtl.MultiTaskModel` with a built optimizer.
        """
        # keras-tuner clears the session before each build, and this with it.
        keras.config.set_dtype_policy(self._policy)
        if self.seed is not None:
            keras.utils.set_random_seed(self.seed)
        sharing, weighting, training = self.choices_quietly(hp)
        given = check_stages(self._stages(hp)) if callable(self._stages) else self._stages
        model = sharing.build(
            fresh_inputs(self.inputs),
            _fresh_stages(given, training),
            self._fresh_heads(hp),
            **self._copying(given, sharing),
        )
        model.compile(**self._compile_arguments(model, weighting, training))
        # Now, so that a checkpoint's optimizer state is loaded too.
        model.optimizer.build(model.trainable_variables)
        return self.traced.exchange(model)

    def choices_quietly(self, hp: keras_tuner.HyperParameters) -> tuple[Any, Any, Any]:
        """As `choices`; keras-tuner does not build a model for every condition that was met.

        Args:
            hp: `keras_tuner.HyperParameters`.

        Returns:
            As `choices`.
        """
        trial = hp.copy()
        found = self.choices(trial)
        hp.merge(trial.space, overwrite=False)
        hp.values.update({name: value for name, value in trial.values.items() if name not in hp.values})
        return found

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: MultiTaskModel,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        **kwargs: Any,
    ) -> keras.callbacks.History | dict[str, float]:
        """Trains the model of a trial.

        Args:
            hp: `keras_tuner.HyperParameters`.
            model: What `build` returned.
            *args: Arguments of `fit`.
            callbacks: List of callbacks.
            **kwargs: Further arguments of `fit`.

        Returns:
            A `keras.callbacks.History`, with `parameters`, `shared_parameters`
            and `step_ms`; or, where the trial was finished before the search
            was stopped, a dict
            of its results.

        Raises:
            keras_tuner.errors.FailedTrialError: If a loss is not finite.
        """
        tuners = [c for c in callbacks if hasattr(c, "trial") and hasattr(c, "tuner")]  # keras-tuner's own
        objectives = [c.tuner.oracle.objective for c in tuners]
        for callback, objective in zip(tuners, objectives, strict=True):
            if callback.trial.metrics.exists(objective.name):
                # keras-tuner takes the last trial that ended for one that was interrupted when it reads a search that
                # was stopped, and would train it again: over the checkpoint that its score came from.
                return {objective.name: callback.trial.metrics.get_best_value(objective.name)}
        clock = StepClock()
        logged = [LogObjective(objective) for objective in objectives if isinstance(objective, WeightFreeObjective)]
        boards = self._boards.callbacks(hp, model, callbacks, [log.objective.name for log in logged])  # type: ignore[arg-type]
        callbacks = [keras.callbacks.TerminateOnNaN(), clock, *logged, *boards]
        if self.data is not None:
            args = (self.data(self.choices_quietly(hp)[2]), *args)
        try:
            history = model.fit(*args, callbacks=callbacks, **kwargs)  # type: ignore[misc]
        except FloatingPointError as error:  # what `compile(on_nonfinite="raise")` does
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        _check_finite(history, model.tasks)
        epochs = len(history.epoch)
        parameters = sum(int(np.prod(w.shape)) for layer in model.layers for w in layer.trainable_weights)
        history.history["parameters"] = [parameters] * epochs
        shared = sum(int(np.prod(w.shape)) for w in model.shared_variables)
        history.history["shared_parameters"] = [shared] * epochs  # where 0, methods that see task gradients are "equal"
        history.history["step_ms"] = [clock.milliseconds()] * epochs
        if tuners:
            self.traced.keep(model)  # nobody else holds it
        return history

    def _sharing_space(self, hp: keras_tuner.HyperParameters, **options: Any) -> SharingChoice:
        stages = self._stages(hp) if callable(self._stages) else self._stages
        heads = self._heads(hp) if callable(self._heads) else self._heads
        return sharing_space(hp, stages, heads, **options)

    def _weighting_space(self, hp: keras_tuner.HyperParameters, **options: Any) -> dict[str, Any]:
        heads = self._heads(hp) if callable(self._heads) else self._heads
        loss = self.compile_options["loss"]
        trained = [task for task in heads if not isinstance(loss, dict) or loss.get(task) is not None]
        return weighting_space(hp, trained, **options)

    def _copying(self, stacks: Sequence[Sequence[keras.Layer]], sharing: SharingChoice) -> dict[str, bool]:
        """The builder's `copy_weights`: the trial's stages have the weights that are given, initialized or not."""
        copy_weights = self.copy_weights
        if copy_weights is None and all(as_initialized(layer) for stack in stacks for layer in stack):
            copy_weights = False
        taken = "copy_weights" in inspect.signature(getattr(models, sharing.family)).parameters
        if not taken or copy_weights is None or "copy_weights" in sharing.options:
            return {}
        return {"copy_weights": copy_weights}

    def _fresh_heads(self, hp: keras_tuner.HyperParameters) -> dict[str, list[keras.Layer]]:
        given = check_heads(self._heads(hp)) if callable(self._heads) else self._heads
        return {task: [fresh_layer(layer) for layer in stack] for task, stack in given.items()}

    def _compile_arguments(
        self, model: MultiTaskModel, weighting: Mapping[str, Any] | None, training: TrainingChoice | None
    ) -> dict[str, Any]:
        options = {name: fresh_metrics(value) for name, value in self.compile_options.items()}
        if isinstance(options.get("optimizer"), keras.optimizers.Optimizer):
            optimizer = options["optimizer"]
            options["optimizer"] = type(optimizer).from_config(optimizer.get_config())
        if training is not None:
            options["optimizer"] = training.make_optimizer()
        options.update(weighting or {})
        method = weightings.get(options.get("weighting", "equal"))
        if method.sees_gradients and not model.shared_variables:
            options.update(weighting="equal", gradients="parameters")
            options.pop("gramian_fraction", None)
            options.pop("diagnostics", None)
        return options


def _check_finite(history: keras.callbacks.History, tasks: Tasks) -> None:
    """Raises where a trial has come to nothing, whatever its logs look like."""
    logs, steps = history.history, history.params.get("steps")
    losses = ["loss", *(f"{task}_loss" for task in tasks)]
    for log in [*losses, *(f"val_{loss}" for loss in losses)]:
        if not np.all(np.isfinite(logs.get(log, 0.0))):
            raise keras_tuner.errors.FailedTrialError(
                f"`{log}` should stay finite. Received: {log}={logs[log]}. The learning rate may be too high."
            )
    for task in tasks:
        # `on_nonfinite="skip_step"` leaves such steps out of the logs: without any other, the loss reads 0.
        if steps and max(logs.get(f"{task}_nonfinite", [0])) >= steps:
            raise keras_tuner.errors.FailedTrialError(
                f"The loss of task '{task}' should be finite in some step. Received: none of the {steps} steps of an "
                "epoch. The learning rate may be too high."
            )


def _space(given: Structure, argument: str, standard: Callable[..., Any]) -> Callable[..., Any]:
    """The function of `hp` that an argument stands for."""
    if callable(given):
        return given
    if given is not None and not isinstance(given, dict):
        raise ValueError(
            f"`{argument}` should be a dict of options of `{argument}_space`, or a function of `hp`. "
            f"Received: {argument}={given!r}"
        )
    return lambda hp: standard(hp, **(given or {}))


def _check_compile(options: Mapping[str, Any], weighting: object, training: object) -> dict[str, Any]:
    if not isinstance(options, dict) or options.get("loss") is None:
        raise ValueError(f"`compile` should be a dict of arguments of `compile`, with `loss`. Received: {options!r}")
    taken = [name for name in ("weighting", "gradients", "loss_weights") if weighting is not None and name in options]
    taken += ["optimizer"] if training is not None and "optimizer" in options else []
    if taken:
        raise ValueError(f"`compile` should not hold what is searched. Received: {taken}")
    return dict(options)


def _check_heads_for(options: Mapping[str, Mapping[str, Sequence[str]] | str], tasks: Tasks) -> None:
    for argument in ("loss", "metrics", "weighted_metrics", "loss_weights"):
        given = options.get(argument)
        missing = [task for task in given if task not in tasks] if isinstance(given, dict) else []
        if missing:
            raise ValueError(
                f"`heads` should have a head for every task of `{argument}`. Received: no head for {missing}; "
                f"heads: {list(tasks)}"
            )


def _may_copy(options: Mapping[str, Any], count: int) -> bool:
    """Whether a builder of a sharing space makes copies of the stages."""
    families = options.get("families", "hard_sharing")
    families = [families] if isinstance(families, str) else families
    least = (options.get("depths") or (0, count))[0]
    fixed = (options.get("fixed") or {}).get("hard_sharing", {})
    shared = fixed.get("shared_depth", least)
    return any(f != "mtan" and (f != "hard_sharing" or shared != count) for f in families)


def _fresh_stages(given: Sequence[Sequence[keras.Layer]], training: TrainingChoice | None) -> list[list[keras.Layer]]:
    stages = []
    for stack in given:
        fresh = [_fresh_layer(layer, training) for layer in stack]
        if training is not None and training.dropout:
            fresh.append(keras.layers.Dropout(training.dropout, name="dropout"))
        stages.append(fresh)
    return stages


def _fresh_layer(layer: keras.Layer, training: TrainingChoice | None) -> keras.Layer:
    return fresh_layer(layer, None if training is None else training.regularize)
