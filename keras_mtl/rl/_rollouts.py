"""Rollouts of policies, as batches to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._types import Structure, Tasks

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel
    from keras_mtl.rl._environments import Copies


class Rollouts:
    """Copies of every task's environment, and the policies that act in them.

    Args:
        model: The compiled `MultiTaskModel`.
        copies: Dict from task to `keras_mtl.rl._environments.Copies`.
        losses: Dict from task to its loss.
        rng: NumPy generator of the actions.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        copies: Mapping[str, Copies],
        losses: Mapping[str, keras.losses.Loss | None],
        rng: np.random.Generator,
    ) -> None:
        self._model, self._copies, self._losses, self._rng = model, copies, losses, rng

    def collect(
        self, tasks: Tasks, horizon: int, discount: float, trace: float
    ) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Lets the tasks' policies act for some steps.

        Args:
            tasks: List of tasks, all of which take part.
            horizon: Integer. Steps in each copy.
            discount: Float. Discount of rewards.
            trace: Float. Lambda of generalized advantage estimation.

        Returns:
            Observations, arrays of shape `(rows, ...)`; a dict from task to
            labels of shape `(rows, 4)`, as `ActorCriticLoss` takes them; and
            a dict from task to weights of shape `(rows,)`, 1 for the task's
            own rows.
        """
        seen, records = [], {task: [] for task in tasks}
        outputs, values = self._look(tasks)
        for _ in range(horizon):
            seen.append(self._observations(tasks))
            broken = {}
            for task in tasks:
                log_policy, value = self._losses[task].read(outputs[task])
                action = draw_actions(log_policy, self._rng)
                rewards, ended, broken_off, after = self._copies[task].step(action)
                rewards = rewards + self._losses[task].bonus(outputs[task], action)
                log_prob = log_policy[np.arange(len(action)), action]
                records[task].append([action, log_prob, rewards, value, ended, np.zeros(len(action))])
                if broken_off.any():
                    broken[task] = (broken_off, after)
            if broken:  # an episode that is broken off would have gone on: its end has a value
                _, ends = self._look(tasks, {task: after for task, (_, after) in broken.items()})
                for task, (broken_off, _) in broken.items():
                    records[task][-1][-1] = np.where(broken_off, ends[task], 0.0)
            outputs, values = self._look(tasks)
        labels = {task: _labels(records[task], values[task], discount, trace) for task in tasks}
        return self._as_rows(tasks, seen, labels)

    def _observations(self, tasks: Tasks, instead: Mapping[str, Any] | None = None) -> Structure:
        parts = [(instead or {}).get(task, self._copies[task].observations) for task in tasks]
        return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)

    def _look(
        self, tasks: Tasks, instead: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Each task's outputs and values for what its copies show."""
        found = self._model.predict_on_batch(self._observations(tasks, instead))
        outputs, start = {}, 0
        for task in tasks:
            size = self._copies[task].size
            outputs[task] = np.asarray(found[task][start : start + size], "float32")
            start += size
        return outputs, {task: self._losses[task].read(output)[1] for task, output in outputs.items()}

    def _as_rows(
        self, tasks: Tasks, seen: Sequence[Structure], labels: Mapping[str, np.ndarray]
    ) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        x = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *seen)
        sizes = [self._copies[task].size for task in tasks]
        horizon, total = len(seen), sum(sizes)
        y, weights, start = {}, {}, 0
        for task, size in zip(tasks, sizes, strict=True):
            y[task] = np.zeros((horizon, total, 4), "float32")
            y[task][:, start : start + size] = labels[task]
            weights[task] = np.zeros((horizon, total), "float32")
            weights[task][:, start : start + size] = 1
            start += size
        y = {task: values.reshape(-1, 4) for task, values in y.items()}  # type: ignore[misc]
        return x, y, {task: values.reshape(-1) for task, values in weights.items()}


def draw_actions(log_policy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws an action from each row of log probabilities."""
    return np.argmax(log_policy + rng.gumbel(size=log_policy.shape), axis=-1)


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    last_value: np.ndarray,
    ended: np.ndarray,
    end_values: np.ndarray,
    discount: float,
    trace: float,
) -> np.ndarray:
    """Generalized advantage estimates of side-by-side rollouts.

    `A_t = delta_t + discount lambda A_{t+1}` within an episode, with
    `delta_t = r_t + discount V(s_{t+1}) - V(s_t)`.

    Args:
        rewards: Array of shape `(steps, copies)`.
        values: Array of the same shape. `V(s_t)`.
        last_value: Array of shape `(copies,)`. The value after the last step.
        ended: Array of the shape of `rewards`. Whether an episode ended with
            the step.
        end_values: Array of the shape of `rewards`. Where it ended, the value
            of its last state: 0 for a terminal one.
        discount: Float.
        trace: Float. Lambda.

    Returns:
        Array of the shape of `rewards`.
    """
    after = np.where(ended, end_values, np.concatenate([values[1:], last_value[None]]))
    deltas = rewards + discount * after - values
    found, advantage = np.zeros_like(deltas), np.zeros_like(last_value)
    for t in range(len(rewards) - 1, -1, -1):
        advantage = deltas[t] + discount * trace * np.where(ended[t], 0.0, advantage)
        found[t] = advantage
    return found


def _labels(records: Sequence[Sequence[Any]], last_value: np.ndarray, discount: float, trace: float) -> np.ndarray:
    """Rows of action, advantage, return, log probability, of shape `(steps, copies, 4)`."""
    action, log_prob, rewards, values, ended, end_values = (np.stack(column) for column in zip(*records, strict=True))
    found = advantages(rewards, values, last_value, ended, end_values, discount, trace)
    scaled = (found - found.mean()) / (found.std() + 1e-8)
    return np.stack([action, scaled, found + values, log_prob], axis=-1).astype("float32")
