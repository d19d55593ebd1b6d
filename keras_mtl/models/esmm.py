"""ESMM: a funnel of events, each of which is possible after the one before it alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_mtl._types import Heads, Inputs, Stages
from keras_mtl.models._arguments import check_heads
from keras_mtl.models.hard_sharing import hard_sharing
from keras_mtl.models.multi_task_model import MultiTaskModel


def esmm(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    builder: Callable[..., MultiTaskModel] = hard_sharing,
    name: str | None = None,
    **options: Any,
) -> MultiTaskModel:
    """Builds an entire-space model of a funnel such as impression, click, conversion.

    Head k gives the logit of `q_k = P(event k | event k-1)`. The output of task
    k is the probability of having come so far, `p_k = q_1 q_2 ... q_k`, which
    every example has a label for: its event k is 1 or 0 in the entire space,
    and no task is trained on the biased sample of those who came to the event
    before. With two tasks `p_1` is pCTR, `q_2` pCVR and `p_2 = p_1 q_2` pCTCVR.

    The conditional probabilities `q_2, q_3, ...` are outputs too, named
    `<task>_given_<task before>`. They are there to be read: leave them out of
    `compile(loss=...)`. Metrics of them make sense inside the sample space
    `sample_space={"conversion_given_click": "click"}`.

    Args:
        inputs: As the builder takes them.
        stages: As the builder takes them.
        heads: Dict from task name, in the order of the funnel, to a Keras layer
            or a list of layers that gives a logit, as `Dense(1)` does. Two
            tasks or more.
        builder: Function. Which builder shares the stages, such as
            `keras_mtl.mmoe`. Defaults to `keras_mtl.hard_sharing`.
        name: String. Name of the model.
        **options: The builder's own options. The paper shares embeddings and
            gives each task a tower: `shared_depth=1`.

    Returns:
        A `keras_mtl.MultiTaskModel` whose outputs are float32 probabilities.

    Raises:
        ValueError: If there are fewer than two tasks, a head ends with an
            activation, heads differ in shape, or a task has the name of a
            conditional output.

    Example:

    >>> model = keras_mtl.esmm(
    ...     inputs=keras.Input((20,)),
    ...     stages=[keras.layers.Dense(16, activation="relu")],
    ...     heads={"click": keras.layers.Dense(1), "conversion": keras.layers.Dense(1)},
    ... )
    >>> model.compile("adam", loss={"click": "binary_crossentropy", "conversion": "binary_crossentropy"})
    >>> p = model.predict(np.ones((4, 20)), verbose=0)
    >>> sorted(p)
    ['click', 'conversion', 'conversion_given_click']
    >>> bool(np.allclose(p["conversion"], p["click"] * p["conversion_given_click"]))
    True

    Reference:

    - X. Ma et al., "Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate",
      SIGIR 2018.

    Deviations: the paper has two tasks and shares embeddings alone; here the
    funnel may be longer and the builder says what is shared.
    """
    stacks = check_heads(heads)
    if len(stacks) < 2:
        raise ValueError(f"`heads` should have the two tasks of a funnel or more. Received: {list(stacks)}")
    for task, stack in stacks.items():
        activation = getattr(stack[-1], "activation", keras.activations.linear)
        if activation is not None and activation is not keras.activations.linear:
            raise ValueError(
                f"The head of task '{task}' should give logits, as Dense(1) does, since `esmm` makes probabilities of "
                f"them. Received: a last layer with activation '{getattr(activation, '__name__', activation)}'"
            )
    base = builder(inputs, stages, heads, **options)
    shapes = {task: tuple(base.output[task].shape) for task in stacks}
    if len(set(shapes.values())) != 1:
        raise ValueError(f"The heads of a funnel should give outputs of one shape. Received: {shapes}")
    outputs, conditional, before = {}, {}, None
    for task in stacks:
        # In float32 whatever the policy: a product of small probabilities is soon nothing in float16.
        given = f"{task}_given_{before}" if before else task
        probability = layers.Activation("sigmoid", dtype="float32", name=f"{given}_probability")(base.output[task])
        if before is None:
            outputs[task] = probability
        else:
            conditional[given] = probability
            product = layers.Multiply(dtype="float32", name=f"{task}_probability")
            outputs[task] = product([outputs[before], probability])
        before = task
    if taken := [given for given in conditional if given in outputs]:
        raise ValueError(f"The names {taken} are those of conditional outputs. Received: tasks {list(stacks)}")
    return MultiTaskModel(base.input, {**outputs, **conditional}, name=name)
