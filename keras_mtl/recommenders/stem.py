"""STEM: shared and task-specific embeddings, and experts that learn from their own task alone."""

from __future__ import annotations

import keras
from keras import ops

from keras_mtl._checks import check_integer
from keras_mtl._types import DependsOn, Heads, Inputs, Layers, Stages
from keras_mtl.models._arguments import check_heads, check_inputs, check_stages
from keras_mtl.models._copies import check_copy_weights
from keras_mtl.models._experts import add_experts, add_gate, add_mixture, gated, softmax_gate
from keras_mtl.models._stages import add_column, add_shared
from keras_mtl.models.dependency import add_heads
from keras_mtl.models.multi_task_model import MultiTaskModel


def stem(
    inputs: Inputs,
    stages: Stages,
    heads: Heads,
    *,
    embedding_depth: int = 1,
    shared_experts: int = 1,
    task_experts: int = 1,
    gate: Layers | None = None,
    gate_temperature: float = 1.0,
    gate_dropout: float = 0.0,
    copy_weights: bool | None = None,
    depends_on: DependsOn | None = None,
    name: str | None = None,
) -> MultiTaskModel:
    """Builds a network with shared and task-specific embeddings.

    The first stages, the embeddings, are there once for all tasks, `e`, and once more for each task, `e_k`. Task k has
    experts on `e_k`, and all tasks share experts on `e`. Its gate sees `e_k + e` and mixes all of them, also the
    other tasks' experts; but from these no gradient goes back, so that a task's embeddings and experts learn from it
    alone ("all forward, task-specific backward").

    Args:
        inputs: `keras.Input`, or a list or dict of them.
        stages: List of Keras layers (or lists of layers). The first `embedding_depth` are the embeddings, which give
            one tensor; the others, in a row, make an expert. Tasks' embeddings and all experts are copies made from
            configs, with seeds of their own.
        heads: Dict from task name to a Keras layer or a list of layers.
        embedding_depth: Integer, at least 1. Defaults to 1.
        shared_experts: Integer. How many experts all tasks share. Defaults to 1.
        task_experts: Integer. How many experts a task has of its own. Defaults to 1.
        gate: As with `mmoe`; it takes the sum of embeddings. Defaults to `None`.
        gate_temperature: Float. Defaults to 1.
        gate_dropout: Float. As with `mmoe`. Defaults to 0.
        copy_weights: `None` or boolean. Whether copies start from the given stages' weights. Defaults to `None`: every
            copy starts anew, and weights that would be lost are refused (see the guide, "What copies keep").
        depends_on: `None` or a dict from task to what its head takes of other
            tasks: see `keras_mtl.Dependency`. Defaults to `None`.
        name: String. Name of the model.

    Returns:
        A `keras_mtl.MultiTaskModel`. The coefficients of a gate are those of the tasks' experts in order, then of the
        shared ones.

    Raises:
        ValueError: If no stage is left for the experts, a task has none, or embeddings give several tensors.

    Example:

    >>> model = keras_mtl.recommenders.stem(
    ...     inputs=keras.Input((3,), dtype="int32"),
    ...     stages=[[keras.layers.Embedding(50, 4), keras.layers.Flatten()], keras.layers.Dense(8, activation="relu")],
    ...     heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
    ... )
    >>> sum(v.path.endswith("embeddings") for v in model.variables)
    3

    Reference:

    - L. Su et al., "STEM: Unleashing the Power of Embeddings for Multi-task Recommendation", AAAI 2024,
      arXiv:2308.13537.

    Deviations: one level of experts, the official code's default. Gates have no bias and no hidden layers, but for
    `gate`.
    """
    check_inputs(inputs)
    stacks, heads = check_stages(stages), check_heads(heads)
    depth = check_integer(embedding_depth, "embedding_depth", 1, max(len(stacks) - 1, 1))
    if len(stacks) <= depth:
        raise ValueError(
            f"`stages` should have one or more for the experts, above `embedding_depth`. Received: {len(stacks)}"
        )
    own = check_integer(task_experts, "task_experts", 1)
    shared = check_integer(shared_experts, "shared_experts")
    copy_weights = check_copy_weights(copy_weights, stacks)
    make_gate = softmax_gate(gate_temperature, gate_dropout)

    common = add_shared(stacks[:depth], inputs)
    paths = {task: add_column(stacks[:depth], inputs, task, copy_weights) for task in heads}
    if not isinstance(common, keras.KerasTensor):
        shapes = keras.tree.map_structure(lambda x: tuple(x.shape), common)
        raise ValueError(f"The embeddings should give one tensor, which gates can add. Received: shapes {shapes}")
    experts = {t: add_experts(stacks[depth:], paths[t], t, own, copy_weights, depth) for t in heads}
    for_all = add_experts(stacks[depth:], common, "shared", shared, copy_weights, depth)
    features = {}
    for task in heads:
        seen = [e if t == task else ops.stop_gradient(e) for t in heads for e in experts[t]] + for_all
        if len(seen) == 1:
            features[task] = gated(make_gate, paths[task], seen, task, gate)
            continue
        probabilities = add_gate(make_gate, ops.add(paths[task], common), len(seen), task, gate)
        features[task] = add_mixture(probabilities, seen, task)
    return MultiTaskModel(inputs, add_heads(heads, features, depends_on), name=name)
