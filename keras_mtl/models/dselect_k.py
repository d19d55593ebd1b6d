"""DSelect-k: each task learns which k of the shared experts it uses."""

from __future__ import annotations

import functools

import keras

from keras_mtl._checks import check_boolean, check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages
from keras_mtl.layers import DSelectKGate
from keras_mtl.models._experts import add_experts, expert_stages, gated
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def dselect_k(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    experts: int = 8,
    k: int = 2,
    shared_depth: int = 0,
    per_example: bool = False,
    gate: Layers | None = None,
    gamma: float = 1.0,
    entropy_strength: float = 0.0,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a mixture-of-experts with sparse gates that stay differentiable.

    As `mmoe`, but task k's weights are those of k selectors, each of which
    moves towards one expert by smooth steps of binary digits: see
    `keras_mtl.layers.DSelectKGate` for the equations. All experts still run:
    the gates choose, they do not save time.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers), as `mmoe` takes
            them.
        heads: Dict from task name to a Keras layer or a list of layers.
        experts: Integer. How many experts there are. Defaults to 8.
        k: Integer. How many of them a task uses at most. Defaults to 2.
        shared_depth: Integer. How many stages are shared below the experts.
            Defaults to 0.
        per_example: Boolean. Whether a gate depends on the example. Defaults
            to `False`: one choice for each task.
        gate: `None`, a Keras layer or a list of layers that make a feature
            vector for `per_example` gates. Defaults to `None`.
        gamma: Float. Width of the smooth step. Defaults to 1.
        entropy_strength: Float. How much the selectors' entropy adds to the
            loss in training, which makes them choose sooner. Defaults to 0.
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
        ValueError: If there are no experts, or `k` is more than there are.

    Example:

    >>> model = keras_mtl.dselect_k(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ...     experts=4,
    ... )
    >>> model.sharing_coefficients()["a/gate"].shape
    (4,)

    Reference:

    - H. Hazimeh et al., "DSelect-k: Differentiable Selection in the Mixture of Experts with Applications to Multi-Task
      Learning", NeurIPS 2021.
    """
    check_boolean(per_example, "per_example")
    experts = check_integer(experts, "experts", 1)
    make_gate = functools.partial(
        DSelectKGate, k=k, per_example=per_example, gamma=gamma, entropy_strength=entropy_strength, name="select"
    )
    make_gate(experts)  # one expert has no gate, but the options are checked all the same
    tensor, stacks, heads, copy_weights = expert_stages(inputs, stages, heads, shared_depth, copy_weights)
    features = add_experts(stacks, tensor, "shared", experts, copy_weights, shared_depth)
    if not per_example:  # the gate takes nothing but the batch size from its input
        tensor, gate = keras.tree.flatten(tensor)[0], []
    mixed = {task: gated(make_gate, tensor, features, task, gate) for task in heads}
    outputs = add_heads(heads, mixed, depends_on)
    return MultiTaskModel(inputs, outputs, name=name)
