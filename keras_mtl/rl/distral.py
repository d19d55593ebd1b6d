"""The neural form of Distral: a column for each task, and one for the distilled policy."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from keras_mtl._checks import check_integer
from keras_mtl._types import Heads, Inputs, Stages
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights
from keras_mtl.models._stages import add_column, add_head, add_shared, add_unit
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.rl.distilled_policy import DISTILLED, DistilledPolicy
from keras_mtl.rl.tabular import check_regularization


def distral(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    alpha: float = 0.5,
    columns: int = 2,
    shared_depth: int = 0,
    copy_weights: bool | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds policies that are pulled to a distilled one, and share through it.

    With two columns, task i has the policy
    `pi_i(a|s)` proportional to `pi_0(a|s)^alpha exp(f_i(a|s))`: the distilled
    column gives `pi_0`, the task's own column what it adds, `f_i`, and its
    value. With one, `pi_i` is the task's alone, and only the KL term of
    `DistralLoss` ties it to `pi_0`.

    Compile it with `keras_mtl.rl.DistralLoss`, of the same `alpha`.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The distilled column
            is made of these very layers; each task's column of copies.
        heads: Dict from task to a Keras layer or a list of layers that gives
            n + 1 outputs for n actions: logits, then the value. All tasks
            have the same actions. The distilled policy has a `Dense(n)`.
        alpha: Float from 0 to 1. `c_KL / (c_KL + c_Ent)`. Defaults to `0.5`.
        columns: `2` or `1`. Defaults to `2`.
        shared_depth: Integer. How many first stages the tasks share with the
            distilled policy. Defaults to `0`, as in the paper.
        copy_weights: `None` or boolean. Whether the tasks' copies start from
            the given stages' weights. Defaults to `None`: every copy starts
            anew, and weights that would be lost are refused (see the guide,
            "What copies keep").
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel` with 2n + 1 outputs for each task: the
        logits of `pi_i`, its value, the logits of `pi_0`. The distilled policy
        alone is `keras_mtl.rl.distilled_policy(model)`.

    Raises:
        ValueError: If tasks differ in their actions, or an option is out of
            range.

    Example:

    >>> model = keras_mtl.rl.distral(
    ...     inputs=keras.Input((4,)),
    ...     stages=[keras.layers.Dense(16, activation="tanh")],
    ...     heads={"short": keras.layers.Dense(3), "long": keras.layers.Dense(3)},
    ... )
    >>> model.output["long"].shape  # two actions
    (None, 5)

    References:

    - Y. W. Teh et al., "Distral: Robust Multitask Reinforcement Learning", NeurIPS 2017.

    Deviations: the paper's factor beta of `f_i` is taken into `f_i`.
    `shared_depth` is not in the paper.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    check_regularization(alpha, beta=1)
    if columns not in (1, 2):
        raise ValueError(f"`columns` should be 1 or 2. Received: columns={columns!r}")
    shared_depth = check_integer(shared_depth, "shared_depth", 0, len(stacks))
    copy_weights = check_copy_weights(copy_weights, stacks[shared_depth:], shared_depth)
    trunk = add_shared(stacks[:shared_depth], inputs)
    own = {}
    for task, head in heads.items():
        column = add_column(stacks[shared_depth:], trunk, task, copy_weights, first_index=shared_depth)
        own[task] = add_unit(head, column, f"{task}/policy")
    actions = _common_actions(own)
    distilled = add_shared(stacks[shared_depth:], trunk, first_index=shared_depth)
    distilled = add_shared([[keras.layers.Dense(actions, name=DISTILLED)]], distilled)
    outputs = {
        task: add_head([DistilledPolicy(alpha if columns == 2 else 0.0)], [distilled, output], task)
        for task, output in own.items()
    }
    return MultiTaskModel(inputs, outputs, name=name)


def _common_actions(outputs: Mapping[str, keras.KerasTensor]) -> int:
    """The number of actions of all tasks."""
    found = {}
    for task, output in outputs.items():
        if len(output.shape) != 2 or not output.shape[-1] or output.shape[-1] < 2:
            raise ValueError(
                f"The head of task '{task}' should give one output for each action and one for the value. Received: "
                f"outputs of shape {tuple(output.shape)}"
            )
        found[task] = output.shape[-1] - 1
    if len(set(found.values())) > 1:
        raise ValueError(
            "The tasks of a distilled policy should have the same actions, so their heads as many outputs. Received: "
            + ", ".join(f"{n} actions of '{task}'" for task, n in found.items())
        )
    return next(iter(found.values()))
