"""Distral in two rooms: does a policy that tasks have in common help them, and tasks to come?

About five minutes on one core, ten seconds with --quick; needs the package gymnasium.

Two rooms of 5 x 5 cells, joined by a corridor of 8. A task is a goal in one room; episodes start anywhere in the other,
so that every path leads through the corridor (Teh et al., NeurIPS 2017, section 4.1). Ten tasks learn soft Q-values in
tables, side by side, and a distilled policy that sees the cell and the last action, or a uniform policy in its place.
Then ten new goals are learned, with the distilled policy or the uniform one, both frozen.

What it shows: how many steps an episode takes, over all episodes of all tasks. What it does not: the paper says neither
how large the rooms are nor what a step costs; here a step costs 0.1 and a goal is worth 10. `--starts anywhere` also
lets episodes start in the goal's room, where the policies have less in common.

    python recipes/studies/two_rooms.py [--quick] [--seeds 5] [--starts other]
"""

import parent  # noqa: F401
from common import command_line, new_figure, study

import numpy as np
from data.rooms import MOVES, TwoRooms

from keras_mtl import rl

ALPHAS = {"alpha 1": 1.0, "alpha 0.8": 0.8}
TASKS, EPISODES, CAP = 10, 60, 300
BETA, DISCOUNT, RATE = 5.0, 0.95, 0.5
ARMS = {
    "distilled": "side by side, distilled",
    "uniform": "uniform",
    "transferred": "new, distilled",
    "from uniform": "new, uniform",
}


def learn(goals, prior, alpha, seed, starts, episodes):
    """Learns tasks side by side: steps of shape `(episodes, tasks)`, and the learner."""
    environments = [TwoRooms(goal, starts) for goal in goals]
    states, actions = environments[0].observation_space.n, len(MOVES)
    how = {"alpha": alpha, "beta": BETA, "discount": DISCOUNT, "learning_rate": RATE}
    learner = rl.TabularDistral(len(goals), states, actions, **how, prior=prior, seed=seed)
    for i, environment in enumerate(environments):
        environment.reset(seed=1000 * seed + i)
    rounds = [[learner.episode(i, one, CAP)[0] for i, one in enumerate(environments)] for _ in range(episodes)]
    return np.array(rounds), learner


def play(alpha, seed, starts="other", tasks=TASKS, episodes=EPISODES):
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


def draw_policy(learner, path):
    """The distilled policy as arrows: after a move to the right, and after one to the left."""
    rooms = TwoRooms(0)
    figure = new_figure(9, 5.4)
    for axis, (move, name) in zip(figure.subplots(2, 1), ((3, "right"), (2, "left")), strict=True):
        axis.imshow(rooms.free, cmap="gray", vmin=-1, vmax=1)
        for state, (y, x) in enumerate(rooms.cells):
            for (dy, dx), p in zip(MOVES, learner.prior[state, move], strict=True):
                if p > 0.3:
                    arrow = {"arrowstyle": "->", "lw": 3 * p, "color": "C0", "shrinkA": 0, "shrinkB": 0}
                    axis.annotate("", xy=(x + 0.45 * dx, y + 0.45 * dy), xytext=(x, y), arrowprops=arrow)
        axis.set_title(f"the distilled policy after a move to the {name} (actions above 30 %)")
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=120)


def main():
    starts = (("other", "anywhere"), "the room in which episodes start")
    options = command_line(__file__, __doc__, models=ALPHAS, starts=starts)
    episodes = 10 if options.quick else EPISODES

    def run(name, seed, callbacks):
        steps, learner = play(ALPHAS[name], seed, options.starts, episodes=episodes)
        if (name, seed) == (options.models[0], options.seeds[0]):
            draw_policy(learner, options.folder / "policy.png")
        joint, transfer = ratios(steps)
        means = {arm: of_arm.mean() for arm, of_arm in steps.items()}
        return {**means, "joint": joint, "transfer": transfer, **{f"{arm} curve": steps[arm] for arm in ARMS}}

    scores = {**ARMS, "joint": "ratio, side by side", "transfer": "ratio, new"}
    how = {"digits": {"joint": 2, "transfer": 2}, "logs": False}
    how |= {"along": {f"{arm} curve": words for arm, words in ARMS.items()}, "axes": {"xlabel": "episode"}}
    study(run, options, scores, title="Mean steps of an episode", **how)


if __name__ == "__main__":
    main()
