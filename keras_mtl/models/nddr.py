"""NDDR-CNN: columns whose joined features are projected back after every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from keras_mtl._checks import check_boolean
from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.layers import NDDR
from keras_mtl.models._stitched_columns import stitched

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def nddr(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    self_weight: float = 0.9,
    batch_normalization: bool = False,
    kernel_regularizer: str | keras.Regularizer | None = None,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a network with neural discriminative dimensionality reduction.

    Each task has its own copy of every stage. After each stage, task k goes on
    with `[x_1; ...; x_K] W_k + b_k`, a 1×1 convolution of the columns' joined
    features back to C channels: `K (K C^2 + C)` parameters a stage. With
    diagonal blocks in `W_k` this is a cross-stitch network.

    The units' variables are `<task>/units/<stage>/...`; the official code
    gives them 100 times the learning rate, here by the pattern
    `".*/units/.*"` of a `keras.optimizers.MultiOptimizer`.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers); a unit follows each.
            Every task gets its own copies, from their configs, with seeds of
            their own. Each returns one tensor, channels last.
        heads: Dict from task name to a Keras layer or a list of layers.
        self_weight: Float. Diagonal of a task's own block of `W_k` at the
            start; that of the others is `(1 - self_weight) / (K - 1)`.
            Defaults to 0.9.
        batch_normalization: Boolean. Whether batch normalization follows the
            projection. Defaults to `False`.
        kernel_regularizer: Keras regularizer of `W_k`. Defaults to `None`.
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
        ValueError: If a stage does not return one tensor, or cannot be made
            from its config.

    Example:

    >>> model = keras_mtl.nddr(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu", name="fc")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> model.sharing_coefficients()["a/units/fc"].shape
    (2, 16, 16)

    Reference:

    - Y. Gao et al., "NDDR-CNN: Layerwise Feature Fusing in Multi-Task CNNs by Neural Discriminative Dimensionality
      Reduction", CVPR 2019.

    Deviations: any number of tasks. Batch normalization and weight decay,
    which the paper has, are options. There is no shortcut variant.
    """
    check_boolean(batch_normalization, "batch_normalization")

    def unit(place: int) -> NDDR:
        return NDDR(place, self_weight, batch_normalization, kernel_regularizer, name="nddr")

    return stitched(inputs, stages, heads, unit, copy_weights=copy_weights, depends_on=depends_on, name=name)
