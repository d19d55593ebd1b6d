"""Progressive layered extraction: levels of shared and task experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages
from keras_mtl.models._experts import extraction, softmax_gate

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def ple(
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
    """Builds a model with progressive layered extraction.

    Each stage above `shared_depth` is a level of experts. At every level, task
    k's gate mixes the task's own experts and the shared ones, as in `cgc`, and
    hands the mixture to the task's experts and gate of the next level. At
    every level but the last, a shared gate mixes the experts of all tasks and
    the shared ones, for the shared experts of the next. With one level this is
    `cgc`.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The first
            `shared_depth` are shared below the experts, as embeddings are;
            then comes one for each level. Experts are copies made from their
            configs, with seeds of their own.
        heads: Dict from task name to a Keras layer or a list of layers.
        shared_experts: Integer. How many experts of each level all tasks see.
            Defaults to 2.
        task_experts: Integer, or dict from task to integer. How many experts
            of each level a task has of its own. Defaults to 2.
        shared_depth: Integer. How many stages are shared below the experts.
            Defaults to 0.
        gate: `None`, a Keras layer or a list of layers that make a feature
            vector for the gate; each gate gets its own copies, so it has to
            fit every level. Defaults to `None`: a gate sees what its experts
            see, flattened.
        gate_temperature: Float. Defaults to 1.
        gate_dropout: Float. As with `mmoe`. Defaults to 0.
        copy_weights: `None` or boolean. Whether all experts of a level start
            from the given stage's weights. Defaults to `None`: every copy
            starts anew, and weights that would be lost are refused (see the
            guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. The coefficients of a task's gate are
        those of its own experts, then of the shared ones; those of the shared
        gate are the tasks' experts in order, then the shared ones.

    Raises:
        ValueError: If a task has no expert at all.

    Example:

    >>> model = keras_mtl.ple(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> sorted(model.sharing_coefficients(np.ones((8, 20))))
    ['a/gate_1', 'a/gate_2', 'b/gate_1', 'b/gate_2', 'shared/gate_1']

    Reference:

    - H. Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
      Recommendations", RecSys 2020.

    Deviations: the paper's joint loss, with a sample space and a decaying
    weight for each task, is `sample_space` and `loss_weights` of `compile`.
    """
    return extraction(
        inputs,
        stages,
        heads,
        lambda stacks: [[stack] for stack in stacks],
        shared_experts=shared_experts,
        task_experts=task_experts,
        shared_depth=shared_depth,
        make_gate=softmax_gate(gate_temperature, gate_dropout),
        gate=gate,
        copy_weights=copy_weights,
        depends_on=depends_on,
        name=name,
    )
