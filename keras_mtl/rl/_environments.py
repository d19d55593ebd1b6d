"""Making, checking and stepping environments in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_mtl.rl.actor_critic_loss import ActorCriticLoss
from keras_mtl.rl.distilled_policy import DistilledPolicy

if TYPE_CHECKING:
    from gymnasium import Env

    from keras_mtl.models.multi_task_model import MultiTaskModel


def gymnasium() -> ModuleType:
    """The package `gymnasium`.

    Raises:
        ImportError: If it is not installed, with how to install it.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError('Environments need gymnasium: pip install "keras_mtl[rl]"') from error
    return gymnasium


def make(environment: str | Callable[..., Env]) -> Env:
    """Makes an environment from its name, or from a function without arguments."""
    made = gymnasium().make(environment) if isinstance(environment, str) else environment()
    if not isinstance(made, gymnasium().Env):
        raise ValueError(
            "An environment should be the name of a Gymnasium environment, or a function without arguments that makes "
            f"one. Received: {made!r}"
        )
    return made


def check_policies(
    model: MultiTaskModel, environments: Mapping[str, str | Callable[..., Any]]
) -> dict[str, keras.losses.Loss | None]:
    """Raises where a task has no environment, an environment no task, or a task no loss of a policy.

    Returns:
        Dict from task to its `ActorCriticLoss`.
    """
    if not isinstance(environments, dict) or not environments:
        raise ValueError(f"`environments` should be a dict from task to environment. Received: {environments!r}")
    unknown = [task for task in environments if task not in model.tasks]
    if unknown:
        raise ValueError(f"The keys of `environments` should be tasks: {model.tasks}. Received: {unknown}")
    if not model.compiled:
        raise ValueError(
            "`model` should be compiled, with `keras_mtl.rl.ActorCriticLoss` or `keras_mtl.rl.DistralLoss` as loss. "
            "Received: a model that is not compiled"
        )
    losses = {task: model.compiled_tasks.task_losses.losses.get(task) for task in environments}
    for task, loss in losses.items():
        if not isinstance(loss, ActorCriticLoss):
            raise ValueError(
                f"The loss of task '{task}' should be `keras_mtl.rl.ActorCriticLoss` or `keras_mtl.rl.DistralLoss`. "
                f"Received: {loss!r}"
            )
    _check_alpha(model, losses)
    return losses


def _check_alpha(model: MultiTaskModel, losses: Mapping[str, keras.losses.Loss | None]) -> None:
    """Raises where a policy adds to the distilled one by another `alpha` than its loss assumes."""
    for layer in model.layers:
        policy = getattr(layer, "stack", [None])[-1]
        alpha = getattr(losses.get(getattr(layer, "scope", None)), "alpha", None)  # type: ignore[arg-type]
        # Where a policy has one column, it adds nothing to the distilled one.
        if isinstance(policy, DistilledPolicy) and alpha is not None and policy.alpha not in (0, alpha):
            raise ValueError(
                f"The loss of task '{layer.scope}' should have the model's alpha, {policy.alpha:g}. "
                f"Received: alpha={alpha:g}"
            )


def check_environment(task: str, environment: Env, model: MultiTaskModel, loss: keras.losses.Loss | None) -> None:
    """Raises where an environment's actions do not fit the head, or its observations the inputs."""
    actions = environment.action_space
    if not isinstance(actions, gymnasium().spaces.Discrete) or actions.start != 0:
        raise ValueError(
            f"The environment of task '{task}' should have `Discrete` actions that count from 0. Received: {actions}"
        )
    outputs, needed = model.output[task].shape[-1], loss.outputs(int(actions.n))
    if outputs != needed:
        raise ValueError(
            f"The head of task '{task}' should have {needed} outputs for the {actions.n} actions of its environment, "
            f"as `{type(loss).__name__}` reads them. Received: a head with {outputs} outputs"
        )
    observation = environment.observation_space.sample()
    found = {path: np.shape(leaf) for path, leaf in keras.tree.flatten_with_path(observation)}
    expected = {path: tuple(x.shape[1:]) for path, x in keras.tree.flatten_with_path(model.input)}
    if found != expected:
        raise ValueError(
            f"The observations of task '{task}' should have the shapes of the model's inputs, "
            f"{list(expected.values())}. Received: {environment.observation_space}"
        )


class Copies:
    """Copies of a task's environment, stepped side by side.

    Args:
        environment: Name of the environment, or function that makes one.
        copies: Integer. How many.
        seed: Integer, or `None`.

    Attributes:
        size: Integer. How many copies there are.
        observations: What the copies show now: arrays of shape `(copies, ...)`.
        returns: Sums of rewards of the episodes that ended, a list.
        lengths: Their numbers of steps, a list.
        steps: Integer. Steps so far, in all copies.
    """

    def __init__(self, environment: str | Callable[..., Env], copies: int, seed: int | None = None) -> None:
        vector = gymnasium().vector
        self._envs = vector.SyncVectorEnv(
            [lambda: make(environment)] * copies, autoreset_mode=vector.AutoresetMode.SAME_STEP
        )
        self.size = copies
        self.observations, _ = self._envs.reset(seed=seed)
        self.returns, self.lengths, self.steps = [], [], 0
        self._return, self._length = np.zeros(copies), np.zeros(copies, "int64")

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Takes a step in each copy; those whose episode ends start anew.

        Args:
            actions: Integer array of shape `(copies,)`.

        Returns:
            Rewards, whether an episode ended, and whether it was broken off,
            each of shape `(copies,)`; and the observations that followed, as
            they were before the copies started anew.
        """
        after, rewards, terminated, truncated, infos = self._envs.step(actions)
        self._return += rewards
        self._length += 1
        self.steps += self.size
        ended = np.logical_or(terminated, truncated)
        for i in np.flatnonzero(ended):
            self.returns.append(float(self._return[i]))
            self.lengths.append(int(self._length[i]))
        self._return[ended], self._length[ended] = 0, 0
        self.observations = after
        broken_off = np.logical_and(truncated, np.logical_not(terminated))
        if broken_off.any():
            last = infos["final_obs"]
            after = keras.tree.map_structure(np.copy, after)
            for i in np.flatnonzero(broken_off):
                keras.tree.map_structure(lambda whole, one, i=i: whole.__setitem__(i, one), after, last[i])
        return rewards, ended, broken_off, after

    def close(self) -> None:
        """Closes the environments."""
        self._envs.close()
