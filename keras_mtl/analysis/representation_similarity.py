"""Similarity of the features that single-task models learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mtl._types import Structure
from keras_mtl.analysis._baselines import network_of
from keras_mtl.layers import Stage
from keras_mtl.metrics._affinity import Affinity

if TYPE_CHECKING:
    from keras_mtl.analysis.grouping.grouped_model import GroupedModel
    from keras_mtl.models.multi_task_model import MultiTaskModel


def representation_similarity(
    model: MultiTaskModel, x: Structure, *, stages: Mapping[str, Sequence[str]] | None = None, batch_size: int = 256
) -> dict[str, Affinity]:
    """Compares the tasks' features, stage by stage, by which examples they find alike.

    For every task and stage, the dissimilarity of two examples is one less the
    Pearson correlation of their features. The similarity of two tasks at a
    stage is Spearman's rank correlation of their dissimilarities, over all
    pairs of examples. So features of different sizes can be compared, and only
    what they tell apart counts.

    Args:
        model: A trained `MultiTaskModel` whose tasks have columns of their
            own, such as `hard_sharing(..., shared_depth=0)`, or a
            `GroupedModel` of networks of one task each.
        x: Inputs of some examples, a few hundred; their number enters squared.
        stages: Dict from task to a list of layer names, as many for each.
            Defaults to `None`: the stages on the way to each task, without
            its head.
        batch_size: Integer. Defaults to `256`.

    Returns:
        Dict from stage to a symmetric `Affinity`. Stages are named as the
        first task names them, without the task.

    Raises:
        ValueError: If the tasks have different numbers of stages, or the
            features of a task are the same for all examples.

    Example:

    >>> stages = [keras.layers.Dense(4, name="low"), keras.layers.Dense(4, name="high")]
    >>> heads = {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)}
    >>> model = keras_mtl.hard_sharing(keras.Input((3,)), stages, heads, shared_depth=0)
    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> list(keras_mtl.analysis.representation_similarity(model, x))
    ['low', 'high']

    References:

    - K. Dwivedi, G. Roig, "Representation Similarity Analysis for Efficient Task Taxonomy & Transfer Learning", CVPR
      2019.
    - S. Vandenhende et al., "Branched Multi-Task Networks: Deciding What Layers To Share", BMVC 2020, section 3.1.
    """
    layers = _layers(model, stages)
    tasks, ranks = list(layers), {}
    for task, of_task in layers.items():
        outputs = keras.Model(network_of(model, task).input, [layer.output for layer in of_task])
        features = outputs.predict(x, batch_size=batch_size, verbose=0)
        features = features if len(of_task) > 1 else [features]
        ranks[task] = [_ranks(f, task, layer) for f, layer in zip(features, of_task, strict=True)]
    similarities = {}
    for place, layer in enumerate(layers[tasks[0]]):
        values = np.corrcoef([ranks[task][place] for task in tasks])
        name = layer.name.removeprefix(f"{tasks[0]}_").removeprefix("shared_")
        similarities[name] = Affinity(tasks, (values + values.T) / 2, f"similarity of features, {name}")
    return similarities


def _layers(model: MultiTaskModel, stages: Mapping[str, Sequence[str]] | None) -> dict[str, list[keras.Layer]]:
    if stages is None:
        found = {task: stages_to(network_of(model, task), task) for task in model.tasks}
    else:
        unknown = [task for task in stages if task not in model.tasks]
        if unknown:
            raise ValueError(f"The keys of `stages` should be tasks: {model.tasks}. Received: {unknown}")
        found = {task: [network_of(model, task).get_layer(name) for name in names] for task, names in stages.items()}
    counts = {task: len(of_task) for task, of_task in found.items()}
    if len(found) < 2 or len(set(counts.values())) != 1 or not max(counts.values()):
        raise ValueError(
            f"`stages` should name as many layers for each of two tasks or more. Received: numbers of stages {counts}"
        )
    return found


def stages_to(network: MultiTaskModel | GroupedModel, task: str) -> list[Stage]:
    """The stages from a network's inputs to a task, without its head.

    Args:
        network: `MultiTaskModel`.
        task: String. The task.

    Returns:
        List of `keras_mtl.layers.Stage`.
    """
    on_the_way = [layer for layer in network.layers if task in network.sharing.tasks_of(layer)]
    return [layer for layer in on_the_way if isinstance(layer, Stage)][:-1]


def _ranks(features: np.ndarray, task: str, layer: keras.Layer) -> np.ndarray:
    """Ranks of the pairs of examples by dissimilarity, as one vector."""
    from scipy.stats import rankdata

    flat = features.reshape(len(features), -1).astype("float64")
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    if flat.shape[1] < 3 or len(flat) < 3 or not (norms > 0).any():
        raise ValueError(
            f"Features should have 3 entries or more, for 3 examples or more, and not all be the same. Received: shape "
            f"{features.shape} of task '{task}' at layer '{layer.name}'"
        )
    flat = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 0)
    return rankdata((1.0 - flat @ flat.T)[np.triu_indices(len(flat), 1)])
