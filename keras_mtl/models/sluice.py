"""Sluice networks: cross-stitching of subspaces, and a learned mixture of layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

from keras_mtl._checks import check_boolean, check_integer, check_number
from keras_mtl._types import DependsOn, Heads, Inputs, Stages
from keras_mtl.layers import LayerStitch, OrthogonalStage, Stage, SubspaceStitch
from keras_mtl.models._stages import add_unit
from keras_mtl.models._stitched_columns import stitched

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def sluice(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    subspaces: int = 2,
    self_weight: float = 0.9,
    layer_stitch: bool = True,
    last_weight: float = 0.9,
    orthogonality: float = 0.1,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a sluice network.

    Each task has its own copy of every stage, and each copy's features are cut
    into S subspaces. After each stage, subspace s of task k becomes
    `sum_j sum_r alpha_k[s, j, r] x_j[r]`, over all tasks j and subspaces r.
    The head of task k takes `sum_l beta_kl x_kl`, a mixture of all stages'
    outputs. `orthogonality * sum ||G_1^T G_2||^2` joins the loss, `G_s` being
    the weights of a stage that make subspace s.

    With one subspace and without `layer_stitch` this is a cross-stitch network
    with one weight for each pair of tasks.

    The variables of `alpha` and `beta` are `<task>/units/...`; a faster
    learning rate is the pattern `".*/units/.*"` of a
    `keras.optimizers.MultiOptimizer`.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers); a unit follows each.
            Every task gets its own copies, from their configs, with seeds of
            their own. Each returns one tensor, channels last.
        heads: Dict from task name to a Keras layer or a list of layers.
        subspaces: Integer. S, which divides the channels of every stage.
            Defaults to 2.
        self_weight: Float. Where the weight of a subspace on itself starts;
            the others start at `(1 - self_weight) / (K S - 1)`. Defaults to
            0.9.
        layer_stitch: Boolean. Whether heads take the mixture of all stages'
            outputs, which then need one shape; else the last one's. Defaults
            to `True`.
        last_weight: Float. Where the last stage's `beta` starts; the others
            start at `(1 - last_weight) / (L - 1)`. Defaults to 0.9.
        orthogonality: Float. Strength of the constraint; 0 is without.
            Defaults to 0.1.
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
        ValueError: If the channels of a stage cannot be cut into `subspaces`,
            stages differ in shape under `layer_stitch`, or a stage cannot be
            made from its config.

    Example:

    >>> model = keras_mtl.sluice(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, name="one"), keras.layers.Dense(16, name="two")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> coefficients = model.sharing_coefficients()
    >>> coefficients["a/units/one"].shape, coefficients["a/units/layers"].round(2)
    ((2, 2, 2), array([0.1, 0.9], dtype=float32))

    Reference:

    - S. Ruder, J. Bingel, I. Augenstein, A. Søgaard, "Latent Multi-task Architecture Learning", AAAI 2019.

    Deviations: the official code starts `alpha` either all equal or, with two
    subspaces, with 0.95 in places that depend on the order of its rows; here a
    subspace starts with `self_weight` on itself, as in cross-stitch networks.
    Private and shared subspaces are not distinguished: `alpha` learns it. The
    last stage is stitched too.
    """
    check_boolean(layer_stitch, "layer_stitch")
    subspaces = check_integer(subspaces, "subspaces", 1)
    orthogonality = check_number(orthogonality, "orthogonality", least=0)
    last_weight = check_number(last_weight, "last_weight")
    make_stage = Stage
    if orthogonality and subspaces != 1:
        make_stage = functools.partial(OrthogonalStage, subspaces=subspaces, strength=orthogonality)

    def unit(place: int) -> SubspaceStitch:
        return SubspaceStitch(place, subspaces=subspaces, self_weight=self_weight, name="stitch")

    def join(task: str, features: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        shapes = {tuple(x.shape) for x in features}
        if len(shapes) != 1:
            raise ValueError(
                "With `layer_stitch=True` all stages should return tensors of one shape. Received: shapes "
                f"{[tuple(x.shape) for x in features]}. Set `layer_stitch=False`, or give stages of one shape."
            )
        return add_unit(LayerStitch(last_weight, name="stitch"), features, f"{task}/units/layers")

    return stitched(
        inputs,
        stages,
        heads,
        unit,
        copy_weights=copy_weights,
        make_stage=make_stage,
        join=join if layer_stitch else None,
        depends_on=depends_on,
        name=name,
    )
