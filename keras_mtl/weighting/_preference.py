"""How much each task counts, as a user says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_mtl._checks import check_numbers
from keras_mtl._types import Shape, Tensor
from keras_mtl.weighting.base import Weighting


class Preference(Weighting):
    """Base of the weightings that take `preference`; of those on the Gramian, before `GramianWeighting`.

    It keeps the preference as it was given, checks it against the tasks' names once it is told them, and gives the
    tasks' shares. A preference says ratios: its numbers are divided by their sum.
    """

    preference: dict[str, float] | list[float] | None = None
    _tasks: list[str] | None = None

    def set_preference(self, preference: Mapping[str, float] | Sequence[float] | None) -> None:
        """Keeps a preference that is one of numbers: at least 0, and not all 0."""
        values = list(preference.values()) if isinstance(preference, dict) else preference
        if preference is None:
            self.preference = None
            return
        checked = check_numbers(values, "preference", least=0)
        if not isinstance(checked, list) or not sum(checked) > 0:
            raise ValueError(
                "`preference` should be a dict from tasks to numbers, or a list of them, not all 0. "
                f"Received: preference={preference!r}"
            )
        self.preference = dict(zip(preference, checked, strict=True)) if isinstance(preference, dict) else checked

    def set_tasks(self, tasks: Sequence[str], kinds: Sequence[str]) -> None:
        super().set_tasks(tasks, kinds)
        self._tasks = list(tasks)
        if isinstance(self.preference, dict) and set(self.preference) != set(tasks):
            raise ValueError(
                f"`preference` should have one number for each of the tasks {list(tasks)}. "
                f"Received: preference={self.preference}"
            )

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        if isinstance(self.preference, list) and len(self.preference) != self.num_tasks:
            raise ValueError(
                f"`preference` should have one value for each of {self.num_tasks} tasks. "
                f"Received: preference={self.preference}"
            )

    def shares(self, size: int) -> np.ndarray:
        """The preference of `size` tasks as a float64 array that sums to 1; `1 / K` each where none was given."""
        if self.preference is None:
            return np.full(size, 1.0 / size)
        values = self.preference
        if isinstance(values, dict):
            if self._tasks is None:
                raise ValueError(
                    "`preference` should be a list of numbers where the tasks have no names; call `set_tasks` first. "
                    f"Received: preference={values}"
                )
            values = [values[task] for task in self._tasks]
        if len(values) != size:
            raise ValueError(
                f"`preference` should have one value for each of {size} tasks. Received: preference={self.preference}"
            )
        shares = np.asarray(values, "float64")
        return shares / shares.sum()

    def present_shares(self, present: Tensor) -> Tensor:
        """The shares of the tasks that are present, which sum to 1; 0 for the others.

        Args:
            present: Float tensor of shape `(K,)`.

        Returns:
            Tensor of the shape and dtype of `present`. All 0 where no task is
            present that has a share.
        """
        shares = present * ops.cast(self.shares(present.shape[0]), present.dtype)
        total = ops.sum(shares)
        return shares / ops.where(total > 0, total, ops.ones_like(total))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "preference": self.preference}
