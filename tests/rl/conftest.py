"""Small environments whose best policies are known."""

import gymnasium
import numpy as np
import pytest


class Choice(gymnasium.Env):
    """One step: action `best` is worth 1, others 0. What it shows does not matter."""

    def __init__(self, best, actions=3, size=2):
        self.best = best
        self.observation_space = gymnasium.spaces.Box(-1, 1, (size,), "float32")
        self.action_space = gymnasium.spaces.Discrete(actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        return self._look(), float(action == self.best), True, False, {}

    def _look(self):
        return np.ones(self.observation_space.shape, "float32")


class Count(gymnasium.Env):
    """Shows how many steps an episode has had; each is worth that number. It ends, or is broken off, after `length`."""

    def __init__(self, length, broken_off=False):
        self.length, self.broken_off = length, broken_off
        self.observation_space = gymnasium.spaces.Box(0, 100, (1,), "float32")
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([0.0], "float32"), {}

    def step(self, action):
        self.count += 1
        over = self.count == self.length
        seen = np.array([self.count], "float32")
        return seen, float(self.count), over and not self.broken_off, over and self.broken_off, {}


@pytest.fixture
def choice():
    return Choice


@pytest.fixture
def count():
    return Count
