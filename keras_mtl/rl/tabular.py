"""Distral in tables: soft Q-learning of several tasks with a distilled policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import gymnasium


def soft_values(q: np.ndarray, prior: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """The soft value of a state: `V(s) = 1/beta log sum_a prior(a|s)^alpha exp(beta Q(s, a))`.

    Args:
        q: Array of shape `(..., actions)`. Soft Q-values.
        prior: Array of the same shape. The distilled policy `pi_0(a|s)`.
        alpha: Float from 0 to 1. Share of the KL term in the regularization.
        beta: Float above 0. Inverse strength of the regularization.

    Returns:
        Array of shape `(...)`.

    Example:

    >>> float(keras_mtl.rl.soft_values(np.array([1.0, 0.0]), np.array([0.5, 0.5]), alpha=1.0, beta=5.0).round(4))
    0.8627
    """
    logits = alpha * np.log(prior) + beta * q
    top = logits.max(-1)
    return (top + np.log(np.exp(logits - top[..., None]).sum(-1))) / beta


def soft_policy(q: np.ndarray, prior: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """The policy that goes with soft Q-values: `pi(a|s) = prior(a|s)^alpha exp(beta (Q(s, a) - V(s)))`.

    Args:
        q: Array of shape `(..., actions)`. Soft Q-values.
        prior: Array of the same shape. The distilled policy `pi_0(a|s)`.
        alpha: Float from 0 to 1. Share of the KL term in the regularization.
        beta: Float above 0. Inverse strength of the regularization.

    Returns:
        Array of the same shape, with sum 1 over the actions.

    Example:

    >>> keras_mtl.rl.soft_policy(np.zeros(2), np.array([0.2, 0.8]), alpha=1.0, beta=5.0)
    array([0.2, 0.8])
    """
    logits = alpha * np.log(prior) + beta * q
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


class TabularDistral:
    """Soft Q-learning of several tasks, held together by one distilled policy.

    The tasks maximize
    `sum_i E[sum_t discount^t (R_i + alpha/beta log pi_0(a|s) - 1/beta log pi_i(a|s))]`.
    For each task, `Q_i(s, a) <- Q_i + rate (r + discount V_i(s') - Q_i)` with
    the soft value `V_i`, and the agent acts by the soft policy `pi_i`. The
    distilled policy maximizes `sum_i E[sum_t discount^t log pi_0(a|s)]`: in a
    table, these are normalized discounted visit counts.

    Args:
        tasks: Integer. How many tasks there are.
        states: Integer. How many states they have.
        actions: Integer. How many actions they have.
        alpha: Float from 0 to 1. `c_KL / (c_KL + c_Ent)`: 1 pulls policies to
            the distilled one, 0 only keeps their entropy up. Defaults to `1`.
        beta: Float above 0. `1 / (c_KL + c_Ent)`. Defaults to `5`.
        discount: Float from 0 to 1. Defaults to `0.95`.
        learning_rate: Float. Defaults to `0.5`.
        prior: `None`, or an array of shape `(states, actions + 1, actions)`
            for a distilled policy that stays as it is. Defaults to `None`: it
            starts uniform and is learned.
        smoothing: Float. What every action's count starts from. Defaults to
            `1`.
        seed: Integer. Seed of the actions. Defaults to `None`.

    Attributes:
        q: Array of shape `(tasks, states, actions)`.
        prior: Array of shape `(states, actions + 1, actions)`. The distilled
            policy given the state and the previous action; the index
            `actions` stands for "none", as at the start of an episode.

    Raises:
        ValueError: If an option is out of range or `prior` is no such array of
            positive probabilities.

    References:

    - Y. W. Teh et al., "Distral: Robust Multitask Reinforcement Learning", NeurIPS 2017.

    Deviations: the distilled policy sees the state and the previous action,
    the tasks' Q-values the state alone. Counts start from `smoothing`, so that
    no probability is 0.

    Example:

    >>> import gymnasium
    >>> lake = gymnasium.make("FrozenLake-v1", is_slippery=False)
    >>> learner = keras_mtl.rl.TabularDistral(tasks=1, states=16, actions=4, seed=0)
    >>> steps, total = learner.episode(0, lake, max_steps=100)
    >>> learner.prior.shape
    (16, 5, 4)
    """

    def __init__(
        self,
        tasks: int,
        states: int,
        actions: int,
        *,
        alpha: float = 1.0,
        beta: float = 5.0,
        discount: float = 0.95,
        learning_rate: float = 0.5,
        prior: npt.ArrayLike | None = None,
        smoothing: float = 1.0,
        seed: int | None = None,
    ) -> None:
        check_regularization(alpha, beta)
        if not smoothing > 0:
            raise ValueError(f"`smoothing` should be above 0. Received: smoothing={smoothing!r}")
        self.alpha, self.beta = alpha, beta
        self.discount, self.learning_rate = discount, learning_rate
        self.q = np.zeros((tasks, states, actions))
        self.learns_prior = prior is None
        self._counts = np.full((states, actions + 1, actions), float(smoothing))
        self.prior = np.full_like(self._counts, 1 / actions) if prior is None else self._checked_prior(prior)
        self._rng = np.random.default_rng(seed)

    def _checked_prior(self, prior: npt.ArrayLike | None) -> np.ndarray:
        prior = np.asarray(prior, "float64")
        if prior.shape != self._counts.shape or not (prior > 0).all() or not np.allclose(prior.sum(-1), 1):
            raise ValueError(
                f"`prior` should hold positive probabilities of shape {self._counts.shape} that sum to 1 over the last "
                f"axis. Received: an array of shape {prior.shape} with values from {prior.min():g} to {prior.max():g}"
            )
        return prior

    def policy(self, task: int, state: int, previous: int) -> np.ndarray:
        """Probabilities of a task's actions, of shape `(actions,)`.

        Args:
            task: Integer. Index of the task.
            state: Integer.
            previous: Integer. The action before; `actions` for none.
        """
        return soft_policy(self.q[task, state], self.prior[state, previous], self.alpha, self.beta)

    def episode(
        self, task: int, environment: gymnasium.Env, max_steps: int, seed: int | None = None
    ) -> tuple[int, float]:
        """Learns from one episode.

        Args:
            task: Integer. Index of the task.
            environment: `gymnasium.Env` whose states and actions are numbers.
            max_steps: Integer. Where the episode is broken off.
            seed: Integer. Seed of the environment. Defaults to `None`.

        Returns:
            Tuple of the number of steps and the sum of rewards.
        """
        actions, q = self.q.shape[-1], self.q[task]
        self._check(environment, task)
        state, _ = environment.reset(seed=seed)
        previous, total, weight, steps = actions, 0.0, 1.0, 0
        while steps < max_steps:
            cumulative = np.cumsum(self.policy(task, state, previous))
            action = min(int(np.searchsorted(cumulative, self._rng.random())), actions - 1)
            after, reward, terminated, truncated, _ = environment.step(action)
            value = 0.0
            if not terminated:
                value = soft_values(q[after], self.prior[after, action], self.alpha, self.beta)
            q[state, action] += self.learning_rate * (reward + self.discount * value - q[state, action])
            if self.learns_prior:
                counts = self._counts[state, previous]
                counts[action] += weight
                self.prior[state, previous] = counts / counts.sum()
            state, previous, total, weight = after, action, total + reward, weight * self.discount
            steps += 1
            if terminated or truncated:
                break
        return steps, total

    def _check(self, environment: gymnasium.Env, task: int) -> None:
        found = [getattr(space, "n", None) for space in (environment.observation_space, environment.action_space)]
        expected = list(self.q.shape[1:])
        if found != expected:
            raise ValueError(
                f"The environment of task {task} should have {expected[0]} states and {expected[1]} actions, as "
                f"`Discrete` spaces. Received: {environment.observation_space} and {environment.action_space}"
            )


def check_regularization(alpha: float, beta: float) -> None:
    """Raises where the weights of the KL and entropy terms are out of range."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` should be from 0 to 1. Received: alpha={alpha!r}")
    if not beta > 0:
        raise ValueError(f"`beta` should be above 0. Received: beta={beta!r}")
