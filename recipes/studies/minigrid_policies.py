"""Policies for three MiniGrid environments: one trunk, columns of their own, or a distilled policy?

About an hour and a half on two cores, two minutes with --quick; needs the package minigrid.

An empty room, a gap in a wall of lava, and a door with its key, all seen through the same 7 x 7 window, and worth
something at the green goal only. Actor-critics with clipped losses and as many steps in each arm: columns of their own
(single-task), one trunk (hard sharing), columns whose policies add to a distilled one (Distral, Teh et al., NeurIPS
2017), one trunk where each rollout is of one environment, drawn alike (drawn) or the more often the further its returns
are from 0.95 (A5C, Sharma et al., 2018).

What it shows: how fast each arm learns, over seeds, and what the policies look like. What it does not: a few ten
thousand steps and three rooms say little about larger worlds, and no arm was tuned by itself.

    python recipes/studies/minigrid_policies.py [--quick] [--seeds 5] [--epochs 12]
"""

from functools import partial

import parent  # noqa: F401
from common import command_line, report, study

import gymnasium
import keras
import numpy as np

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


ENVIRONMENTS = {task: partial(make, name) for task, name in NAMES.items()}


def build(arm):
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


def main():
    options = command_line(__file__, __doc__, models=ARMS, epochs=(12, 1))
    rollouts, episodes = (1, 4) if options.quick else (ROLLOUTS, 50)

    def learn(arm, seed, callbacks):
        model, history = run(arm, seed, options.epochs, callbacks, rollouts)
        ends = rl.evaluate(model, ENVIRONMENTS, episodes=episodes, max_steps=400, seed=seed)
        if arm == "hard sharing" and seed == options.seeds[-1]:
            for task, env in NAMES.items():
                shown = partial(make, env, render_mode="rgb_array")
                rl.record(model, task, shown, options.folder / f"{task}.gif", greedy=True, max_steps=60, seed=seed)
        # An epoch in which no episode ended has no return.
        learning = {task: float(np.nan_to_num(history[f"{task}_return"]).mean()) for task in NAMES}
        end = {f"{task} end": float(ends[task].mean()) for task in NAMES}
        curves = {f"{task} curve": history[f"{task}_return"] for task in NAMES}
        return {"all": np.mean(list(learning.values())), **learning, **end, **curves}

    scores = {"all": "all, over training", **{task: task for task in NAMES}}
    scores |= {f"{task} end": f"{task}, at the end" for task in NAMES}
    # Where environments are drawn, seeds differ in how often: what is the same is the number of all steps.
    axes = {
        "xlabel": "steps of all environments",
        "every": rollouts * len(NAMES) * COPIES * HORIZON,
        "ylabel": "return",
    }
    along = {f"{task} curve": task for task in NAMES}
    results = study(learn, options, scores, title="Mean return", digits=2, along=along, axes=axes)
    for arm, control in (("hard sharing", "single-task"), ("Distral", "single-task"), ("A5C", "drawn")):
        pair = {name: results[name] for name in (control, arm) if name in results}
        title, how = f"{arm} against {control}", {"digits": 2, "comparisons": 3, "gain": False}
        report(pair, options, ["all"], title=title, reference=control, **how)


if __name__ == "__main__":
    main()
