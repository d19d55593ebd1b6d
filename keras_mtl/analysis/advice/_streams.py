"""The examples of a problem as batches, to train on and to evaluate."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl._types import Data
from keras_mtl.analysis.advice._arrays import size_of, take
from keras_mtl.data._in_memory import InMemory

if TYPE_CHECKING:
    from keras_mtl.analysis.advice._problem import Problem
    from keras_mtl.models.multi_task_model import MultiTaskModel

RESAMPLED = 5000  # examples up to which their own chance counts
RESAMPLES = 12
_AT_ONCE = 1024  # examples that are evaluated


class Streams:
    """Batches that are made once, and serve all trainings.

    Args:
        problem: `Problem`.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, self._of_seeds = problem, {}

    @functools.cached_property
    def all_training(self) -> InMemory:
        """All training examples."""
        return self._stream(self._problem.all_training, self._problem.batch_size)

    @functools.cached_property
    def test(self) -> InMemory:
        """The test examples."""
        return self._stream(self._problem.test, _AT_ONCE)

    def of_seed(self, seed: int) -> tuple[InMemory, InMemory, Data]:
        """Training batches, validation batches and validation data of a seed."""
        problem = self._problem
        place = seed if problem.held_out else 0
        if place not in self._of_seeds:
            if problem.held_out:
                train, rows = problem.split(seed)
                batches, validation = self.all_training.part(train), take(problem.all_training, rows)
            else:
                batches, validation = self.all_training, problem.validation
            self._of_seeds[place] = (batches, self._stream(validation, _AT_ONCE), validation)
        return self._of_seeds[place]

    def evaluated(self, model: MultiTaskModel, data: InMemory) -> dict[str, float]:
        """Values of a model by their logs."""
        values = model.evaluate(data.in_order(), steps=data.steps, return_dict=True, verbose=0)
        return {name: float(value) for name, value in values.items() if np.ndim(value) == 0}

    def resampled(self, model: MultiTaskModel, data: Data) -> list[dict[str, float]]:
        """Values on examples drawn with replacement: what chance among the examples makes of them."""
        size = size_of(data)
        if size > RESAMPLED:
            return []
        rng = np.random.default_rng(0)
        drawn = [take(data, rng.integers(0, size, size)) for _ in range(RESAMPLES)]
        return [self.evaluated(model, self._stream(each, _AT_ONCE)) for each in drawn]

    def _stream(self, data: Data, batch_size: int) -> InMemory:
        at_once = self._problem.compile_options.get("steps_per_execution", 1)
        return InMemory(self._problem.arrays(data), batch_size, at_once)
