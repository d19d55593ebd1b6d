"""AITM: each task of a funnel takes over from the one before it what it needs."""

from __future__ import annotations

import keras

from keras_mtl._checks import check_integer, check_number
from keras_mtl._types import Heads, Inputs, Stages
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights
from keras_mtl.models._stages import add_column, add_shared, add_unit
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel
from keras_mtl.recommenders.information_transfer import FunnelOrder, InformationTransfer


def aitm(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    shared_depth: int = 1,
    order_strength: float = 0.0,
    copy_weights: bool | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds an adaptive information transfer model of tasks that follow each other, such as click and purchase.

    Every task has a tower of its own above the shared stages, `q_k`. The first task's features are `z_1 = q_1`; each
    further one's come from attention over its own and what the one before hands on,
    `z_k = AIT(g_k(z_(k-1)), q_k)`, `g_k` being a dense layer with ReLU. The output is `h_k(z_k)`.

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The first `shared_depth` are shared, as embeddings are; the
            others, in a row, make a tower, of which each task gets a copy with seeds of its own. It should give a
            vector.
        heads: Dict from task name, in the order of the funnel, to a Keras layer or a list of layers. Two or more.
        shared_depth: Integer. How many stages are shared. Defaults to 1.
        order_strength: Float. What is added to the loss where a task's probability is above that of the task before
            it: `order_strength * mean(max(p_k - p_(k-1), 0))`. The authors use 0.6 and 0.3. Heads should give
            probabilities then, and those of earlier tasks count as shared with the later ones. Defaults to 0.
        copy_weights: `None` or boolean. Whether all towers start from the given stages' weights. Defaults to `None`:
            every copy starts anew, and weights that would be lost are refused (see the guide, "What copies keep").
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`.

    Raises:
        ValueError: If there are fewer than two tasks, no stage is left for the towers, or these give no vector.

    Example:

    >>> model = keras_mtl.recommenders.aitm(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8, activation="relu")],
    ...     heads={task: keras.layers.Dense(1, activation="sigmoid") for task in ("click", "buy")},
    ...     order_strength=0.6,
    ... )
    >>> model.tasks
    ('click', 'buy')

    Reference:

    - D. Xi et al., "Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning
      in Targeted Display Advertising", KDD 2021, arXiv:2105.08489.

    Deviations: the official code has one set of attention matrices for all tasks and dropout behind `g_k`; here each
    task has its own set, and dropout is the stages' matter. The order's penalty is off by default.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    if len(heads) < 2:
        raise ValueError(f"`heads` should have the two tasks of a funnel or more. Received: {list(heads)}")
    depth = check_integer(shared_depth, "shared_depth", 0, max(len(stacks) - 1, 0))
    strength = check_number(order_strength, "order_strength", least=0)
    copy_weights = check_copy_weights(copy_weights, stacks[depth:], depth)
    tensor = add_shared(stacks[:depth], inputs)
    features, before = {}, None
    for task in heads:
        own = add_column(stacks[depth:], tensor, task, copy_weights, first_index=depth)
        if not isinstance(own, keras.KerasTensor) or len(own.shape) != 2:
            shapes = keras.tree.map_structure(lambda x: tuple(x.shape), own)
            raise ValueError(f"`stages` should give a vector for each example to hand on. Received: shape {shapes}")
        if before is not None:
            handed_on = add_unit(
                keras.layers.Dense(own.shape[-1], activation="relu", name="g"), before, f"{task}/hand_on"
            )
            own = add_unit(InformationTransfer(name="transfer"), [handed_on, own], f"{task}/transfer")
        features[task] = before = own
    outputs = add_heads(heads, features)
    if strength:
        ordered, before = {}, None
        for task, output in outputs.items():
            layer = FunnelOrder(strength, name=f"{task}_in_order")
            ordered[task] = output if before is None else layer([before, output])
            before = output
        outputs = ordered
    return MultiTaskModel(inputs, outputs, name=name)
