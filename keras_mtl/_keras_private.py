"""What only private members of Keras give, each in one small function.

Nothing else in the package touches a private member of Keras. Upstream may change
them in any release, without notice: `tests/test_keras_private.py` says which one it
was, and CONTRIBUTING.md what to do then. A member that gets a public counterpart
leaves this file. Modules under `keras.src` are imported where they are asked, so that
`import keras_mtl` does not fail for one that has moved.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_mtl._types import Inputs, Structure, Tensor

# Layers and what they hold


def layers_of(layer: keras.layers.Layer) -> list:
    """A layer and all layers within it, at any depth, each once."""
    return layer._flatten_layers()


def layers_within(layer: keras.layers.Layer) -> list:
    """All layers within a layer, at any depth, each once."""
    return layer._flatten_layers(include_self=False)


def layers_directly_within(layer: keras.layers.Layer) -> list:
    """The layers that a layer has as its own parts, without those within these."""
    return layer._flatten_layers(include_self=False, recursive=False)


def forget_losses(layer: keras.layers.Layer) -> None:
    """Drops what a layer and all layers within it have added to the loss so far, as a call of the layer does."""
    layer._clear_losses()


class OwnVariables(NamedTuple):
    """The variables of a layer without those of layers within it.

    `trainable` are those that were made trainable, whether frozen now or not.
    """

    trainable: list
    others: list


def own_variables(layer: keras.layers.Layer) -> OwnVariables:
    """The variables of a layer without those of layers within it."""
    return OwnVariables(list(layer._trainable_variables), list(layer._non_trainable_variables))


def seed_generators_of(layer: keras.layers.Layer) -> list:
    """The `keras.random.SeedGenerator`s of a layer, without those of layers within it."""
    return list(layer._seed_generators)


def lookup_table_of(layer: keras.layers.Layer) -> keras.layers.Layer:
    """The layer that looks words up: the one within a `TextVectorization`, else the layer itself."""
    return layer._lookup_layer if isinstance(layer, keras.layers.TextVectorization) else layer


def output_spec(layer: keras.layers.Layer, inputs: Inputs) -> keras.KerasTensor:
    """What a built layer returns, without a call that its graph would keep; raises where the layer's call would."""
    layer._assert_input_compatibility(inputs)
    return layer.compute_output_spec(inputs)


class MomentsNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` whose mean and variance of a batch a subclass may change, in `moments`."""

    def moments(self, inputs: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance of a batch, as tensors of shape `(channels,)`."""
        return super()._moments(inputs, mask)

    def _moments(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.moments(inputs, mask)


# Tensors and the graph of a functional model


class Maker(NamedTuple):
    """What made a Keras tensor: a layer or other operation, and the number of its call."""

    operation: Any
    index: int


def maker_of(tensor: keras.KerasTensor) -> Maker:
    """The operation that made a Keras tensor, and in which of its calls."""
    history = tensor._keras_history
    return Maker(history.operation, history.node_index)


def calls_of(operation: keras.Layer) -> list:
    """The calls of a layer or other operation, in all models, in their order.

    A call has `operation`, `arguments`, `input_tensors`, `output_tensors` and
    `is_input`.
    """
    return operation._inbound_nodes


def calls_in(model: keras.Model) -> list:
    """The calls that a functional model is made of, from its inputs to its outputs."""
    by_depth = model._nodes_by_depth
    return [call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth]]


def is_functional(model: object) -> bool:
    """Whether a model is made of calls that are known."""
    return hasattr(model, "_nodes_by_depth")


def mask_of(tensor: Tensor) -> Tensor | None:
    """The mask that Keras keeps beside a tensor, `None` where there is none."""
    from keras.src.backend import get_keras_mask

    return get_keras_mask(tensor)


def logits_beside(tensor: Tensor) -> Tensor | None:
    """The logits that Keras keeps beside what a sigmoid or softmax made of them, `None` where there are none."""
    return getattr(tensor, "_keras_logits", None)


def with_mask(tensor: Tensor, mask: Tensor) -> Tensor:
    """The tensor, with a mask kept beside it."""
    from keras.src.backend import set_keras_mask

    set_keras_mask(tensor, mask)
    return tensor


def with_logits(tensor: Tensor, logits: Tensor) -> Tensor:
    """The tensor, with logits kept beside it."""
    tensor._keras_logits = logits
    return tensor


# Training


class ModelBuiltBefore(keras.Model):
    """A model of which nothing is left to build when Keras has the first batch of a `fit`, `evaluate` or the like.

    What Keras 3.15 does there with a batch, to find out shapes, fails under
    `tf.distribute.MultiWorkerMirroredStrategy`: it reduces a batch as a whole,
    which is a structure of values of replicas.
    """

    def _maybe_symbolic_build(self, iterator: Structure | None = None, data_batch: Structure | None = None) -> None:
        del iterator, data_batch

    def _symbolic_build(self, iterator: Structure | None = None, data_batch: Structure | None = None) -> None:
        del iterator, data_batch

    def _purge_model_variables(self, **groups: Any) -> None:
        # On JAX Keras takes the variables' values away during `fit`, and where the first step is refused they are gone.
        # Where the step is compiled, it takes them itself, when it runs.
        del groups


def current_scope() -> keras.StatelessScope | None:
    """The `keras.StatelessScope` that variables are read and assigned in, `None` outside of any."""
    from keras.src.backend import get_stateless_scope

    return get_stateless_scope()


def loss_tracker_of(model: keras.Model) -> keras.metrics.Metric | None:
    """The metric that Keras' `compile` adds for the total loss; `None` before `compile`."""
    return model._loss_tracker


def function_of(metric: keras.metrics.MeanMetricWrapper) -> Callable:
    """The function of labels and predictions that a metric averages, with its options."""
    return functools.partial(metric._fn, **metric._fn_kwargs)


def micro_steps_of(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """How often an optimizer has been given gradients, those counted that it has only accumulated."""
    return optimizer._iterations


def accumulated_gradients(optimizer: keras.optimizers.Optimizer) -> list[tuple]:
    """Pairs of variable and accumulated gradient of a built optimizer; empty where it does not accumulate."""
    if not optimizer.gradient_accumulation_steps:
        return []
    return list(zip(optimizer._trainable_variables, optimizer._accumulated_gradients, strict=True))


def trained_by(optimizer: keras.optimizers.Optimizer) -> list:
    """The variables that a built optimizer was built for, in the order of their gradients."""
    return list(optimizer._trainable_variables)


def exclude_from_weight_decay(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Keeps variables out of the weight decay of an optimizer that is not built, besides what was excluded before."""
    # Keras replaces what was excluded before by what is excluded now, and tells nobody what it was.
    before = set(getattr(optimizer, "_exclude_from_weight_decay", ()))
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    optimizer.exclude_from_weight_decay(var_list=variables, var_names=[pattern.pattern] if pattern else None)
    optimizer._exclude_from_weight_decay |= before


def global_seed() -> int | None:
    """The seed of `keras.utils.set_random_seed`, `None` where it was not called."""
    from keras.src.utils.rng_utils import get_random_seed

    return get_random_seed()


OPTIONS_OF_A_FUNCTION = "_fn_kwargs"  # the attribute of losses and metrics that are made of a function
