"""Cross-stitch networks: columns that mix their features after every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.layers import CrossStitch
from keras_mtl.models._stitched_columns import stitched

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def cross_stitch(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    per: Literal["channel", "layer"] = "channel",
    self_weight: float = 0.9,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a cross-stitch network.

    Each task has its own copy of every stage. After each stage, task k goes on
    with `sum_j alpha_kj x_j` of the columns' features `x_1, ..., x_K`. With
    `alpha` the identity the columns are independent; with equal weights and
    equal columns this is hard sharing.

    The units' variables are `<task>/units/<stage>/...`, so they get a faster
    learning rate of their own, as the paper asks for (100 to 1000 times that
    of the columns), by

    ```python
    keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(keras.optimizers.Adam(1e-3), {".*/units/.*": keras.optimizers.Adam(0.1)})
    )
    ```

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers); a unit follows each.
            Every task gets its own copies, from their configs, with seeds of
            their own. Each returns one tensor, channels last.
        heads: Dict from task name to a Keras layer or a list of layers.
        per: `"channel"`: a weight for each pair of tasks and channel.
            `"layer"`: one for each pair of tasks. Defaults to `"channel"`.
        self_weight: Float. Where `alpha_kk` starts; the others start at
            `(1 - self_weight) / (K - 1)`. Defaults to 0.9.
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

    >>> model = keras_mtl.cross_stitch(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu", name="fc")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     per="layer",
    ... )
    >>> model.sharing_coefficients()["a/units/fc"].round(2)
    array([0.9, 0.1], dtype=float32)

    Reference:

    - I. Misra et al., "Cross-stitch Networks for Multi-task Learning", CVPR 2016.

    Deviations: the paper starts from two trained single-task networks; here
    the columns start from fresh weights. To follow it, train the columns with
    `hard_sharing(..., shared_depth=0)` and take their weights over.
    """

    def unit(place: int) -> CrossStitch:
        return CrossStitch(place, per=per, self_weight=self_weight, name="stitch")

    return stitched(inputs, stages, heads, unit, copy_weights=copy_weights, depends_on=depends_on, name=name)
