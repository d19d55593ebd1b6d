"""Multi-gate mixture-of-experts: tasks share experts, each through its own gate."""

from __future__ import annotations

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages
from keras_mtl.models._experts import add_experts, expert_stages, gated, softmax_gate
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def mmoe(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    experts: int = 8,
    shared_depth: int = 0,
    gate: Layers | None = None,
    gate_temperature: float = 1.0,
    gate_dropout: float = 0.0,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a multi-gate mixture-of-experts.

    `y_k = h_k(sum_i g_ki(x) f_i(x))` with n experts `f_i`, each a copy of the
    stages, and a gate `g_k(x) = softmax(W_k x / T)` for each task. One expert
    is hard sharing. Gates see what the experts see.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The first
            `shared_depth` are shared below the experts, as embeddings are; the
            others, in a row, make an expert, which is copied from their
            configs with seeds of its own.
        heads: Dict from task name to a Keras layer or a list of layers.
        experts: Integer. n. Defaults to 8.
        shared_depth: Integer. How many stages are shared below the experts.
            Defaults to 0.
        gate: `None`, a Keras layer or a list of layers that make a feature
            vector for the gate; each gate gets its own copies. Defaults to
            `None`: the gate sees the experts' input, flattened.
        gate_temperature: Float. T. Defaults to 1.
        gate_dropout: Float. In training, how likely an expert is left out of a
            gate for an example; it keeps gates from settling on one expert.
            Defaults to 0.
        copy_weights: `None` or boolean. Whether all experts start from the
            given stages' weights, which have to be built. They start equal
            then, and only the gates make them part. Defaults to `None`: every
            copy starts anew, and weights that would be lost are refused (see
            the guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. `sharing_coefficients(x)` gives each
        gate's mean probabilities over `x`.

    Raises:
        ValueError: If there are no experts or no stage for them, or the gates
            cannot see the experts' input without `gate`.

    Example:

    >>> model = keras_mtl.mmoe(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     experts=4,
    ... )
    >>> model.sharing_coefficients(np.ones((8, 20)))["a/gate"].shape
    (4,)

    Reference:

    - J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.

    Deviations: a lone expert has no gate, since its weight is 1. Temperature
    and dropout are not in the paper.
    """
    experts = check_integer(experts, "experts", 1)
    make_gate = softmax_gate(gate_temperature, gate_dropout)
    tensor, stacks, heads, copy_weights = expert_stages(inputs, stages, heads, shared_depth, copy_weights)
    features = add_experts(stacks, tensor, "shared", experts, copy_weights, shared_depth)
    mixed = {task: gated(make_gate, tensor, features, task, gate) for task in heads}
    outputs = add_heads(heads, mixed, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)
