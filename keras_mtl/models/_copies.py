"""Copies of layers: what they are made of, what they keep and what is drawn anew."""

from __future__ import annotations

import copy
import pathlib
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mtl._checks import as_list, check_boolean
from keras_mtl._keras_private import layers_directly_within, layers_of, lookup_table_of, own_variables
from keras_mtl._types import Layers, Shape, Structure, Tensor


def check_copy_weights(
    copy_weights: bool | None, stacks: Sequence[Sequence[keras.Layer]], first_index: int = 0
) -> bool:
    """Raises where copies of stages would lose, or could not take, the weights that the stages have.

    Args:
        copy_weights: `None` or boolean, as builders take it.
        stacks: List of lists of layers, the stages of which copies are made.
        first_index: Integer. Place of the first of them in the trunk.

    Returns:
        Boolean. Whether the copies take the weights.
    """
    copy_weights = check_boolean(copy_weights, "copy_weights", or_none=True)
    placed = [(index, layer) for index, stack in enumerate(stacks, start=first_index) for layer in stack]
    if copy_weights and placed and not any(layer.built and layer.weights for _, layer in placed):
        index, layer = next((each for each in placed if not each[1].built), placed[0])
        raise ValueError(
            f"`copy_weights=True` needs stages that have weights. Received: layer '{layer.name}' of `stages[{index}]`, "
            f"which {'has none' if layer.built else 'is not built'}"
        )
    for index, layer in placed if copy_weights is None else ():
        if not as_initialized(layer):
            raise ValueError(
                "`copy_weights` should be True or False where stages have weights other than their initializers draw, "
                "such as trained or loaded ones: True starts every copy from these weights, False starts each copy "
                f"anew. Received: copy_weights=None; layer '{layer.name}' of `stages[{index}]` has such weights"
            )
    return bool(copy_weights)


def copy_stack(given: Layers, scope: str, argument: str) -> list[keras.Layer]:
    """Copies the layers of an argument of which every owner gets its own.

    Args:
        given: Keras layer or list of layers.
        scope: String. The owner of the copies.
        argument: String. What the caller calls them, for the message.

    Returns:
        List of layers. Once they are built, `keep_state` has to follow.
    """
    stack = as_list(given)
    for layer in stack:
        if not as_initialized(layer):
            raise ValueError(
                f"{argument} should have no trained or loaded weights, since each place that takes it gets a copy that "
                f"starts anew. Received: layer '{layer.name}', which has such weights. Freeze it (`trainable = False`) "
                "to keep them in every copy"
            )
    return [copy_layer(layer, tag=scope) for layer in stack]


def copy_layer(layer: keras.Layer, tag: str) -> keras.Layer:
    """Makes a layer from another's config, so that the two never start equal.

    Seeds that the config holds are replaced by seeds derived from them and
    from `tag`; where it holds none, Keras draws them from the global seed. So
    `keras.utils.set_random_seed` or explicit seeds reproduce a whole model.
    Vocabularies are there at once; the rest of the original's state comes with
    `keep_state`, once the copy is built.

    Args:
        layer: Keras layer.
        tag: String. Tells copies of one layer apart.

    Returns:
        A Keras layer of the same class and name.
    """
    try:
        copied = type(layer).from_config(_reseed(copy.deepcopy(layer.get_config()), tag))
    except Exception as error:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) should be able to be made from its config, since a copy "
            f"of it is needed for '{tag}'. The layer says: {error}"
        ) from error
    _keep_vocabularies(layer, copied)
    return copied


def keep_state(stack: Sequence[keras.Layer], copies: Sequence[keras.Layer], weights: bool | None = False) -> None:
    """Gives built copies what their originals have and initializers do not draw.

    Adapted statistics, vocabularies, variables that are made non-trainable and
    what is frozen is always kept, unless it is as its initializer drew it. The
    moving statistics of a batch normalization belong to the weights that made
    them.

    Args:
        stack: List of layers.
        copies: List of the layers made from them.
        weights: Boolean. Whether trainable weights are kept too. Defaults to
            `False`.
    """
    for source, target in zip(stack, copies, strict=True):
        for own, new in _pairs(source, target):
            _keep_own_state(own, new, weights)


def built_copy(layer: keras.Layer, copied: keras.Layer, weights: bool | None = True) -> keras.Layer:
    """Builds a layer as another one is, and gives it that one's state.

    Args:
        layer: Keras layer.
        copied: Layer that was made from the config of `layer`.
        weights: As `keep_state` takes it.

    Returns:
        `copied`.
    """
    _keep_vocabularies(layer, copied)
    if layer.built:
        if not copied.built:
            copied.build_from_config(layer.get_build_config())
        keep_state([layer], [copied], weights)
    return copied


def as_initialized(layer: keras.Layer) -> bool:
    """Whether a layer's trainable weights are what its initializers draw, also those of layers within it.

    Initializers of Keras draw the same numbers whenever they are asked. A
    weight whose initializer is not known counts as not initialized by it;
    frozen layers have no trainable weights.
    """
    drawn = {}
    for each in layers_of(layer):
        initializers = _initializers(each)
        for variable in _own_weights(each) if each.trainable else ():
            # A wrapper has the variables of what it wraps, and the wrapped layer their initializer.
            drawn[id(variable)] = drawn.get(id(variable), False) or _is_drawn(each, variable, initializers)
    return all(drawn.values())


def _reseed(config: Structure, tag: str) -> Structure:
    if isinstance(config, dict):
        return {
            key: zlib.crc32(f"{tag}/{value}".encode()) % 2**31
            if key == "seed" and type(value) is int
            else _reseed(value, tag)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_reseed(item, tag) for item in config)
    return config


def _pairs(source: keras.Layer, target: keras.Layer) -> Iterator[tuple[keras.Layer, keras.Layer]]:
    """Pairs of a layer and its copy, and of the layers within them, outermost first."""
    yield source, target
    inner, new = _inner(source), _inner(target)
    if len(inner) != len(new):
        raise ValueError(
            f"A copy of layer '{source.name}' ({type(source).__name__}) should have the layers within that the layer "
            f"has, {[layer.name for layer in inner]}. Received: {[layer.name for layer in new]}"
        )
    for own, copied in zip(inner, new, strict=True):
        yield from _pairs(own, copied)


def _inner(layer: keras.Layer) -> list[keras.Layer]:
    return layer.layers if isinstance(layer, keras.Model) else layers_directly_within(layer)


def _has_vocabulary(layer: keras.Layer) -> bool:
    return hasattr(layer, "get_vocabulary") and hasattr(layer, "set_vocabulary")


def _keep_vocabularies(source: keras.Layer, target: keras.Layer) -> None:
    """Before the first call, since the vocabulary's size is that of the output."""
    if _has_vocabulary(source):
        _keep_vocabulary(source, target)
    elif len(_inner(source)) == len(_inner(target)):  # layers that `build` makes are not there yet
        for own, new in zip(_inner(source), _inner(target), strict=True):
            _keep_vocabularies(own, new)


def _keep_vocabulary(source: keras.Layer, target: keras.Layer) -> None:
    words = source.get_vocabulary()
    if words == target.get_vocabulary():
        return
    weights = getattr(lookup_table_of(source), "idf_weights", None)
    if weights is None:
        target.set_vocabulary(words)
    else:  # those behind the words are padding
        target.set_vocabulary(words, np.asarray(weights)[: len(words)])


def _keep_own_state(source: keras.Layer, target: keras.Layer, weights: bool | None) -> None:
    if _has_vocabulary(source):
        return _keep_vocabulary(source, target)
    if hasattr(source, "save_assets"):
        with tempfile.TemporaryDirectory() as folder:
            source.save_assets(folder)
            if any(pathlib.Path(folder).iterdir()):
                target.load_assets(folder)
    if not source.built:
        return None
    frozen = not source.trainable and not _as_drawn(source)
    if weights or frozen or not _own_weights(source):
        store = {}
        source.save_own_variables(store)
        target.load_own_variables(store)
        return None
    initializers = _initializers(source)
    for own, new in zip(own_variables(source).trainable, own_variables(target).trainable, strict=True):
        if not own.trainable and not _is_drawn(source, own, initializers):
            new.assign(own)
    if not isinstance(source, keras.layers.BatchNormalization):
        for own, new in zip(own_variables(source).others, own_variables(target).others, strict=True):
            new.assign(own)
    return None


def _own_weights(layer: keras.Layer) -> list[keras.Variable]:
    """The variables of a layer, without those of layers within it, that training changes."""
    own = own_variables(layer)
    return own.trainable + (own.others if isinstance(layer, keras.layers.BatchNormalization) else [])


def _as_drawn(layer: keras.Layer) -> bool:
    initializers = _initializers(layer)
    return all(_is_drawn(layer, variable, initializers) for variable in _own_weights(layer))


def _initializers(layer: keras.Layer) -> dict[str, keras.Initializer]:
    return {name: value for name, value in vars(layer).items() if name.endswith("initializer") and callable(value)}


def _is_drawn(layer: keras.Layer, variable: keras.Variable, initializers: Mapping[str, keras.Initializer]) -> bool:
    values = ops.convert_to_numpy(variable.value)
    named = initializers.get(f"{variable.name}_initializer")
    candidates = [named] if named else [*initializers.values(), keras.initializers.Zeros(), keras.initializers.Ones()]
    if named and variable.name == "bias" and getattr(layer, "unit_forget_bias", False):
        candidates = [_with_forget_gate(named)]
    return any(_draws(candidate, variable, values) for candidate in candidates)


def _draws(initializer: keras.Initializer | None, variable: keras.Variable, values: Tensor) -> bool:
    if isinstance(getattr(initializer, "seed", None), keras.random.SeedGenerator):  # something else each time
        return False
    try:
        drawn = ops.convert_to_numpy(initializer(variable.shape, dtype=variable.dtype))  # type: ignore[misc]
    except (TypeError, ValueError):  # such as an identity for a vector
        return False
    if np.array_equal(values, drawn):
        return True
    # `EinsumDense` counts the inputs of its kernel in its own way, which changes the scale of what is drawn.
    if not isinstance(initializer, keras.initializers.VarianceScaling) or values.shape != drawn.shape:
        return False
    values, drawn = values.astype("float64"), drawn.astype("float64")
    largest, scale = np.abs(values).max(initial=0.0), np.abs(drawn).max(initial=0.0)
    return bool(scale > 0 and np.abs(values - largest / scale * drawn).max() <= 1e-6 * largest)


def _with_forget_gate(initializer: keras.Initializer | None) -> Callable[..., Any]:
    """Initializer of the bias of a cell with four gates, the second of which starts open."""

    def initialize(shape: Shape, dtype: str) -> Tensor:
        size = shape[0] // 4
        parts = [initializer((size,), dtype=dtype), ops.ones((size,), dtype), initializer((2 * size,), dtype=dtype)]  # type: ignore[misc]
        return ops.concatenate(parts)

    return initialize
