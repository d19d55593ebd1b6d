"""One-gate mixture-of-experts: tasks share experts and the gate."""

from __future__ import annotations

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages
from keras_mtl.models._experts import add_experts, expert_stages, gated, softmax_gate
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def omoe(
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
    """Builds a one-gate mixture-of-experts, the baseline of MMoE.

    `y_k = h_k(sum_i g_i(x) f_i(x))`: all tasks see the same mixture.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers), as `mmoe` takes
            them.
        heads: Dict from task name to a Keras layer or a list of layers.
        experts: Integer. How many experts there are. Defaults to 8.
        shared_depth: Integer. How many stages are shared below the experts.
            Defaults to 0.
        gate: `None`, a Keras layer or a list of layers that make a feature
            vector for the gate. Defaults to `None`: the gate sees the experts'
            input, flattened.
        gate_temperature: Float. Defaults to 1.
        gate_dropout: Float. Defaults to 0.
        copy_weights: `None` or boolean. Whether all experts start from the
            given stages' weights. Defaults to `None`: every copy starts anew,
            and weights that would be lost are refused (see the guide, "What
            copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`.

    Raises:
        ValueError: As with `mmoe`.

    Example:

    >>> model = keras_mtl.omoe(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     experts=4,
    ... )
    >>> list(model.sharing_coefficients(np.ones((8, 20))))
    ['shared/gate']

    Reference:

    - J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018.
    """
    experts = check_integer(experts, "experts", 1)
    make_gate = softmax_gate(gate_temperature, gate_dropout)
    tensor, stacks, heads, copy_weights = expert_stages(inputs, stages, heads, shared_depth, copy_weights)
    features = add_experts(stacks, tensor, "shared", experts, copy_weights, shared_depth)
    mixed = gated(make_gate, tensor, features, "shared", gate)
    outputs = add_heads(heads, dict.fromkeys(heads, mixed), depends_on)
    return MultiTaskModel(inputs, outputs, name=name)
