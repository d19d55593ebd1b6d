"""Customized gate control: shared experts and each task's own, behind a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages
from keras_mtl.models._experts import extraction, softmax_gate

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def cgc(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    shared_experts: int = 2,
    task_experts: int | Mapping[str, int] = 2,
    shared_depth: int = 0,
    gate: Layers | None = None,
    gate_temperature: float = 1.0,
    gate_dropout: float = 0.0,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a model with customized gate control.

    `y_k = h_k(g_k(x) . [E_k(x); E_s(x)])`: task k mixes its own experts and
    the shared ones, and no other task's. An expert is a copy of the stages in
    a row. Without task experts this is `mmoe`; with one task expert and no
    shared ones the tasks are independent.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The first
            `shared_depth` are shared below the experts, as embeddings are; the
            others, in a row, make an expert, which is copied from their
            configs with seeds of its own.
        heads: Dict from task name to a Keras layer or a list of layers.
        shared_experts: Integer. How many experts all tasks see. Defaults to 2.
        task_experts: Integer, or dict from task to integer. How many experts a
            task has of its own. Defaults to 2.
        shared_depth: Integer. How many stages are shared below the experts.
            Defaults to 0.
        gate: `None`, a Keras layer or a list of layers that make a feature
            vector for the gate; each gate gets its own copies. Defaults to
            `None`: the gate sees the experts' input, flattened.
        gate_temperature: Float. Defaults to 1.
        gate_dropout: Float. As with `mmoe`. Defaults to 0.
        copy_weights: `None` or boolean. Whether all experts start from the
            given stages' weights. Defaults to `None`: every copy starts anew,
            and weights that would be lost are refused (see the guide, "What
            copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. The coefficients of a gate are those of
        the task's own experts, then of the shared ones.

    Raises:
        ValueError: If a task has no expert at all.

    Example:

    >>> model = keras_mtl.cgc(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> model.sharing_coefficients(np.ones((8, 20)))["a/gate"].shape
    (4,)

    Reference:

    - H. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
      Recommendations", RecSys 2020.
    """
    return extraction(
        inputs,
        stages,
        heads,
        lambda stacks: [stacks],
        shared_experts=shared_experts,
        task_experts=task_experts,
        shared_depth=shared_depth,
        make_gate=softmax_gate(gate_temperature, gate_dropout),
        gate=gate,
        copy_weights=copy_weights,
        depends_on=depends_on,
        name=name,
    )
