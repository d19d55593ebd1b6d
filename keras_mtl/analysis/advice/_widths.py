"""Sizes of candidates, and widths for which they have one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._types import Heads, Structure

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Candidate, Problem
    from keras_mtl.models.multi_task_model import MultiTaskModel

_WIDTHS = ("units", "filters")


def parameters_of(model: MultiTaskModel) -> int:
    """Trainable parameters of a model."""
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def trunk_parameters(model: MultiTaskModel, heads: Heads) -> int:
    """Trainable parameters of all but the heads."""
    names = {f"{task}/{layer.name}/" for task, stack in heads.items() for layer in stack}
    of_heads = [v for v in model.trainable_variables if any(v.path.startswith(name) for name in names)]
    return parameters_of(model) - sum(int(np.prod(v.shape)) for v in of_heads)


def with_width(config: Structure, factor: float) -> Structure:
    """A layer's config with its units or filters, and those of layers within it, multiplied."""
    if isinstance(config, dict):
        return {
            key: max(1, round(factor * value)) if key in _WIDTHS and type(value) is int else with_width(value, factor)
            for key, value in config.items()
        }
    return [with_width(item, factor) for item in config] if isinstance(config, (list, tuple)) else config


def fit_width(problem: Problem, candidate: Candidate, budget: int) -> Candidate:
    """The candidate with widths for which its trunk has a number of parameters.

    Args:
        problem: `Problem`.
        candidate: `Candidate`.
        budget: Integer. Trainable parameters of the trunk.

    Returns:
        `Candidate`, whose trunk has at most the budget where that is possible.
    """
    tried, width = {}, 1.0
    for _ in range(5):
        model = problem.build(dataclasses.replace(candidate, width=width))
        tried[width] = trunk_parameters(model, problem.heads)
        if 0.97 * budget <= tried[width] <= budget:
            break
        new = round(width * (0.99 * budget / tried[width]) ** 0.5, 4)
        if new in tried:
            break
        width = new
    nearest = min(tried.values(), key=lambda size: abs(size - budget))
    if not 0.8 * budget <= nearest <= 1.2 * budget:
        raise ValueError(
            "`parameters` should be within reach of the stages' `units` and `filters`. Received: "
            f"parameters={budget}; '{candidate.name}' comes no nearer than {nearest:,}"
        )
    fitting = [w for w in tried if tried[w] <= budget and tried[w] >= 0.8 * budget]
    width = max(fitting, key=lambda w: tried[w]) if fitting else min(tried, key=lambda w: tried[w])
    return dataclasses.replace(candidate, width=width)
