"""Policies for three MiniGrid environments: one trunk, columns of their own, or a distilled policy?

An empty room, a gap in a wall of lava, and a door with its key, all seen through the same 7 x 7 window, with the same
seven actions, and worth something at the green goal only. Actor-critics with clipped losses, the same layers and as
many steps of the environments in each arm:

- single-task: every environment has its own columns and head;
- hard sharing: one trunk, a head for each environment;
- Distral: columns of their own, whose policies add to a distilled one (Teh et al., NeurIPS 2017);
- drawn: one trunk, and each rollout is of one environment, drawn with equal probability;
- A5C: the same, but environments come the more often the further their returns are from 0.95 (Sharma et al., 2018).

What it shows: how fast each arm learns, over seeds, and what the policies look like. What it does not: a few ten
thousand steps and three rooms say little about larger worlds, and no arm was tuned by itself.

    python recipes/minigrid_policies.py [--quick] [--seeds 5] [--epochs 12]

Curves, animations of the policies with one trunk, and logs for TensorBoard go to runs/minigrid_policies/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

from common import ProgressOfFit, console, mean_and_spread, output_folder, progress, seeds_tell_apart

import gymnasium
import keras
import numpy as np
from rich.table import Table

import keras_mtl
from keras_mtl import rl

NAMES = {
    "empty": "MiniGrid-Empty-Random-6x6-v0",
    "lava": "MiniGrid-LavaGapS5-v0",
    "door": "MiniGrid-DoorKey-5x5-v0",
}
ARMS = ("single-task", "hard sharing", "Distral", "drawn", "A5C")
ACTIONS = 7
ALPHA, BETA = 0.9, 100.0
ROLLOUTS, COPIES, HORIZON = 6, 16, 32


def make(name, **options):
    """An environment of MiniGrid that shows its window, with ones for the object, color and state of each cell."""
    import minigrid  # noqa: F401 (it makes its environments known to gymnasium)
    from minigrid.wrappers import ImgObsWrapper, OneHotPartialObsWrapper

    return ImgObsWrapper(OneHotPartialObsWrapper(gymnasium.make(name, **options)))


ENVIRONMENTS = {task: (lambda name=name: make(name)) for task, name in NAMES.items()}


def build(arm):
    """A compiled model of an arm."""
    layers = keras.layers
    stages = [
        [layers.Conv2D(16, 2, activation="relu"), layers.MaxPooling2D(2)],
        [layers.Conv2D(32, 2, activation="relu"), layers.Flatten()],
        [layers.Dense(64, activation="tanh")],
    ]
    heads = {task: layers.Dense(ACTIONS + 1) for task in NAMES}
    inputs = keras.Input((7, 7, 20))
    if arm == "Distral":
        model, loss = rl.distral(inputs, stages, heads, alpha=ALPHA), rl.DistralLoss(ALPHA, BETA, clip=0.2)
    else:
        depth = 0 if arm == "single-task" else None
        model = keras_mtl.hard_sharing(inputs, stages, heads, shared_depth=depth)
        loss = rl.ActorCriticLoss(entropy_weight=0.02, clip=0.2)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=0.5), loss=loss, jit_compile=False)
    return model


def run(arm, seed, epochs, callbacks=(), rollouts=ROLLOUTS):
    """Trains an arm: the model and its history."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = build(arm)
    sampler = {
        "drawn": "uniform",
        "A5C": keras_mtl.data.A5C(dict.fromkeys(NAMES, 0.95), monitor="{task}_return", temperature=0.3, minimum=0.1),
    }.get(arm)
    history = rl.train(
        model,
        ENVIRONMENTS,
        epochs=epochs,
        rollouts_per_epoch=rollouts * (1 if sampler is None else len(NAMES)),
        copies=COPIES,
        horizon=HORIZON,
        passes=4,
        minibatches=4,
        sampler=sampler,
        callbacks=list(callbacks),
        seed=seed,
    )
    return model, history.history


def report(scores, learning, seeds):
    """Prints returns over training and at the end, and which differences the seeds can show."""
    table = Table(title=f"Mean return, {len(seeds)} seeds: over training, and at the end", title_justify="left")
    table.add_column("arm")
    for task in NAMES:
        table.add_column(task, justify="right")
        table.add_column("end", justify="right")
    for arm in learning:
        cells = []
        for task in NAMES:
            cells += [mean_and_spread(learning[arm][task], digits=2), mean_and_spread(scores[arm][task], digits=2)]
        table.add_row(arm, *cells)
    console.print(table)
    if len(seeds) < 3:
        return
    means = {arm: np.mean([learning[arm][task] for task in NAMES], axis=0) for arm in learning}
    for arm, control in (("hard sharing", "single-task"), ("Distral", "single-task"), ("A5C", "drawn")):
        known = "told apart" if seeds_tell_apart(means[arm], means[control], 3) else "not told apart"
        console.print(
            f"{arm} against {control}, all environments over training: {mean_and_spread(means[arm], 2)} and "
            f"{mean_and_spread(means[control], 2)}, {known} by Welch's test"
        )


def draw(curves, path):
    """Returns over steps of the environment, mean and range over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    for axis, task in zip(figure.subplots(1, len(NAMES), sharey=True), NAMES, strict=True):
        for i, (arm, runs) in enumerate(curves.items()):
            # An epoch in which no episode ended has no return.
            returns = np.ma.masked_invalid([history[f"{task}_return"] for history in runs])
            # Where environments are drawn, seeds differ in how often: what is the same is the number of all steps.
            total = np.sum([runs[0][f"{other}_steps"] for other in NAMES], axis=0)
            axis.plot(total, returns.mean(0), color=f"C{i}", label=arm)
            axis.fill_between(total, returns.min(0), returns.max(0), color=f"C{i}", alpha=0.12)
        axis.set_title(f"{task}: {NAMES[task]}", fontsize=9)
        axis.set_xlabel("steps of all environments")
    figure.axes[0].set_ylabel("return: mean and range over seeds")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def film(model, folder, seed):
    """Animations of the policies, and one picture with frames of all."""
    from matplotlib.figure import Figure

    shown = 6
    figure = Figure(figsize=(2 * shown, 2.2 * len(NAMES)), layout="constrained")
    axes = figure.subplots(len(NAMES), shown)
    for row, (task, name) in zip(axes, NAMES.items(), strict=True):
        frames = rl.record(
            model,
            task,
            lambda name=name: make(name, render_mode="rgb_array"),
            folder / f"{task}.gif",
            greedy=True,
            max_steps=60,
            seed=seed,
        )
        for axis, at in zip(row, np.linspace(0, len(frames) - 1, shown).round().astype(int), strict=True):
            axis.imshow(frames[at])
            axis.set_title(f"{task}, step {at}", fontsize=9)
            axis.set_axis_off()
    figure.savefig(folder / "frames.png", dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one short epoch: shows that it runs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    epochs, rollouts, episodes = (1, 1, 4) if options.quick else (options.epochs, ROLLOUTS, 50)
    folder = output_folder("minigrid_policies-quick" if options.quick else "minigrid_policies")
    learning = {arm: {task: [] for task in NAMES} for arm in ARMS}
    scores = {arm: {task: [] for task in NAMES} for arm in ARMS}
    curves = {arm: [] for arm in ARMS}
    with progress() as bar:
        row = bar.add_task("", total=len(ARMS) * len(seeds) * epochs)
        for seed in seeds:
            for arm in ARMS:
                logs = folder / "logs" / f"{arm.replace(' ', '_')}-{seed}"
                callbacks = [ProgressOfFit(bar, row, f"{arm}, seed {seed}"), keras.callbacks.TensorBoard(logs)]
                model, history = run(arm, seed, epochs, callbacks, rollouts)
                curves[arm].append(history)
                found = rl.evaluate(model, ENVIRONMENTS, episodes=episodes, max_steps=400, seed=seed)
                for task in NAMES:
                    learning[arm][task].append(float(np.nan_to_num(history[f"{task}_return"]).mean()))
                    scores[arm][task].append(float(found[task].mean()))
                if arm == "hard sharing" and seed == seeds[-1]:
                    film(model, folder, seed)
    report(scores, learning, seeds)
    draw(curves, folder / "curves.png")
    console.print(f"Pictures and animations: {folder}; logs: tensorboard --logdir {folder / 'logs'}", soft_wrap=True)


if __name__ == "__main__":
    main()
