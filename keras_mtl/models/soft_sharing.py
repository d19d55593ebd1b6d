"""Soft sharing: a column for each task, and a distance between them in the loss."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal

from keras_mtl._checks import check_number
from keras_mtl._types import DependsOn, Heads, Inputs, Stages, Structure, Tensor
from keras_mtl.layers import Stage, TiedStage
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights
from keras_mtl.models._stages import add_column, copy_name
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def soft_sharing(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    distance: str | Callable[[Tensor], Tensor] = "l2",
    strength: float | Sequence[float] = 0.01,
    normalization: Literal["laf", "tucker", "tt"] = "laf",
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model whose tasks have columns of their own that stay near each other.

    The output of task k is `h_k(c_k(x))`. To the tasks' losses comes, for the
    weights `W_1, ..., W_K` of each stage's copies,
    `strength * distance(W_1, ..., W_K)`:

    - `"l2"`: `sum_{i<j} ||W_i - W_j||^2`. Columns become one as the strength
      grows, and are independent at 0.
    - `"trace_norm"`: the sum of the singular values of the weights of all
      columns, stacked on a last axis. It is small where the columns are linear
      combinations of few; they need not be equal.

    No data passes between columns. So each column's variables are its task's
    own and there are no shared ones: weightings that look at task gradients
    have nothing to weigh here, and `compile` says so.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). Every task gets its
            own copies, from their configs, with seeds of their own.
        heads: Dict from task name to a Keras layer or a list of layers. Heads
            are not tied.
        distance: `"l2"`, `"trace_norm"`, or a function from a tensor of shape
            `(..., K)`, one weight of the K columns, to a scalar. A function
            has to be registered with Keras to be saved. Defaults to `"l2"`.
        strength: Float, or a list with one for each stage. 0 leaves a stage
            untied. Defaults to 0.01.
        normalization: `"laf"`, `"tucker"` or `"tt"`. How the trace norm makes
            matrices of stacked weights: `K x rest`, the mean over each axis
            against the rest, or the mean over each place to cut the row of
            axes. Defaults to `"laf"`.
        copy_weights: `None` or boolean. Whether all columns start from the
            given stages' weights, which have to be built. Defaults to `None`:
            every copy starts anew, and weights that would be lost are refused
            (see the guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`.

    Raises:
        ValueError: If `strength` is negative or there is not one for each
            stage, `distance` or `normalization` is unknown, or a stage cannot
            be made from its config.

    Example:

    >>> model = keras_mtl.soft_sharing(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="tanh", name="fc")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     distance="trace_norm",
    ...     strength=1e-3,
    ... )
    >>> sorted(model.sharing_coefficients())
    ['distance/fc']

    References:

    - L. Duong et al., "Low Resource Dependency Parsing: Cross-lingual Parameter Sharing in a Neural Network Parser",
      ACL 2015 (`"l2"`).
    - Y. Yang, T. Hospedales, "Trace Norm Regularised Deep Multi-Task Learning", ICLR workshop 2017
      (`"trace_norm"`).

    Deviations: all trainable weights of a stage are tied, biases too. The
    `"tucker"` and `"tt"` norms are means over their matrices, as with the
    paper's weights `1 / N`.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    copy_weights = check_copy_weights(copy_weights, stacks)
    strengths = _strengths(strength, len(stacks))
    features = {}
    for task in heads:
        tensor = inputs
        for index, stack in enumerate(stacks):
            make = Stage
            if strengths[index] and len(heads) > 1:
                make = functools.partial(
                    TiedStage,
                    partners=[copy_name(stack, other, index) for other in heads],
                    distance=distance,
                    strength=strengths[index],
                    normalization=normalization,
                )
            tensor = add_column([stack], tensor, task, copy_weights, index, make)
        features[task] = tensor
    return MultiTaskModel(inputs, add_heads(heads, features, depends_on), name=name)


def _strengths(strength: Structure, count: int) -> list[float]:
    if not isinstance(strength, (list, tuple)):
        return [check_number(strength, "strength", least=0)] * count
    if len(strength) != count:
        raise ValueError(
            f"`strength` should be a number of at least 0, or a list of {count}, one for each stage. "
            f"Received: strength={strength!r}"
        )
    return [check_number(s, f"strength[{i}]", least=0) for i, s in enumerate(strength)]
