"""Distral in two rooms: does a policy that tasks have in common help them, and tasks to come?

Two rooms of 5 x 5 cells, joined by a corridor of 8. A task is a goal in one room; episodes start anywhere in the other,
so that every path leads through the corridor (Teh et al., NeurIPS 2017, section 4.1). Ten tasks learn soft Q-values in
tables, side by side, and a distilled policy that sees the cell and the last action. The control is the same algorithm
with a uniform policy in the distilled one's place. Then ten new goals are learned, with the distilled policy or the
uniform one, both frozen.

What it shows: how many steps an episode takes, averaged over all episodes of all tasks, which is how fast they learn.
What it does not: the paper says neither how large the rooms are nor what a step costs; here a step costs 0.1 and a goal
is worth 10. `--starts anywhere` also lets episodes start in the goal's room, where the policies have less in common.

    python recipes/two_rooms.py [--quick] [--seeds 5] [--starts other]

Pictures go to runs/two_rooms/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import console, mean_and_spread, output_folder, progress

import gymnasium
import numpy as np
from rich.table import Table

from keras_mtl import rl

ALPHAS = (1.0, 0.8)
TASKS, EPISODES, CAP = 10, 60, 300
BETA, DISCOUNT, RATE = 5.0, 0.95, 0.5
ARMS = {"side by side": ("distilled", "uniform"), "new": ("transferred", "from uniform")}
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right


class TwoRooms(gymnasium.Env):
    """Two rooms and a corridor; moves into walls leave the agent where it is.

    Args:
        goal: Integer. Index among the cells of the rooms.
        starts: `"other"`, for starts in the other room than the goal's, or
            `"anywhere"` in the rooms.
    """

    def __init__(self, goal, starts="other", size=5, corridor=8, step=-0.1, reward=10.0):
        width = 2 * size + corridor
        self.free = np.zeros((size, width), bool)
        self.free[:, :size] = self.free[:, -size:] = self.free[size // 2] = True
        self.cells = np.argwhere(self.free)
        index = {tuple(cell): i for i, cell in enumerate(self.cells)}
        moved = [[index.get((y + dy, x + dx), i) for dy, dx in MOVES] for i, (y, x) in enumerate(self.cells)]
        self.after = np.array(moved)
        rooms = np.flatnonzero((self.cells[:, 1] < size) | (self.cells[:, 1] >= width - size))
        self.goal = int(rooms[goal])
        left = self.cells[:, 1] < width // 2
        fit = [i for i in rooms if (left[i] != left[self.goal] if starts == "other" else i != self.goal)]
        self.starts = np.array(fit)
        self.rewards = (step, reward)
        self.observation_space = gymnasium.spaces.Discrete(len(self.cells))
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.choice(self.starts))
        return self.state, {}

    def step(self, action):
        self.state = int(self.after[self.state, action])
        done = self.state == self.goal
        return self.state, self.rewards[done], done, False, {}


def learn(goals, prior, alpha, seed, starts, episodes):
    """Learns tasks side by side: steps of shape `(episodes, tasks)`, and the learner."""
    environments = [TwoRooms(goal, starts) for goal in goals]
    states, actions = environments[0].observation_space.n, len(MOVES)
    learner = rl.TabularDistral(
        len(goals),
        states,
        actions,
        alpha=alpha,
        beta=BETA,
        discount=DISCOUNT,
        learning_rate=RATE,
        prior=prior,
        seed=seed,
    )
    for i, environment in enumerate(environments):
        environment.reset(seed=1000 * seed + i)
    rounds = [[learner.episode(i, one, CAP)[0] for i, one in enumerate(environments)] for _ in range(episodes)]
    return np.array(rounds), learner


def study(alpha, seed, starts="other", tasks=TASKS, episodes=EPISODES):
    """Steps of each episode, averaged over tasks: a dict from arm to an array, and the learner of the first arm."""
    goals = np.random.default_rng(seed).permutation(50)[: 2 * tasks]
    uniform = np.full((len(TwoRooms(0).cells), len(MOVES) + 1, len(MOVES)), 1 / len(MOVES))
    first, later = goals[:tasks], goals[tasks:]
    steps = {}
    steps["distilled"], learner = learn(first, None, alpha, seed, starts, episodes)
    steps["uniform"], _ = learn(first, uniform, alpha, seed, starts, episodes)
    steps["transferred"], _ = learn(later, learner.prior, alpha, seed + 1, starts, episodes)
    steps["from uniform"], _ = learn(later, uniform, alpha, seed + 1, starts, episodes)
    return {arm: found.mean(-1) for arm, found in steps.items()}, learner


def ratios(steps):
    """Joint and transfer ratio: mean steps with the distilled policy over those with the uniform one."""
    joint = steps["distilled"].mean() / steps["uniform"].mean()
    return joint, steps["transferred"].mean() / steps["from uniform"].mean()


def report(found, seeds):
    """Prints mean steps and ratios."""
    table = Table(title=f"Mean steps of an episode, {len(seeds)} seeds", title_justify="left")
    table.add_column("alpha", justify="right")
    table.add_column("tasks")
    for column in ("distilled", "uniform", "ratio"):
        table.add_column(column, justify="right")
    for alpha, runs in found.items():
        means = {arm: np.array([steps[arm].mean() for steps in runs]) for arm in runs[0]}
        for tasks, (ours, control) in ARMS.items():
            ratio = mean_and_spread(means[ours] / means[control], digits=2)
            table.add_row(f"{alpha:g}", tasks, mean_and_spread(means[ours]), mean_and_spread(means[control]), ratio)
    console.print(table)


def draw_curves(found, path):
    """Steps over episodes, mean and range over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 2, sharex=True, sharey=True, squeeze=False)
    for row, (alpha, runs) in zip(axes, found.items(), strict=True):
        for axis, (tasks, pair) in zip(row, ARMS.items(), strict=True):
            for i, arm in enumerate(pair):
                curves = np.array([steps[arm] for steps in runs])
                episodes = np.arange(1, curves.shape[1] + 1)
                axis.plot(episodes, curves.mean(0), color=f"C{i}", label=arm)
                axis.fill_between(episodes, curves.min(0), curves.max(0), color=f"C{i}", alpha=0.2)
            axis.set_title(f"alpha = {alpha:g}: {tasks}")
            axis.legend(title="policy to pull to")
        row[0].set_ylabel("steps of an episode")
    for axis in axes[-1]:
        axis.set_xlabel("episode")
    figure.savefig(path, dpi=120)


def draw_policy(learner, path):
    """The distilled policy as arrows: after a move to the right, and after one to the left."""
    from matplotlib.figure import Figure

    rooms = TwoRooms(0)
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    for axis, (move, name) in zip(figure.subplots(2, 1), ((3, "right"), (2, "left")), strict=True):
        axis.imshow(rooms.free, cmap="gray", vmin=-1, vmax=1)
        for state, (y, x) in enumerate(rooms.cells):
            for (dy, dx), p in zip(MOVES, learner.prior[state, move], strict=True):
                if p > 0.3:
                    axis.annotate(
                        "",
                        xy=(x + 0.45 * dx, y + 0.45 * dy),
                        xytext=(x, y),
                        arrowprops={"arrowstyle": "->", "lw": 3 * p, "color": "C0", "shrinkA": 0, "shrinkB": 0},
                    )
        axis.set_title(f"the distilled policy after a move to the {name} (actions above 30 %)")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, ten episodes: shows that it runs, nothing else")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--starts", choices=("other", "anywhere"), default="other")
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    episodes = 10 if options.quick else EPISODES
    found = {alpha: [] for alpha in ALPHAS}
    with progress("studies") as bar:
        row = bar.add_task("", total=len(ALPHAS) * len(seeds))
        for alpha in ALPHAS:
            for seed in seeds:
                bar.update(row, description=f"alpha {alpha:g}, seed {seed}")
                steps, learner = study(alpha, seed, options.starts, episodes=episodes)
                found[alpha].append(steps)
                if alpha == ALPHAS[0] and seed == seeds[0]:
                    kept = learner
                bar.advance(row)
    report(found, seeds)
    folder = output_folder("two_rooms" if not options.quick else "two_rooms-quick")
    draw_curves(found, folder / "curves.png")
    draw_policy(kept, folder / "policy.png")
    console.print(f"Pictures: {folder}", soft_wrap=True)


if __name__ == "__main__":
    main()
