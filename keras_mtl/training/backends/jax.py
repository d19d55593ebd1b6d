"""What the training step needs of JAX."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.experimental.sparse import BCOO

from keras_mtl._keras_private import current_scope, trained_by
from keras_mtl._types import Data, Structure, Tensor
from keras_mtl.training.backends._blockwise import BlockwiseRows
from keras_mtl.training.backends._dense_kernels import DenseKernelRows
from keras_mtl.training.backends._linear_program import KernelGradient, LinearProgram

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

# A step is a pure function: Keras hands it the values of variables, and takes the new ones from it. Here the code of a
# step reads and assigns variables all the same, within a scope that has these values.
READS_VARIABLES = False
LOSSES_STAY = False


def run(step: Callable[..., Any], model: MultiTaskModel, state: tuple[Any, ...], data: Data) -> tuple[Any, ...]:
    """Runs a step as Keras' trainer calls it.

    Args:
        step: Function `(model, data) -> logs`, which reads and assigns variables.
        model: A compiled `MultiTaskModel`.
        state: Tuple of lists of values: of trainable variables, of others, of
            the optimizer's, where it trains, and of metrics.
        data: What the data set yields.

    Returns:
        Tuple of logs and the state after the step.
    """
    groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
    if len(state) == len(groups) + 1:
        groups.insert(2, model.optimizer.variables)
    pairs = [pair for group, of_group in zip(groups, state, strict=True) for pair in zip(group, of_group, strict=True)]
    with scope(pairs, collect_losses=True) as within:
        logs = step(model, data)
    return logs, tuple([within.get_current_value(variable) for variable in group] for group in groups)


def scope(state_mapping: Structure, collect_losses: bool = False) -> AbstractContextManager[Any]:
    """A `keras.StatelessScope` within the present one: other variables have the values that they have in that."""
    within, outer = keras.StatelessScope(state_mapping, collect_losses), current_scope()
    if outer is not None:
        within.state_mapping = {**outer.state_mapping, **within.state_mapping}
    return within


def _apart(function: Callable[..., Any], state_mapping: Structure = ()) -> tuple[list[Tensor], float]:
    """Calls a function. Returns what it gives, and a dict of what it assigns, by the variables' ids."""
    with scope(state_mapping, collect_losses=True) as within:
        before = dict(within.state_mapping)
        result = function()
    return result, {name: value for name, value in within.state_mapping.items() if value is not before.get(name)}  # type: ignore[return-value]


def _assign(values: Tensor) -> None:
    current_scope().state_mapping.update(values)


def cond(condition: Tensor, true: Callable[[], Any], false: Callable[[], Any]) -> Structure:
    """`keras.ops.cond` of functions that may assign variables."""
    changed = set()
    for function in (true, false):
        jax.eval_shape(lambda function=function: changed.update(_apart(function)[1]))  # type: ignore[arg-type]

    def whole(function: Callable[..., Any]) -> tuple[Any, dict[Any, Any]]:
        before = {name: current_scope().state_mapping[name] for name in changed}
        result, after = _apart(function)
        return result, {**before, **after}  # type: ignore[dict-item]

    result, values = jax.lax.cond(condition, lambda: whole(true), lambda: whole(false))
    if values:
        _assign(values)
    return result


def synchronize(model: MultiTaskModel) -> None:
    """Gives the variables the values that they have in the middle of `fit`, and has `fit` go on from their values."""
    model.jax_state_sync()


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
        self._variables, static = list(variables), []

        def pure(*inputs: Any) -> tuple[list[Tensor], list[Tensor]]:
            values, tensors = inputs[: len(self._variables)], inputs[len(self._variables) :]
            (outputs, aux), changed = _apart(lambda: function(*tensors), zip(self._variables, values, strict=True))
            # What is no array, such as names, goes its own way.
            leaves, tree = jax.tree.flatten((aux, changed))
            static.append((tree, [None if _is_array(leaf) else leaf for leaf in leaves]))
            return list(outputs), [leaf for leaf in leaves if _is_array(leaf)]

        inputs = [*(variable.value for variable in self._variables), *tensors]
        self.outputs, linear, arrays = jax.linearize(pure, *inputs, has_aux=True)
        (tree, leaves), arrays = static[-1], iter(arrays)
        self.aux, changed = jax.tree.unflatten(tree, [next(arrays) if leaf is None else leaf for leaf in leaves])
        _assign(changed)
        self._program = LinearProgram(linear, inputs)

    def of(self, k: int) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Gradients of the k-th output alone: by variable and by tensor, `None` where it does not reach one."""
        # Not as zeros times the others' slopes, which would make NaN of the infinities of one task for all.
        wanted = [i == k % len(self.outputs) for i in range(len(self.outputs))]
        found = self._program.to_inputs(wanted, [jnp.ones_like(self.outputs[k])])
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
        wanted = [i < len(cotangents) for i in range(len(self.outputs))]
        cotangents = [c.astype(out.dtype) for c, out in zip(cotangents, self.outputs, strict=False)]
        if variables and any(variables[0] is output for output in self.outputs):
            return self._program.to_outputs(wanted, cotangents)
        found = self._program.to_inputs(wanted, cotangents)[: len(self._variables)]
        if variables is None:
            return found
        places = {id(variable): place for place, variable in enumerate(self._variables)}
        return [found[places[id(variable)]] for variable in variables]


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array)


# Gradients, which may be products that nobody has multiplied out: XLA leaves out those that nothing takes


def scale(gradient: Tensor, factor: Tensor) -> Tensor:
    """A gradient times a scalar."""
    gradient = dense(gradient)
    if gradient.dtype in (jnp.float16, jnp.bfloat16):  # which do not hold every factor
        return (gradient.astype("float32") * jnp.asarray(factor, "float32")).astype(gradient.dtype)
    return gradient * jnp.asarray(factor, gradient.dtype)


def add(first: Tensor | None, second: Tensor) -> Tensor:
    """Sum of two gradients. The first may be `None`: there is none so far."""
    return second if first is None else dense(first) + dense(second)


def choose(condition: Tensor, gradient: Tensor, otherwise: Structure = 0.0) -> Tensor:
    """A gradient, or a number in all of its places where a condition does not hold."""
    gradient = dense(gradient)
    return jnp.where(condition, gradient, jnp.asarray(otherwise, gradient.dtype))


def dense(gradient: Tensor) -> Tensor:
    """A gradient as a tensor."""
    return gradient.product() if isinstance(gradient, KernelGradient) else gradient


def entries(gradient: Tensor) -> Tensor:
    """The entries of a gradient that are not 0 by nature, as a tensor."""
    return dense(gradient)


def factored(gradients: Sequence[Tensor | None], target: Tensor) -> DenseKernelRows | BlockwiseRows | None:
    """Task gradients of one target in a cheaper form.

    Args:
        gradients: List of K gradients, `None` where a task does not reach the
            target.
        target: The variable or tensor.

    Returns:
        `DenseKernelRows` where each gradient is a product of the same inputs
        and the factors are worth it; `BlockwiseRows` of other large ones on a
        CPU; else `None`.
    """
    rows = None
    if all(isinstance(gradient, KernelGradient) for gradient in gradients):
        rows = DenseKernelRows.where_worth_it([g.inputs for g in gradients], [g.delta for g in gradients], target)
    return rows or BlockwiseRows.where_worth_it(list(map(dense, gradients)), target)


def without_logits(tensor: Tensor) -> Tensor:
    """A tensor behind which a loss does not go: a pullback's own, which have no logits beside them."""
    return tensor


# The optimizer's step


def branches_are_free(model: MultiTaskModel) -> bool:
    """Whether a choice of values costs no wait: XLA makes it on the device."""
    del model
    return True


def build_optimizer(model: MultiTaskModel) -> None:
    """Makes the optimizer's variables."""
    model.build_optimizer()


def apply_if(
    condition: Tensor | None, optimizer: keras.optimizers.Optimizer, pairs: Sequence[tuple[Tensor, keras.Variable]]
) -> None:
    """Has the optimizer take a step.

    Args:
        condition: Boolean scalar: whether it may, or `None`: it does.
        optimizer: Keras optimizer.
        pairs: List of pairs of gradient and variable.
    """
    pairs = [(dense(gradient), variable) for gradient, variable in pairs]
    gradients, variables = zip(*pairs, strict=True)
    before = [(variable, variable.value) for variable in (*variables, *optimizer.variables)]
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # Its `apply` assigns variables in branches, which a traced function cannot.
        by_variable = {id(variable): gradient for gradient, variable in pairs}
        trained, own = trained_by(optimizer), optimizer.variables
        values, of_optimizer = optimizer.stateless_apply(
            [v.value for v in own], [by_variable.get(id(v)) for v in trained], [v.value for v in trained]
        )
        for variable, value in zip([*trained, *own], [*values, *of_optimizer], strict=True):
            variable.assign(value)
    else:
        optimizer.apply(gradients, variables)
    if condition is None:
        return
    for variable, value in before:
        variable.assign(jnp.where(condition, variable.value, value))


# Devices that train in sync: a batch that is spread over them is one batch


def replicas() -> int:
    """Number of replicas."""
    return 1


def all_reduce(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Sums a list of tensors over the replicas: there is one."""
    return tensors


def as_logs(model: MultiTaskModel, logs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Logs as Keras wants them."""
    del model
    return logs


def several_workers(model: MultiTaskModel) -> bool:
    """Whether other processes take the same steps."""
    del model
    return jax.process_count() > 1


def strategy_scope(model: MultiTaskModel) -> AbstractContextManager[Any]:
    """A context in which variables are made: where they are, `keras.distribution` says."""
    del model
    return contextlib.nullcontext()


# Batches


def number_of_rows(x: Structure) -> Tensor:
    """Number of examples in a batch."""
    return keras.tree.flatten(x)[0].shape[0]


def size_of_part(x: Structure, fraction: float) -> Tensor:
    """Number of examples in a part of a batch. An integer, as shapes are known here."""
    return int(np.ceil(np.float32(fraction) * np.float32(number_of_rows(x))))


def place_in(x: Structure, index: int) -> Tensor:
    """The place of an example in a batch; in one that is not as large, another's."""
    return index % max(number_of_rows(x), 1)


def first_rows(data: Structure, size: int) -> Structure:
    """The first examples of a batch.

    Args:
        data: Structure of tensors or `None`.
        size: Integer.

    Returns:
        The same structure.
    """
    return keras.tree.map_structure(lambda t: None if t is None else t[:size], data)


def rows_apart(data: Structure, first: int, distance: int) -> Structure:
    """Examples of a batch at equal distances.

    Args:
        data: Structure of tensors or `None`.
        first: Integer. The first of them.
        distance: Integer. From one to the next.

    Returns:
        The same structure.
    """
    return keras.tree.map_structure(lambda t: None if t is None else t[first::distance], data)


def floats_in(x: Structure) -> list[Tensor]:
    """List of the dense tensors of floats within a structure."""
    parts = [part.data if isinstance(part, BCOO) else part for part in keras.tree.flatten(x) if part is not None]
    return [jnp.asarray(part) for part in parts if jnp.issubdtype(part.dtype, jnp.floating)]


# Programs


def traced(function: Callable[..., Any], model: MultiTaskModel) -> Callable[..., Any]:
    """A function of a model's variables that runs as one program. Its results are numbers."""

    @jax.jit
    def run(values: Tensor, args: tuple[Any, ...]) -> tuple[Any, ...]:
        with scope(zip(_variables(model), values, strict=True), collect_losses=True):
            return function(*args)

    def call(*args: Any) -> Structure:
        return jax.tree.map(np.asarray, run([variable.value for variable in _variables(model)], args))

    return call


def _variables(model: MultiTaskModel) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def outside_of_traces() -> AbstractContextManager[None]:
    """A context in which operations give numbers, also while a program is traced."""
    return jax.ensure_compile_time_eval()
