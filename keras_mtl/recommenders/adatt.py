"""AdaTT: at every level each task mixes all tasks' experts, and adds its own."""

from __future__ import annotations

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages
from keras_mtl.layers import NativeExperts
from keras_mtl.models._experts import add_experts, expert_stages, gated, softmax_gate
from keras_mtl.models._stages import add_unit
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def adatt(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    shared_experts: int = 0,
    task_experts: int = 2,
    shared_depth: int = 0,
    gate: Layers | None = None,
    gate_temperature: float = 1.0,
    gate_dropout: float = 0.0,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds an adaptive task-to-task fusion network.

    Each stage above `shared_depth` is a level of experts. At every level task k's features are
    `g_k(x_k) . [all tasks' experts; shared ones] + sum_i v_ki e_ki`: a gate over all experts, and a residual of its
    own experts with one learned number each. Experts of a task take the task's features of the level before; shared
    ones take those of a shared unit, which is made alike at every level but the last.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The first `shared_depth` are shared below the experts, as
            embeddings are; then comes one for each level. Experts are copies made from their configs, with seeds of
            their own.
        heads: Dict from task name to a Keras layer or a list of layers.
        shared_experts: Integer. How many experts of each level no task has for itself. Defaults to 0, AdaTT-sp.
        task_experts: Integer. How many experts of each level a task has. Defaults to 2.
        shared_depth: Integer. How many stages are shared below the experts. Defaults to 0.
        gate: As with `ple`. Defaults to `None`.
        gate_temperature: Float. Defaults to 1.
        gate_dropout: Float. As with `mmoe`. Defaults to 0.
        copy_weights: As with `ple`. Defaults to `None`.
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. The coefficients of a gate are those of the tasks' experts in order, then of the
        shared ones.

    Raises:
        ValueError: If a task has no expert.

    Example:

    >>> model = keras_mtl.recommenders.adatt(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> model.sharing_coefficients(np.ones((8, 20)))["a/gate_2"].shape
    (4,)

    Reference:

    - D. Li et al., "AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in Recommendations", KDD 2023,
      arXiv:2304.04959.

    Deviations: gates have no bias, as all gates here. A lone own expert is added with weight 1; with shared experts
    the official code does so only where every unit has one expert.
    """
    make_gate = softmax_gate(gate_temperature, gate_dropout)
    own = check_integer(task_experts, "task_experts", 1)
    shared = check_integer(shared_experts, "shared_experts")
    tensor, stacks, heads, copy_weights = expert_stages(inputs, stages, heads, shared_depth, copy_weights)
    units = [*heads, *(["shared"] if shared else [])]
    paths = dict.fromkeys(units, tensor)
    for level, stack in enumerate(stacks):
        suffix = f"_{level + 1}" if len(stacks) > 1 else ""
        counts = {unit: shared if unit == "shared" else own for unit in units}
        index = shared_depth + level
        experts = {u: add_experts([stack], paths[u], u, counts[u], copy_weights, index) for u in units}
        everything = [expert for unit in units for expert in experts[unit]]
        fused = {}
        for unit in units if level < len(stacks) - 1 else heads:
            mixed = gated(make_gate, paths[unit], everything, unit, gate, suffix)
            native = NativeExperts(name="native")
            lone = len(everything) == 1  # which is the mixture itself
            fused[unit] = mixed if lone else add_unit(native, [mixed, *experts[unit]], f"{unit}/native{suffix}")
        paths = fused
    return MultiTaskModel(inputs, add_heads(heads, paths, depends_on), name=name)
