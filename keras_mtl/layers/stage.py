"""A stage of a trunk, a column or a head, under the name of its owner."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import keras
from keras import layers

from keras_mtl._keras_private import layers_directly_within, output_spec
from keras_mtl._types import Structure, Tensor


@keras.saving.register_keras_serializable(package="keras_mtl")
class Stage(layers.Layer):
    """One or more layers in a row whose variables carry their owner's name.

    The paths of the variables are `<scope>/<layer>/<variable>`, where the
    scope is `"shared"` or a task's name, also after saving and loading. So
    `keras.optimizers.MultiOptimizer` patterns such as `"left/.*"` give a task
    or the trunk its own optimizer. Layers that were built before they became
    part of a stage keep the paths that they have.

    Args:
        stack: List of Keras layers, called one after the other.
        scope: String. The owner: `"shared"` or the name of a task, with parts
            after a `/` where the owner has several such stages.
        name: String. Name of the stage.

    Call arguments:
        inputs: What the first layer takes: a tensor, or a list or dict of
            tensors.

    Returns:
        What the last layer returns.

    Example:

    >>> stage = keras_mtl.layers.Stage([keras.layers.Dense(4, name="fc")], scope="shared", name="shared_fc")
    >>> stage(np.zeros((2, 3))).shape
    TensorShape([2, 4])
    >>> [variable.path for variable in stage.variables]
    ['shared/fc/kernel', 'shared/fc/bias']
    """

    def __init__(self, stack: Sequence[keras.Layer], scope: str, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.stack = list(stack)
        self.scope = scope
        self.supports_masking = True

    @property
    def layers(self) -> list[keras.Layer]:
        """List of the layers, as models have it: so `summary(expand_nested=True)` shows them."""
        return list(self.stack)

    def __dir__(self) -> list[str]:
        # Keras saves what `dir` names: the layers once, as `stack`.
        return [name for name in super().__dir__() if name != "layers"]

    def __getattr__(self, name: str) -> Structure:
        if hasattr(type(self), name):  # a property of the stage that has raised: with its own words
            return super().__getattribute__(name)
        named = [layer.name for layer in self.__dict__.get("stack", ()) if hasattr(layer, name)]
        where = f"; its layers {named} have: see `get_layer`" if named and not name.startswith("_") else ""
        raise AttributeError(f"Stage '{self.__dict__.get('name')}' has no attribute '{name}'{where}")

    def get_layer(self, name: str | None = None, index: int | None = None) -> keras.Layer:
        """Gives a layer by its name or its place.

        Args:
            name: String. Name of the layer.
            index: Integer. Its place in the stage.

        Returns:
            A Keras layer.
        """
        found = [layer for i, layer in enumerate(self.stack) if layer.name == name or i == index]
        if not found or (name is None) == (index is None):
            raise ValueError(
                f"`name` or `index` should say which layer of stage '{self.name}' is meant: "
                f"{[layer.name for layer in self.stack]}. Received: name={name!r}, index={index!r}"
            )
        return found[0]

    def enable_lora(self, rank: int, **options: Any) -> None:
        """Freezes what the stage's layers have learned and lets a change of low rank train.

        Args:
            rank: Integer. Rank of the change of each kernel.
            **options: As `enable_lora` of Keras' layers takes them.

        Raises:
            ValueError: If no layer of the stage, or within its layers, can.
        """
        for layer in self.lora_layers():
            layer.enable_lora(rank, **options)

    def lora_layers(self) -> list[keras.Layer]:
        """List of the layers in the stage, and within its layers, that Keras' LoRA takes.

        Raises:
            ValueError: If there are none.
        """
        waiting, able = list(self.stack), []
        while waiting:
            layer = waiting.pop(0)
            if hasattr(layer, "enable_lora"):
                able.append(layer)
            else:
                waiting += layers_directly_within(layer)
        if not able:
            raise ValueError(
                f"Stage '{self.name}' should have a layer with `enable_lora`, such as Dense. Received: layers "
                f"{[layer.name for layer in self.stack]}"
            )
        return able

    @property
    def mixer(self) -> keras.Layer | None:
        """The last layer, if it mixes what comes in with coefficients; else `None`."""
        return self.stack[-1] if hasattr(self.stack[-1], "coefficients") else None

    def build(self, input_shape: Structure) -> None:
        del input_shape  # shapes alone do not say the dtype: `compute_output_spec` builds

    def compute_output_spec(
        self, inputs: Structure, training: bool | None = None, mask: Tensor | None = None
    ) -> Structure:
        del training, mask
        outputs = inputs
        with name_scope(self.scope):
            for layer in self.stack:
                # Calling builds the layer under this scope, whatever its kind.
                outputs = output_spec(layer, outputs) if layer.built else layer(outputs)
        return keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), outputs)

    def call(self, inputs: Structure, training: bool | None = None, mask: Structure | None = None) -> Structure:
        del training, mask  # both travel with the call context and the tensors
        outputs = inputs
        with name_scope(self.scope):
            for layer in self.stack:
                outputs = layer(outputs)
        return outputs

    def compute_mask(self, inputs: Structure, previous_mask: Tensor | None = None) -> Tensor | None:
        del inputs, previous_mask
        return None  # the last layer of the stack has put its mask on the outputs

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stack": [keras.saving.serialize_keras_object(layer) for layer in self.stack],
            "scope": self.scope,
            "scoped": [self._is_scoped(layer) for layer in self.stack],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        scoped = config.pop("scoped")
        stack = []
        for layer, inside in zip(config["stack"], scoped, strict=True):
            with name_scope(config["scope"]) if inside else contextlib.nullcontext():
                stack.append(keras.saving.deserialize_keras_object(_left_to_sequential(layer)))
        return cls(**{**config, "stack": stack})

    def _is_scoped(self, layer: keras.Layer) -> bool:
        paths = [v.path for v in layer.variables if "seed_generator" not in v.path]
        return not paths or any(path.startswith(f"{self.scope}/") for path in paths)


def _left_to_sequential(config: Structure) -> Structure:
    """Config of a layer in which every `Sequential` builds its layers under its own name, as at first."""
    if isinstance(config, dict):
        inside = {key: _left_to_sequential(value) for key, value in config.items()}
        if config.get("class_name") == "Sequential":
            for layer in inside["config"]["layers"]:
                layer.pop("build_config", None)
        return inside
    return [_left_to_sequential(item) for item in config] if isinstance(config, list) else config


def name_scope(scope: str) -> AbstractContextManager[Any]:
    """The name scope of an owner, from the root."""
    parent, _, last = scope.rpartition("/")
    return keras.name_scope(last, override_parent=parent)
