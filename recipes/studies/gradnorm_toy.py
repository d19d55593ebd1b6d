"""GradNorm's toy: tasks that differ in nothing but scale. Does learning the weights make up for the scale?

About ten minutes on two cores, half a minute with --quick; downloads nothing.

Every task is y = scale * tanh((B + E) x) with 250 inputs and 100 outputs: B is common, E the task's own, the entries
drawn with variance 10 and 3.5. There are 2 tasks with the scales 1 and 100, or 10 with scales between. The score is the
sum over the tasks of the test loss divided by its scale squared: what counts is how well each task is learned, not how
loud it is. Beside GradNorm stand uncertainty weighting, and weights set by hand to 1 / scale^2.

What it can show: how each weighting deals with loudness alone. Learned weights do better than equal ones, and clearly
worse than the right ones; uncertainty weighting takes Adam's small steps towards thousands. What it cannot: much else.
Predicting 0 scores about 0.8 for each task, which 10,000 points do not teach to beat by much.

    python recipes/studies/gradnorm_toy.py [--quick] [--tasks 2,10] [--seeds 5] [--epochs 15]
"""

import parent  # noqa: F401
from common import by_group, command_line, console, mean_and_spread, report, study

import keras
import numpy as np
import tensorflow as tf
from data.arrays import split_at

import keras_mtl

INPUTS, OUTPUTS = 250, 100
TRAIN, TEST, BATCH = 10_000, 2_000, 200
METHODS = ("equal", "gradnorm", "uncertainty", "by hand")


def make_data(tasks, seed, train=TRAIN):
    """Scales of the tasks, and training and test points, each `(x, y)`; inputs have length 1."""
    rng = np.random.default_rng(seed)
    scales = [1.0, 100.0] if tasks == 2 else np.exp(rng.uniform(0.0, np.log(100.0), tasks))
    scales = {f"task{k}": float(scale) for k, scale in enumerate(scales)}
    common = np.sqrt(10.0) * rng.standard_normal((INPUTS, OUTPUTS))
    x = rng.standard_normal((train + TEST, INPUTS))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = {}
    for task, scale in scales.items():
        own = np.sqrt(3.5) * rng.standard_normal((INPUTS, OUTPUTS))
        y[task] = (scale * np.tanh(x @ (common + own))).astype("float32")
    return scales, *split_at((x.astype("float32"), y), train)


def make_model(method, scales):
    """The paper's network, compiled with one of `METHODS`."""
    dense = keras.layers.Dense
    model = keras_mtl.hard_sharing(
        keras.Input((INPUTS,)),
        [dense(100, activation="relu") for _ in range(4)],
        {task: dense(OUTPUTS) for task in scales},
    )
    weighting, options = method, {}
    if method == "gradnorm":
        # The paper's strength for this toy, and its place for the norms.
        weighting = keras_mtl.weighting.GradNorm(alpha=0.12, learning_rate=0.025, relative=True)
        options["gradients"] = "last_shared"
    elif method == "by hand":
        weighting, options["loss_weights"] = "equal", {task: scale**-2 for task, scale in scales.items()}
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss=dict.fromkeys(scales, "mse"),
        weighting=weighting,
        steps_per_execution=10,
        jit_compile=False,
        **options,
    )
    return model


def run(method, tasks, seed, epochs, train=TRAIN, callbacks=()):
    """Trains: test score and task weights, `(epochs, K)`, of every epoch, the score of predicting 0, and the scales."""
    keras.utils.set_random_seed(seed)
    scales, (x, y), test = make_data(tasks, seed, train)
    model = make_model(method, scales)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(train, seed=seed).batch(BATCH)
    how = {"epochs": epochs, "shuffle": False, "callbacks": list(callbacks), "verbose": 0}
    history = model.fit(data, validation_data=test, validation_batch_size=TEST, **how).history
    score = np.sum([np.array(history[f"val_{task}_loss"]) / scale**2 for task, scale in scales.items()], axis=0)
    weights = np.stack([history[f"{task}_weight"] for task in scales], axis=1)
    nothing = float(np.sum([np.mean(test[1][task] ** 2) / scale**2 for task, scale in scales.items()]))
    scales = np.array(list(scales.values()))
    return {"score": score, "weights": weights, "nothing": nothing, "scales": scales}


def main():
    numbers = ("2,10", "numbers of tasks")
    options = command_line(__file__, __doc__, models=METHODS, epochs=(15, 2), tasks=numbers)

    def fit(name, seed, callbacks):
        tasks, method = name
        found = run(method, tasks, seed, options.epochs, 2_000 if options.quick else TRAIN, callbacks)
        share = found["weights"][-1] / found["weights"][-1].sum() * tasks  # they sum to the number of tasks
        quiet, loud = share[np.argmin(found["scales"])], share[np.argmax(found["scales"])]
        return {"end": found["score"][-1], "best": found["score"].min(), "quiet": quiet, "loud": loud, **found}

    groups = {int(number): f"{number} tasks" for number in options.tasks.split(",")}
    scores = {"end": "score at the end", "best": "of the best epoch"}
    how = {"reference": "equal", "lower": True, "digits": 3, "paired": True, "gain": False}
    how |= {"along": {"score": "test score"}}
    results = study(fit, options, scores, groups=groups, title="test score, less is better", **how)
    for words, of_group in by_group(results, groups).items():
        weights = {"quiet": "of the quietest task", "loud": "of the loudest"}
        report(of_group, options, weights, title=f"{words}: weight", digits={"quiet": 3, "loud": 5})
        nothing = next(iter(of_group.values()))["nothing"]
        console.print(f"Predicting 0 has a score of {mean_and_spread(nothing, 3)}.")


if __name__ == "__main__":
    main()
