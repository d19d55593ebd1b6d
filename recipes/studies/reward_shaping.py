"""Shaping rewards by a potential: what it changes about learning, and what it leaves as it is.

About a minute on one core, ten seconds with --quick; needs the package gymnasium.

The two rooms of `two_rooms.py`, with one goal in a far corner, worth 1, and no cost of steps: the first episodes find
it by chance. Three rewards: the environment's own; with a potential, `gamma phi(s') - phi(s)`, where phi is what the
goal would be worth if there were no walls; and with a bonus that is no potential, 0.2 for every step that comes nearer,
and nothing for one that leads away (Ng et al., ICML 1999).

What it shows: with value iteration, which is exact, that the potential moves Q* by -phi and leaves every best action
best, and that the bonus does not; with Q-learning, what both do to the number of steps until the goal. What it does
not: a potential that leads the wrong way would leave the best policy as it is, too, and slow down learning.

    python recipes/studies/reward_shaping.py [--quick] [--seeds 5]
"""

import parent  # noqa: F401
from common import command_line, console, study

import gymnasium
import numpy as np
from data.rooms import TwoRooms

from keras_mtl import rl

DISCOUNT, RATE, EXPLORE = 0.95, 0.5, 0.1
EPISODES, CAP = 60, 1000
ARMS = ("as it is", "potential", "bonus")
BONUS = 0.2


class NearerBonus(gymnasium.Wrapper):
    """Adds a bonus to steps that come nearer to the goal: no potential, since going away costs nothing."""

    def step(self, action):
        before = distance(self.unwrapped, self.unwrapped.state)
        seen, reward, terminated, truncated, info = self.env.step(action)
        nearer = distance(self.unwrapped, self.unwrapped.state) < before
        return seen, reward + BONUS * nearer, terminated, truncated, info


def distance(rooms, state):
    """Steps to the goal if there were no walls."""
    return int(np.abs(rooms.cells[state] - rooms.cells[rooms.goal]).sum())


def worth(rooms):
    """The potential: what the goal is worth from here if there were no walls."""
    return DISCOUNT ** (distance(rooms, rooms.state) - 1)


def make(arm):
    """The rooms with a goal in the far corner, and the rewards of an arm."""
    rooms = TwoRooms(goal=49, step=0.0, reward=1.0)
    if arm == "potential":
        return rl.PotentialShaping(rooms, worth, DISCOUNT)
    return NearerBonus(rooms) if arm == "bonus" else rooms


def best_values(arm):
    """Q* by value iteration on steps that the arm's environment really takes, of shape `(states, actions)`."""
    environment = make(arm)
    rooms = environment.unwrapped
    states, actions = rooms.after.shape
    rewards, go_on = np.zeros((states, actions)), np.ones((states, actions))
    for state in range(states):
        for action in range(actions):
            environment.reset()
            rooms.state = state
            if arm == "potential":
                environment._before = worth(rooms)
            _, rewards[state, action], terminated, _, _ = environment.step(action)
            go_on[state, action] = not terminated
    q = np.zeros((states, actions))
    for _ in range(1000):
        q = rewards + DISCOUNT * go_on * q.max(-1)[rooms.after]
    return np.delete(q, rooms.goal, axis=0)


def exact():
    """How the arms change Q* and the best actions: dict from arm to numbers."""
    rooms, plain = TwoRooms(goal=49), best_values("as it is")
    potentials = np.array([DISCOUNT ** (distance(rooms, s) - 1) for s in range(len(rooms.cells)) if s != rooms.goal])
    found = {}
    for arm in ARMS[1:]:
        q = best_values(arm)
        best = q > q.max(-1, keepdims=True) - 1e-9
        # An action that the shaped rewards call best has to be one of the best.
        wrong = best & (plain < plain.max(-1, keepdims=True) - 1e-9)
        moved = np.abs(q - (plain - potentials[:, None])).max()
        found[arm] = {"moved": float(moved), "wrong": int(wrong.any(-1).sum()), "reached": reached(q)}
    return found


def reached(q):
    """From what share of the cells the best actions lead to the goal."""
    rooms = TwoRooms(goal=49)
    best = np.insert(q.argmax(-1), rooms.goal, 0)
    states = np.delete(np.arange(len(rooms.cells)), rooms.goal)
    arrived = np.zeros(len(states), bool)
    for _ in range(len(rooms.cells)):
        states = np.where(arrived, states, rooms.after[states, best[states]])
        arrived |= states == rooms.goal
    return float(arrived.mean())


def learn(arm, seed, episodes):
    """Q-learning: the steps of each episode until the goal."""
    environment, rng = make(arm), np.random.default_rng(seed)
    q = np.zeros(environment.unwrapped.after.shape)
    lengths = []
    for episode in range(episodes):
        state, _ = environment.reset(seed=seed if episode == 0 else None)
        steps, terminated = 0, False
        while steps < CAP and not terminated:
            greedy = rng.choice(np.flatnonzero(q[state] == q[state].max()))
            action = int(rng.integers(4)) if rng.random() < EXPLORE else int(greedy)
            after, reward, terminated, _, _ = environment.step(action)
            target = reward + (0.0 if terminated else DISCOUNT * q[after].max())
            q[state, action] += RATE * (target - q[state, action])
            state, steps = after, steps + 1
        lengths.append(steps)
    return np.array(lengths)


def main():
    options = command_line(__file__, __doc__, models=ARMS)
    episodes = 5 if options.quick else EPISODES
    for arm, numbers in exact().items():
        console.print(
            f"{arm}: Q* differs from Q* - phi by up to {numbers['moved']:.1e}; an action that is not best is called so "
            f"in {numbers['wrong']} cells; the goal is reached from {numbers['reached']:.0%} of them"
        )

    def run(arm, seed, callbacks):
        steps = learn(arm, seed, episodes)
        return {"first": steps[:10].mean(), "last": steps[-10:].mean(), "steps": steps}

    scores = {"first": "first 10 episodes", "last": "last 10 episodes"}
    how = {"reference": ARMS[0], "lower": True, "digits": 0, "gain": False, "logs": False}
    how |= {"along": {"steps": f"steps until the goal, at most {CAP:,}"}}
    how |= {"axes": {"xlabel": "episode", "middle": np.ma.median, "yscale": "log"}}
    study(run, options, scores, title="Steps until the goal, by Q-learning", **how)


if __name__ == "__main__":
    main()
