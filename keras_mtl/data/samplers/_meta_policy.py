"""A small recurrent actor-critic in NumPy.

It decides between two steps of a training loop, thousands of times, on a few
dozen numbers: an operation in a graph would cost more than the whole of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl._types import Tensor


class MetaPolicy:
    """LSTM with a softmax policy and a value, trained by advantage actor-critic.

    The loss of a segment of `horizon` decisions is the sum over them of
    `-A_t log pi(a_t) + 0.5 (R_t - V_t)^2 - 0.01 H(pi)`, with the discounted
    return `R_t` and `A_t = R_t - V_t`, propagated back through the segment.

    Args:
        inputs: Integer. Size of what it sees.
        actions: Integer.
        units: Integer. Of the LSTM.
        learning_rate: Float. Of Adam.
        horizon: Integer. Decisions between two updates.
        seed: Integer.
        discount: Float. Of rewards. Defaults to `0.9`.
        entropy: Float. Defaults to `0.01`.
    """

    def __init__(
        self,
        inputs: int,
        actions: int,
        units: int,
        learning_rate: float,
        horizon: int,
        seed: int,
        discount: float = 0.9,
        entropy: float = 0.01,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.units, self.horizon = units, horizon
        self.learning_rate, self.discount, self.entropy = learning_rate, discount, entropy
        fan_in = inputs + units
        self.weights = {
            "gates": rng.normal(size=(fan_in, 4 * units)) / np.sqrt(fan_in),
            "gates_bias": np.repeat([0.0, 1.0, 0.0, 0.0], units),  # in, forget, out, new
            "policy": 0.01 * rng.normal(size=(units, actions)),  # nearly uniform at first
            "policy_bias": np.zeros(actions),
            "value": 0.01 * rng.normal(size=units),
            "value_bias": np.zeros(()),
        }
        self._moments = {name: np.zeros((2, *w.shape)) for name, w in self.weights.items()}
        self._updates = 0
        self._hidden, self._cell = np.zeros((2, units))
        self._start = (self._hidden, self._cell)
        self._seen, self._actions, self._rewards = [], [], []

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Sees an observation and decides.

        Returns:
            Probabilities of the actions.
        """
        self._seen.append(np.asarray(observation, "float64"))
        self._hidden, self._cell, _ = self._step(self._seen[-1], self._hidden, self._cell)
        return _softmax(self._hidden @ self.weights["policy"] + self.weights["policy_bias"])

    def learn(self, action: int, reward: float) -> None:
        """Is told which action followed the last `act`, and what it paid."""
        self._actions.append(int(action))
        self._rewards.append(float(reward))
        if len(self._rewards) < self.horizon:
            return
        # The value of where the segment ends stands for the rewards to come.
        ahead = float(self._hidden @ self.weights["value"] + self.weights["value_bias"])
        returns = np.zeros(self.horizon)
        for t in reversed(range(self.horizon)):
            ahead = returns[t] = self._rewards[t] + self.discount * ahead
        self._adam(self.gradients(self._seen, self._actions, returns, self._start)[1])
        self._start = (self._hidden, self._cell)
        self._seen, self._actions, self._rewards = [], [], []

    def gradients(
        self, seen: Sequence[Tensor], actions: Sequence[int], returns: np.ndarray, start: tuple[np.ndarray, np.ndarray]
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Loss of a segment and its gradients.

        Args:
            seen: List of observations.
            actions: List of integers.
            returns: Array of discounted returns.
            start: Pair of hidden and cell state.

        Returns:
            Pair of the loss and a dict of arrays. The advantages count as
            constants.
        """
        hidden, cell = start
        steps, loss = [], 0.0
        for observation, action, target in zip(seen, actions, returns, strict=True):
            hidden, cell, kept = self._step(observation, hidden, cell)
            policy = _softmax(hidden @ self.weights["policy"] + self.weights["policy_bias"])
            value = hidden @ self.weights["value"] + self.weights["value_bias"]
            logs = np.log(policy)
            # d/dlogits of -A log pi(a) and of the entropy, d/dvalue of the squared error
            to_logits = (target - value) * (policy - np.eye(len(policy))[action])
            to_logits += self.entropy * policy * (logs - policy @ logs)
            loss += -(target - value) * logs[action] + 0.5 * (target - value) ** 2 + self.entropy * policy @ logs
            steps.append((kept, hidden, to_logits, value - target))
        found = {name: np.zeros_like(w) for name, w in self.weights.items()}
        to_hidden = to_cell = np.zeros(self.units)
        for kept, hidden, to_logits, to_value in reversed(steps):
            found["policy"] += np.outer(hidden, to_logits)
            found["policy_bias"] += to_logits
            found["value"] += to_value * hidden
            found["value_bias"] += to_value
            to_hidden = to_hidden + self.weights["policy"] @ to_logits + to_value * self.weights["value"]
            to_hidden, to_cell = self._step_back(kept, to_hidden, to_cell, found)
        return float(loss), found

    def _step(
        self, observation: np.ndarray, hidden: np.ndarray, cell: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        both = np.concatenate([observation, hidden])
        gates = both @ self.weights["gates"] + self.weights["gates_bias"]
        enter, keep, leave = np.split(1 / (1 + np.exp(-gates[: 3 * self.units])), 3)
        new = np.tanh(gates[3 * self.units :])
        after = keep * cell + enter * new
        return leave * np.tanh(after), after, (both, enter, keep, leave, new, cell, after)

    def _step_back(
        self, kept: Sequence[np.ndarray], to_hidden: np.ndarray, to_cell: np.ndarray, found: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        both, enter, keep, leave, new, cell, after = kept
        squashed = np.tanh(after)
        to_cell = to_cell + to_hidden * leave * (1 - squashed**2)
        to_gates = np.concatenate(
            [
                to_cell * new * enter * (1 - enter),
                to_cell * cell * keep * (1 - keep),
                to_hidden * squashed * leave * (1 - leave),
                to_cell * enter * (1 - new**2),
            ]
        )
        found["gates"] += np.outer(both, to_gates)
        found["gates_bias"] += to_gates
        return (self.weights["gates"] @ to_gates)[-self.units :], to_cell * keep

    def _adam(self, gradients: Mapping[str, np.ndarray]) -> None:
        self._updates += 1
        for name, gradient in gradients.items():
            first, second = self._moments[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            rate = self.learning_rate * np.sqrt(1 - 0.999**self._updates) / (1 - 0.9**self._updates)
            self.weights[name] = self.weights[name] - rate * first / (np.sqrt(second) + 1e-8)

    def get_state(self) -> dict[str, Any]:
        """All that `set_state` needs, fit for JSON."""
        return {
            "weights": {name: w.tolist() for name, w in self.weights.items()},
            "moments": {name: m.tolist() for name, m in self._moments.items()},
            "updates": self._updates,
            "state": [self._hidden.tolist(), self._cell.tolist()],
            "start": [part.tolist() for part in self._start],
            "segment": [[o.tolist() for o in self._seen], self._actions, self._rewards],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes back to an earlier state."""
        self.weights = {name: np.array(w) for name, w in state["weights"].items()}
        self._moments = {name: np.array(m) for name, m in state["moments"].items()}
        self._updates = state["updates"]
        self._hidden, self._cell = (np.array(part) for part in state["state"])
        self._start = tuple(np.array(part) for part in state["start"])
        seen, self._actions, self._rewards = (list(part) for part in state["segment"])
        self._seen = [np.array(o) for o in seen]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
