"""Potential-based reward shaping."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras_mtl._types import Structure

if TYPE_CHECKING:
    import gymnasium

try:
    import gymnasium
except ImportError as error:
    raise ImportError('Environments need gymnasium: pip install "keras_mtl[rl]"') from error


class PotentialShaping(gymnasium.Wrapper):
    """Adds `discount phi(s') - phi(s)` to the reward of each step.

    The best policies stay the best, whatever the potential: over an episode
    that ends, what is added sums to `-phi(s_0)`, discounted, so
    `Q*` becomes `Q*(s, a) - phi(s)`, which changes no comparison of actions.
    A terminal state counts as 0; an episode that is broken off keeps its
    potential, as the values of its last state do.

    Args:
        env: `gymnasium.Env`.
        potential: Function from the environment to a number, called with the
            unwrapped environment in the state that it is in.
        discount: Float. The same as in training: with another, policies can
            change.

    Raises:
        ValueError: If the potential is not a finite number.

    Example:

    >>> import gymnasium
    >>> lake = gymnasium.make("FrozenLake-v1", is_slippery=False)
    >>> shaped = keras_mtl.rl.PotentialShaping(lake, lambda env: env.s / 15, discount=1.0)
    >>> observation, _ = shaped.reset()
    >>> shaped.step(1)[1]  # one row down, from state 0 to 4
    0.26666666666666666

    References:

    - A. Y. Ng et al., "Policy Invariance Under Reward Transformations", ICML 1999.
    """

    def __init__(self, env: gymnasium.Env, potential: Callable[..., Any], discount: float) -> None:
        super().__init__(env)
        self.potential = potential
        self.discount = discount
        self._before = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        result = self.env.reset(seed=seed, options=options)
        self._before = self._now()
        return result

    def step(self, action: Structure) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        after = 0.0 if terminated else self._now()
        shaped = float(reward) + self.discount * after - self._before
        self._before = after
        return observation, shaped, terminated, truncated, info

    def _now(self) -> float:
        value = float(self.potential(self.unwrapped))
        if not math.isfinite(value):
            raise ValueError(f"`potential` should give a finite number. Received: {value} for {self.unwrapped}")
        return value
