"""Evaluating and recording policies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl._checks import check_boolean
from keras_mtl._files import whole_file
from keras_mtl._types import Structure
from keras_mtl.rl._environments import Copies, check_environment, check_policies, make
from keras_mtl.rl._rollouts import draw_actions

if TYPE_CHECKING:
    from keras_mtl.models.multi_task_model import MultiTaskModel


def evaluate(
    model: MultiTaskModel,
    environments: Mapping[str, str | Callable[..., Any]],
    *,
    episodes: int = 20,
    greedy: bool = False,
    max_steps: int = 10_000,
    seed: int | None = None,
) -> dict[str, np.ndarray]:
    """Lets a model's policies play, without learning.

    Args:
        model: A `keras_mtl.MultiTaskModel`, compiled as for
            `keras_mtl.rl.train`.
        environments: Dict from task to the name of a Gymnasium environment or
            a function that makes one.
        episodes: Integer. Episodes for each task, played side by side.
            Defaults to `20`.
        greedy: Boolean. Whether the likeliest action is taken, in place of one
            drawn by its probability. Defaults to `False`.
        max_steps: Integer. Where an episode is broken off. Defaults to
            `10_000`.
        seed: Integer. Defaults to `None`.

    Returns:
        Dict from task to an array of the episodes' returns, undiscounted.

    Raises:
        ValueError: As `keras_mtl.rl.train`.
    """
    check_boolean(greedy, "greedy")
    losses = check_policies(model, environments)
    rng = np.random.default_rng(seed)
    found = {}
    for task, environment in environments.items():
        worker = Copies(environment, episodes, seed)
        returns, done = np.zeros(episodes), np.zeros(episodes, bool)
        for _ in range(max_steps):
            action = _choose(model, task, losses[task], worker.observations, greedy, rng)
            rewards, ended, _, _ = worker.step(action)
            returns += np.where(done, 0.0, rewards)
            done |= ended
            if done.all():
                break
        worker.close()
        found[task] = returns
    return found


def record(
    model: MultiTaskModel,
    task: str,
    environment: str | Callable[..., Any],
    path: str | os.PathLike,
    *,
    episodes: int = 1,
    greedy: bool = False,
    max_steps: int = 500,
    fps: int = 5,
    seed: int | None = None,
) -> list[np.ndarray]:
    """Makes an animated picture of a policy at work.

    Args:
        model: A `keras_mtl.MultiTaskModel`, compiled as for
            `keras_mtl.rl.train`.
        task: String. The task whose policy acts.
        environment: Function that makes an environment with
            `render_mode="rgb_array"`.
        path: Path of the picture; it ends with `.gif`, `.webp` or `.png`.
        episodes: Integer. Defaults to `1`.
        greedy: Boolean. As for `evaluate`. Defaults to `False`.
        max_steps: Integer. Where an episode is broken off. Defaults to `500`.
        fps: Integer. Steps shown in a second. Defaults to `5`.
        seed: Integer. Defaults to `None`.

    Returns:
        List of the frames, arrays of shape `(height, width, 3)`.

    Raises:
        ValueError: If the environment does not render arrays.
    """
    check_boolean(greedy, "greedy")
    losses = check_policies(model, {task: environment})
    one = make(environment)
    check_environment(task, one, model, losses[task])
    if one.render_mode != "rgb_array":
        raise ValueError(
            f"The environment of task '{task}' should be made with render_mode='rgb_array'. "
            f"Received: render_mode={one.render_mode!r}"
        )
    rng = np.random.default_rng(seed)
    frames = []
    for episode in range(episodes):
        observation, _ = one.reset(seed=seed if episode == 0 else None)
        frames.append(one.render())
        for _ in range(max_steps):
            alone = keras.tree.map_structure(lambda array: np.asarray(array)[None], observation)
            action = _choose(model, task, losses[task], alone, greedy, rng)
            observation, _, terminated, truncated, _ = one.step(int(action[0]))
            frames.append(one.render())
            if terminated or truncated:
                break
    one.close()
    _save(frames, path, fps)
    return frames


def _choose(
    model: MultiTaskModel, task: str, loss: Structure, observations: Structure, greedy: bool, rng: np.random.Generator
) -> np.ndarray:
    log_policy, _ = loss.read(np.asarray(model.predict_on_batch(observations)[task], "float32"))
    return np.argmax(log_policy, axis=-1) if greedy else draw_actions(log_policy, rng)


def _save(frames: Sequence[np.ndarray], path: str | os.PathLike, fps: int) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(np.asarray(frame)) for frame in frames)
    with whole_file(path) as part:
        first.save(part, save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
