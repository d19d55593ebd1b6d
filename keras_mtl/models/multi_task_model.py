"""The multi-task model: functional, with a dict of outputs keyed by task."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from keras_mtl._files import is_one_file, whole_file
from keras_mtl._types import Inputs, Layers, Structure, Tensor
from keras_mtl.layers import Stage
from keras_mtl.models._arguments import check_heads, check_outputs
from keras_mtl.models._coefficients import joint_losses, read_coefficients
from keras_mtl.models._sharing import Sharing
from keras_mtl.models._stages import add_head
from keras_mtl.models._summary import sharing_table
from keras_mtl.training.trainer import TaskTrainer


@keras.saving.register_keras_serializable(package="keras_mtl")
class MultiTaskModel(TaskTrainer):
    """A functional Keras model with one output for each task.

    It trains with `fit` like any Keras model. What differs: each task's loss
    is the mean over the task's labelled examples; labels may be missing; a
    `weighting` sets the task weights as training goes on.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        outputs: Dict from task name to Keras tensor.
        name: String. Name of the model.

    Raises:
        ValueError: If `outputs` is not a dict of one tensor for each task, is
            empty, or a task's name cannot be part of log and variable names.

    Example:

    >>> inputs = keras.Input((8,))
    >>> hidden = keras.layers.Dense(16, activation="relu")(inputs)
    >>> outputs = {"price": keras.layers.Dense(1)(hidden), "sold": keras.layers.Dense(1, activation="sigmoid")(hidden)}
    >>> model = keras_mtl.MultiTaskModel(inputs, outputs)
    >>> model.compile(
    ...     optimizer="adam",
    ...     loss={"price": "mse", "sold": "binary_crossentropy"},
    ...     weighting="uncertainty",
    ...     missing={"price": "nan"},
    ... )
    >>> y = {"price": np.array([1.0, np.nan, 2.0, np.nan]), "sold": np.array([1, 0, 1, 1])}
    >>> history = model.fit(np.ones((4, 8)), y, verbose=0)
    >>> sorted(history.history)
    ['loss', 'price_loss', 'price_weight', 'sold_loss', 'sold_weight']
    """

    def __init__(
        self, inputs: Inputs, outputs: Mapping[str, keras.KerasTensor], name: str | None = None, **kwargs: Any
    ) -> None:
        tasks = check_outputs(outputs)
        super().__init__(inputs, outputs, name=name, **kwargs)
        self._tasks = tasks
        self._sharing: Sharing | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tuple of the tasks' names, in the order of the outputs."""
        return tuple(self._tasks)

    @property
    def sharing(self) -> Sharing:
        """Which layers serve which tasks, found from the graph."""
        if self._sharing is None:
            self._sharing = Sharing(self)
        return self._sharing

    @property
    def shared_variables(self) -> list[keras.Variable]:
        """Trainable variables that two tasks or more reach."""
        return self.sharing.shared_variables()

    def task_variables(self, task: str) -> list[keras.Variable]:
        """Trainable variables that serve one task alone.

        Args:
            task: String. Name of the task.

        Returns:
            List of `keras.Variable`.
        """
        self._check_task(task)
        return self.sharing.task_variables(task)

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.Layer:
        """Gives a layer by its name or its place, also one within a stage.

        Args:
            name: String. Name of a layer of the model, or of a layer of one of
                its stages.
            index: Integer. Place of a layer of the model.

        Returns:
            A Keras layer.

        Raises:
            ValueError: If there is no such layer, or several stages have one.
        """
        if name is None or index is not None or any(layer.name == name for layer in self.layers):
            return super().get_layer(name, index)
        stages = [stage for stage in self.layers if isinstance(stage, Stage)]
        owners = [stage for stage in stages if any(layer.name == name for layer in stage.layers)]
        if len(owners) > 1:
            raise ValueError(
                f"`name` should be of a layer of one stage. Received: name={name!r}, which stands in "
                f"{[stage.name for stage in owners]}: take `get_layer` of one of these stages"
            )
        return owners[0].get_layer(name) if owners else super().get_layer(name)

    def task_model(self, task: str) -> keras.Model:
        """Makes the single-task model of a task, for export and serving.

        It shares layers and weights with this model and has only the inputs
        that the task needs.

        Args:
            task: String. Name of the task.

        Returns:
            A functional `keras.Model` with one output.
        """
        self._check_task(task)
        inputs = self.sharing.inputs_of(task)
        return keras.Model(inputs, self.output[task], name=f"{self.name}_{task}")

    def add_task(
        self, name: str, head: Layers, *, at: str | None = None, freeze: Literal["trunk", "all"] | None = None
    ) -> MultiTaskModel:
        """Makes a model with one more task on the shared features.

        The new model shares this one's layers and weights.

        Args:
            name: String. Name of the new task.
            head: Keras layer or list of layers.
            at: String. Name of the layer whose output the head takes. Defaults
                to `None`: the last layer that the tasks share.
            freeze: `None`, `"trunk"` or `"all"`. What stops training: nothing,
                the shared layers, or every layer but the new head. Frozen
                batch normalization keeps its statistics. Defaults to `None`.

        Returns:
            A `MultiTaskModel`, to be compiled anew.

        Raises:
            ValueError: If the task exists, `at` is no layer, or it is not
                given and the model has several such places.
        """
        (stack,) = check_heads({name: head}).values()
        if name in self.tasks:
            raise ValueError(f"`name` should be a new task. Received: name={name!r}; tasks: {self.tasks}")
        if freeze not in (None, "trunk", "all"):
            raise ValueError(f"`freeze` should be None, 'trunk' or 'all'. Received: freeze={freeze!r}")
        features = self._features_for_new_task(at)
        for layer in self.layers if freeze == "all" else self.sharing.layers:
            if freeze == "all" or (freeze == "trunk" and self.sharing.is_shared(layer)):
                layer.trainable = False
        outputs = {task: self.output[task] for task in self.tasks}
        outputs[name] = add_head(stack, features, name)
        return type(self)(self.input, outputs, name=self.name)

    def _features_for_new_task(self, at: str | None) -> keras.KerasTensor:
        if at is not None:
            return super().get_layer(at).output
        places = self.sharing.features() if len(self.tasks) > 1 else [self.layers[-1].input]
        if len(places) != 1:
            raise ValueError(
                f"`at` should name the layer whose output the new head takes, since the tasks of model '{self.name}' "
                f"part in {len(places)} places. Layers: {[layer.name for layer in self.layers]}"
            )
        return places[0]

    def sharing_summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Prints which layers serve which tasks, with parameter counts.

        Args:
            print_fn: Function that takes the text. Defaults to `print`.
        """
        print_fn(sharing_table(self))

    def sharing_coefficients(self, x: Structure | None = None) -> dict[str, np.ndarray]:
        """Reads the gates, units and masks through which the tasks share.

        Args:
            x: Inputs as `predict` takes them. Gates and masks that depend on
                the example are averaged over it; without them it is not
                needed.

        Returns:
            Dict from where their variables are, such as `"left/units/conv"` or
            `"left/gate"`, to NumPy arrays. Empty where tasks share layers and
            nothing else.

        Raises:
            ValueError: If there are gates or masks that depend on the example
                and `x` is not given.
        """
        return read_coefficients(self, x)

    @property
    def losses(self) -> list[Tensor]:
        """What layers add to the loss by themselves and with others of the model."""
        return [*super().losses, *joint_losses(self)]

    def save(
        self, filepath: str | os.PathLike, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Saves the model as Keras does; the file is there whole or not at all.

        Args:
            filepath: String or path that ends in `.keras`.
            overwrite: Boolean. Whether to write over a file without asking.
            zipped: Boolean or `None`. As in Keras.
            **kwargs: As in Keras.
        """
        # An existing file that is not to be overwritten is left to Keras, which asks.
        if zipped is False or not is_one_file(filepath, ".keras") or (not overwrite and os.path.exists(filepath)):
            return super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)
        with whole_file(filepath) as part:
            return super().save(part, zipped=zipped, **kwargs)

    def save_weights(
        self, filepath: str | os.PathLike, overwrite: bool = True, max_shard_size: float | None = None
    ) -> None:
        """Saves the weights as Keras does; the file is there whole or not at all.

        Args:
            filepath: String or path that ends in `.weights.h5`.
            overwrite: Boolean. Whether to write over a file without asking.
            max_shard_size: Number or `None`. As in Keras.
        """
        several = max_shard_size is not None or not is_one_file(filepath, ".weights.h5")
        if several or (not overwrite and os.path.exists(filepath)):
            return super().save_weights(filepath, overwrite=overwrite, max_shard_size=max_shard_size)
        with whole_file(filepath) as part:
            return super().save_weights(part)

    def _check_task(self, task: str) -> None:
        if task not in self.tasks:
            raise ValueError(f"`task` should be one of {self.tasks}. Received: task={task!r}")
