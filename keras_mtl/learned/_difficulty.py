"""Affinities by the examples that tasks find difficult, and clusters of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_mtl._types import Tensor

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def sample_errors(model: MultiTaskModel, x: Tensor, y: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """How far off a model is, for each task and example.

    `|t - s|` for numbers and for one probability, `1 - p` of the true class
    for class numbers and one-hot labels. Outputs that are no probabilities
    count as logits. Where an output has several numbers, their mean counts.

    Args:
        model: A `MultiTaskModel`.
        x: Inputs.
        y: Dict from task to labels; NaN where there are none.

    Returns:
        Dict from task to array of shape `(examples,)`.
    """
    predictions = model.predict(x, verbose=0)
    return {task: _errors(np.asarray(predictions[task]), np.asarray(y[task])) for task in model.tasks}


def _errors(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    classes = predicted.shape[-1] > 1 and labels.size == len(labels) and np.issubdtype(labels.dtype, np.integer)
    one_hot = labels.shape == predicted.shape and predicted.shape[-1] > 1 and set(np.unique(labels)) <= {0, 1}
    if classes or (one_hot and (labels.sum(-1) == 1).all()):
        if predicted.min() < 0 or not np.allclose(predicted.sum(-1), 1, atol=1e-3):
            predicted = keras.ops.convert_to_numpy(keras.ops.softmax(predicted))
        true = labels.reshape(len(labels)) if classes else labels.argmax(-1)
        return 1 - predicted[np.arange(len(true)), true]
    labels = labels.reshape(predicted.shape)
    if set(np.unique(labels[~np.isnan(labels)])) <= {0, 1} and (predicted.min() < 0 or predicted.max() > 1):
        predicted = 1 / (1 + np.exp(-predicted))
    return np.abs(labels - predicted).reshape(len(labels), -1).mean(axis=1)


def difficulty_affinity(errors: Mapping[str, Tensor]) -> np.ndarray:
    """Share of examples that two tasks agree on whether they are difficult.

    An example is difficult for a task where its error is at least the task's
    mean error: `A_ij = P(e_i = e_j)`. Independent tasks have 1/2 where half of
    the examples are difficult.

    Args:
        errors: Dict from task to array of shape `(examples,)`, NaN where an
            example has no label.

    Returns:
        Array of shape `(K, K)`, symmetric, with ones on the diagonal.

    Raises:
        ValueError: If two tasks have no example with labels of both.

    Reference:

    - Y. Lu et al., "Fully-adaptive Feature Sharing in Multi-Task Networks with Applications in Person Attribute
      Classification", CVPR 2017.
    """
    tasks = list(errors)
    values = np.stack([errors[task] for task in tasks])
    labelled = ~np.isnan(values)
    difficult = values >= np.nanmean(values, axis=1, keepdims=True)
    affinity = np.eye(len(tasks))
    for i in range(len(tasks)):
        for j in range(i):
            both = labelled[i] & labelled[j]
            if not both.any():
                raise ValueError(
                    f"Tasks '{tasks[j]}' and '{tasks[i]}' should have examples with labels of both. Received: none"
                )
            affinity[i, j] = affinity[j, i] = (difficult[i] == difficult[j])[both].mean()
    return affinity


def branch_affinity(affinity: np.ndarray, branches: Sequence[Sequence[int]]) -> np.ndarray:
    """Affinity of branches from that of their tasks.

    `(B + B^T) / 2` with `B_kl = mean_{i in k} min_{j in l} A_ij`.

    Args:
        affinity: Array of shape `(K, K)`.
        branches: List of lists of task numbers.

    Returns:
        Array of shape `(branches, branches)`.
    """
    one_way = np.array([[affinity[np.ix_(k, m)].min(axis=1).mean() for m in branches] for k in branches])
    both = (one_way + one_way.T) / 2
    np.fill_diagonal(both, 1.0)  # a branch is with itself whatever its tasks are to each other
    return both


def spectral_clusters(affinity: np.ndarray, count: int, seed: int = 0) -> list[list[int]]:
    """Groups by the first eigenvectors of the normalised affinity.

    Args:
        affinity: Array of shape `(n, n)`, symmetric, not negative.
        count: Integer. Number of groups.
        seed: Integer. Seed of the starts of k-means, of which the best of ten
            counts.

    Returns:
        List of `count` sorted lists of numbers, in the order of their first.
    """
    from scipy.cluster.vq import kmeans2

    size = len(affinity)
    if count == 1:
        return [list(range(size))]
    if count == size:
        return [[i] for i in range(size)]
    roots = 1 / np.sqrt(affinity.sum(axis=1))
    _, vectors = np.linalg.eigh(affinity * roots[:, None] * roots[None, :])
    rows = vectors[:, -count:]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    best, least = None, np.inf
    for start in range(10):
        centres, labels = kmeans2(rows, count, minit="++", rng=np.random.default_rng([seed, start]), missing="warn")
        apart = np.square(rows - centres[labels]).sum()
        if len(set(labels)) == count and apart < least:
            best, least = labels, apart
    if best is None:  # rows that coincide have no such groups
        return []
    groups = [np.flatnonzero(best == label).tolist() for label in sorted(set(best))]
    return sorted(groups, key=lambda group: group[0])


def separation(affinity: np.ndarray, groups: Sequence[Sequence[int]]) -> float:
    """`mean_k [1 - min_{l in g(k)} A_kl]` over branches: 0 where each group agrees.

    A mean over groups would reward splitting off single branches, whose groups
    agree with themselves.
    """
    return float(np.mean([1 - affinity[k, group].min() for group in groups for k in group]))


def best_split(affinity: np.ndarray, branch_cost: float, separation_weight: float, seed: int = 0) -> list[list[int]]:
    """Number of groups that costs least, and the groups.

    `L(d) = (d - 1) branch_cost + separation_weight L_s(d)`

    Args:
        affinity: Array of shape `(n, n)`, of branches.
        branch_cost: Float. What another branch costs.
        separation_weight: Float. What a group of two minds costs.
        seed: Integer. See `spectral_clusters`.

    Returns:
        List of lists of branch numbers.
    """
    splits = [spectral_clusters(affinity, d, seed) for d in range(1, len(affinity) + 1)]
    costs = {
        d: (d - 1) * branch_cost + separation_weight * separation(affinity, groups)
        for d, groups in enumerate(splits, start=1)
        if groups
    }
    return splits[min(costs, key=costs.__getitem__) - 1]
