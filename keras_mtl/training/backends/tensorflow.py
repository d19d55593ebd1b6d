"""What the training step needs of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_mtl._keras_private import logits_beside
from keras_mtl._tensorflow_private import replicas_meet_in_branches
from keras_mtl._types import Data, Structure, Tensor
from keras_mtl.training.backends._dense_kernels import DenseKernelRows

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel

__all__ = [
    "LOSSES_STAY",
    "READS_VARIABLES",
    "Pullback",
    "add",
    "all_reduce",
    "apply_if",
    "as_logs",
    "branches_are_free",
    "build_optimizer",
    "choose",
    "cond",
    "dense",
    "entries",
    "factored",
    "first_rows",
    "floats_in",
    "number_of_rows",
    "outside_of_traces",
    "place_in",
    "replicas",
    "rows_apart",
    "run",
    "scale",
    "scope",
    "several_workers",
    "size_of_part",
    "strategy_scope",
    "synchronize",
    "traced",
    "without_logits",
]


READS_VARIABLES = True
LOSSES_STAY = True


def run(step: Callable[..., Any], model: MultiTaskModel, data: Data) -> Structure:
    """Runs a step as Keras' trainer calls it, on what the data set yields. Returns the logs."""
    return step(model, data)


scope = keras.StatelessScope
cond = keras.ops.cond


def synchronize(model: MultiTaskModel) -> None:
    """Gives the variables the values that they have in the middle of `fit`: they have them."""


class Pullback:
    """Calls a function, and pulls gradients of its outputs back to variables and tensors.

    Args:
        function: Function of `tensors` that gives a tuple of a list of tensors,
            the outputs, and whatever else is known.
        variables: List of variables that it reads.
        tensors: List of tensors that it takes.

    Attributes:
        outputs: List of tensors.
        aux: What the function has given besides.
    """

    def __init__(
        self, function: Callable[..., Any], variables: Sequence[keras.Variable], tensors: Sequence[Tensor] = ()
    ) -> None:
        self._variables = list(variables)
        self._tensors = list(tensors)
        with tf.GradientTape(persistent=True) as self._tape:
            self._tape.watch(self._tensors)
            self.outputs, self.aux = function(*self._tensors)

    def of(self, k: int) -> tuple[list[Tensor | None], list[Tensor]]:
        """Gradients of the k-th output alone: by variable and by tensor, `None` where it does not reach one."""
        found = self._tape.gradient(self.outputs[k], [*self._variables, *self._tensors])
        return found[: len(self._variables)], found[len(self._variables) :]

    def back(
        self, cotangents: Sequence[Tensor], variables: Sequence[keras.Variable] | None = None
    ) -> list[Tensor | None]:
        """Gradients by variable, from those of the outputs.

        Args:
            cotangents: List of tensors, one for each of the first outputs.
            variables: List of those variables, or of the outputs themselves,
                to go back to. Defaults to all variables.
        """
        outputs = self.outputs[: len(cotangents)]
        return self._tape.gradient(
            outputs, self._variables if variables is None else variables, output_gradients=list(cotangents)
        )


# Gradients, which may be sparse, as those of embeddings are, and stay so where they can


def scale(gradient: Tensor, factor: Structure) -> Tensor:
    """A gradient times a scalar."""
    if isinstance(gradient, tf.IndexedSlices):
        return _with_values(gradient, scale(gradient.values, factor))
    dtype = gradient.dtype
    if dtype in (tf.float16, tf.bfloat16):  # which do not hold every factor
        return tf.cast(tf.cast(gradient, tf.float32) * tf.cast(factor, tf.float32), dtype)
    return gradient * tf.cast(factor, dtype)


def add(first: Tensor, second: Tensor) -> Tensor:
    """Sum of two gradients, sparse where both are. The first may be `None`: there is none so far."""
    if first is None:
        return second
    if isinstance(first, tf.IndexedSlices) and isinstance(second, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([first.values, second.values], axis=0),
            tf.concat([first.indices, second.indices], axis=0),
            first.dense_shape,
        )
    return dense(first) + dense(second)


def choose(condition: Tensor, gradient: Tensor, otherwise: float = 0.0) -> Tensor:
    """A gradient, or a number in all of its places where a condition does not hold."""
    if isinstance(gradient, tf.IndexedSlices):
        return _with_values(gradient, choose(condition, gradient.values, otherwise))
    return tf.where(condition, gradient, tf.cast(otherwise, gradient.dtype))


def dense(gradient: Tensor) -> Tensor:
    """A gradient as a tensor."""
    return tf.convert_to_tensor(gradient)


def entries(gradient: Tensor) -> Tensor:
    """The entries of a gradient that are not 0 by nature, as a tensor."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else tf.convert_to_tensor(gradient)


def factored(gradients: Sequence[Tensor | None], target: Tensor) -> DenseKernelRows | None:
    """The task gradients of a dense layer's kernel as their factors.

    A graph tells how a tensor comes about. What a product would cost is not
    spent when nothing takes it: the graph leaves it out.

    Args:
        gradients: List of K gradients, `None` where a task does not reach the
            target.
        target: The variable or tensor.

    Returns:
        `DenseKernelRows` where each gradient is a product `A^T D_k` and the
        factors are worth it; else `None`.
    """
    if tf.executing_eagerly() or not all(isinstance(g, tf.Tensor) for g in gradients):
        return None
    if not all(g.op.type == "MatMul" and g.op.get_attr("transpose_a") for g in gradients):
        return None
    if any(g.dtype != tf.float32 or g.op.get_attr("transpose_b") for g in gradients):
        return None
    inputs, deltas = zip(*(g.op.inputs for g in gradients), strict=True)
    return DenseKernelRows.where_worth_it(inputs, deltas, target)


def without_logits(tensor: Tensor) -> Tensor:
    """A tensor behind which a loss does not go, to the logits that Keras keeps beside a sigmoid."""
    return tensor if logits_beside(tensor) is None else tf.identity(tensor)


def _with_values(gradient: Tensor, values: Tensor) -> Tensor:
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


# The optimizer's step


def branches_are_free(model: MultiTaskModel) -> bool:
    """Whether a branch in the graph costs no wait: XLA takes it on the device, and a CPU is the host itself."""
    return bool(model.jit_compile or model.run_eagerly or not tf.config.list_logical_devices("GPU"))


def build_optimizer(model: MultiTaskModel) -> None:
    """Makes the optimizer's variables outside of the graph that is being traced."""
    with tf.init_scope():
        model.build_optimizer()


def apply_if(
    condition: Tensor, optimizer: keras.optimizers.Optimizer, pairs: Sequence[tuple[Tensor, keras.Variable]]
) -> None:
    """Has the optimizer take a step.

    Args:
        condition: Boolean scalar: whether it may, or `None`: it does.
        optimizer: Keras optimizer.
        pairs: List of pairs of gradient and variable.
    """

    def apply(pairs: Sequence[tuple[Tensor, keras.Variable]]) -> None:
        if tf.distribute.has_strategy() or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            optimizer.apply_gradients(pairs)
            return
        # In a replica's context Keras adds gradients up even where there is one replica, and TensorFlow registers that
        # for each traced graph, by a function that keeps the graph until the process ends. Loss scaling refuses to be
        # called from elsewhere.
        tf.distribute.get_replica_context().merge_call(lambda strategy: optimizer.apply_gradients(pairs))

    def conditionally(pairs: Sequence[tuple[Tensor, keras.Variable]]) -> None:
        tf.cond(condition, lambda: (apply(pairs), tf.constant(True))[1], lambda: tf.constant(False))  # type: ignore[func-returns-value]

    if condition is None:
        apply(pairs)
        return
    if replicas() == 1 or replicas_meet_in_branches():
        conditionally(pairs)
        return

    # Replicas meet to add their gradients up, which they cannot do inside a branch of their own.
    gradients, variables = zip(*pairs, strict=True)

    def of_all(strategy: tf.distribute.Strategy, gradients: Sequence[Tensor], condition: Tensor) -> None:
        def step() -> Tensor:
            strategy.extended.call_for_each_replica(
                lambda gradients: apply(list(zip(gradients, variables, strict=True))), args=(gradients,)
            )
            return tf.constant(True)

        tf.cond(strategy.experimental_local_results(condition)[0], step, lambda: tf.constant(False))

    tf.distribute.get_replica_context().merge_call(of_all, args=(gradients, condition))


# Replicas that train in sync


def replicas() -> int:
    """Number of replicas."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def all_reduce(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Sums a list of tensors, which may be empty, over the replicas."""
    if replicas() == 1 or not tensors:
        return tensors
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def as_logs(model: MultiTaskModel, logs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Logs as Keras reduces them over replicas."""
    if not several_workers(model):
        return logs
    # Over several workers Keras 3.15 takes a mean along the first axis, which numbers do not have.
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def several_workers(model: MultiTaskModel) -> bool:
    """Whether other processes take the same steps."""
    return getattr(model.distribute_strategy, "cluster_resolver", None) is not None


def strategy_scope(model: MultiTaskModel) -> AbstractContextManager[Any]:
    """The context in which variables are made."""
    return model.distribute_strategy.scope()


# Batches of dense, ragged and sparse tensors


def number_of_rows(x: Structure) -> Tensor:
    """Number of examples in a batch, as an integer tensor."""
    return tf.shape(keras.tree.flatten(x)[0])[0]


def size_of_part(x: Structure, fraction: float) -> Tensor:
    """Number of examples in a part of a batch, as an integer tensor."""
    return tf.cast(tf.math.ceil(fraction * tf.cast(number_of_rows(x), tf.float32)), tf.int32)


def place_in(x: Structure, index: int) -> Tensor:
    """The place of an example in a batch; in one that is not as large, another's."""
    return index % tf.maximum(number_of_rows(x), 1)


def first_rows(data: Structure, size: Tensor) -> Structure:
    """The first examples of a batch.

    Args:
        data: Structure of tensors or `None`.
        size: Integer scalar.

    Returns:
        The same structure.
    """

    def take(t: Tensor | None) -> Tensor | None:
        if isinstance(t, tf.SparseTensor):
            shape = tf.concat([[tf.cast(size, tf.int64)], t.dense_shape[1:]], axis=0)
            return _like(t, tf.sparse.slice(t, tf.zeros_like(t.dense_shape), shape))
        return None if t is None else t[:size]

    return keras.tree.map_structure(take, data)


def rows_apart(data: Structure, first: Tensor, distance: int) -> Structure:
    """Examples of a batch at equal distances.

    Args:
        data: Structure of tensors or `None`.
        first: Integer scalar. The first of them.
        distance: Integer. From one to the next.

    Returns:
        The same structure.
    """

    def take(t: np.ndarray | None) -> np.ndarray | None:
        if isinstance(t, tf.SparseTensor):
            start = tf.cast(first, tf.int64)
            kept = tf.sparse.retain(t, (t.indices[:, 0] - start) % distance == 0)
            rows = (kept.indices[:, 0] - start) // distance
            indices = tf.concat([rows[:, None], kept.indices[:, 1:]], axis=1)
            count = (t.dense_shape[0] - start + distance - 1) // distance
            shape = tf.concat([count[None], t.dense_shape[1:]], axis=0)
            # Rows before the first are of no multiple of the distance: `first` is smaller than it.
            return _like(t, tf.SparseTensor(indices, kept.values, shape))
        return None if t is None else t[first::distance]

    return keras.tree.map_structure(take, data)


def _like(whole: Tensor, part: Tensor) -> Tensor:
    """A part that knows its static shape but for the number of rows."""
    part.set_shape([None, *whole.shape[1:]])
    return part


def floats_in(x: Structure) -> list[Tensor]:
    """List of the dense tensors of floats within a structure."""
    parts = [tf.convert_to_tensor(part) for part in tf.nest.flatten(x, expand_composites=True) if part is not None]
    return [part for part in parts if part.dtype.is_floating]


# Graphs


def traced(function: Callable[..., Any], model: MultiTaskModel) -> Callable[..., Any]:
    """A function of a model's variables that runs as one graph. Its results are numbers."""
    del model  # a graph reads variables as they are
    run = tf.function(function, autograph=False, reduce_retracing=True)
    return lambda *args: tf.nest.map_structure(lambda t: t.numpy(), run(*args))


def outside_of_traces() -> AbstractContextManager[None]:
    """A context in which operations give numbers, also while a graph is traced."""
    return tf.init_scope()
