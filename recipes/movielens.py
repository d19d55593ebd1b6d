"""Shown, watched, liked: the entire-space model of a funnel on MovieLens 100K.

A quarter of an hour on two cores, half a minute with --quick; the data come with the package recbole (3 MB, see
requirements-data.txt).

Whether a film would be liked is known for the watched ones alone, but a recommender asks it of all films shown.
Ways to train it are compared, on the same inputs, layers and batches:

- single-task: a model for each task, `liked` on the watched films alone;
- sample space: embeddings shared by the tasks, `liked` on the watched films alone;
- ESMM: embeddings shared, and `liked` as P(watched) P(liked | watched), over all films that were shown;
- fed by output: as sample space, and the head of `liked` sees the probability of `watched` (no gradient goes back);
- MMoE, PLE, AdaTT, AITM, STEM, PEPNet: as sample space, with experts or towers of these kinds, and embeddings as narrow
  as makes their parameters those of ESMM, within 1 %.

The table shows areas under the ROC curve on everybody's last ratings, times 100: of `watched` and `liked` among the
films shown, and of P(liked | watched) among those watched.

What it can show: how much the entire space and shared embeddings do for the funnel on this data. What it cannot:
anything about real impressions, which are not on record here. For each film that was watched, four that the person
never rated are drawn, all films alike; so popular films are easily told apart as watched. Epochs and learning rate were
chosen with the validation rows of one seed for the single-task model, and the test rows choose nothing.

    python recipes/movielens.py [--quick] [--models ESMM,single-task] [--seeds 5] [--epochs 6]

Logs for TensorBoard and a picture of the results go to runs/movielens/.
"""

from functools import lru_cache

from common import SINGLE, area_under_roc, command_line, study

import keras
from data import movielens

import keras_mtl

ESMM = "ESMM"
# Builders of recommender systems, with the widths of embeddings and towers that give each as many parameters as ESMM
# has, within 1 %.
BUILDERS = {
    "MMoE": (keras_mtl.mmoe, {"experts": 4, "shared_depth": 1}, (12, 70)),
    "PLE": (keras_mtl.ple, {"shared_experts": 1, "task_experts": 1, "shared_depth": 1}, (14, 65)),
    "AdaTT": (keras_mtl.recommenders.adatt, {"task_experts": 2, "shared_depth": 1}, (12, 70)),
    "AITM": (keras_mtl.recommenders.aitm, {}, (11, 64)),
    "STEM": (keras_mtl.recommenders.stem, {}, (6, 54)),
    "PEPNet": (keras_mtl.recommenders.pepnet, {}, (8, 62)),
}
MODELS = (SINGLE, "sample space", ESMM, "fed by output", *BUILDERS)
SCORES = {"watched": "watched", "liked": "liked", "liked_given_watched": "liked | watched"}
BATCH = 1024
LEARNING_RATE = 1e-3


def funnel_inputs(about):
    names = ("person", "film", "age", "gender", "occupation")
    return {
        **{name: keras.Input((), dtype="int32", name=name) for name in names},
        "about": keras.Input((about,), name="about"),
    }


def embeddings(sizes, about, width=16):
    """The stage that makes one vector of a person and a film."""
    layers = keras.layers
    inputs = funnel_inputs(about)
    vectors = [
        layers.Embedding(size, width, embeddings_regularizer=keras.regularizers.L2(1e-6), name=f"{name}_embedding")(
            inputs[name]
        )
        for name, size in sizes.items()
    ]
    return keras.Model(inputs, layers.Concatenate()([*vectors, inputs["about"]]), name="embeddings")


def build(name, sizes, about):
    """A model whose outputs are probabilities, but for `liked_given_watched` where there is no such output.

    Args:
        name: String. One of `MODELS`.
        sizes: Dict from code input to the number of codes.
        about: Integer. Number of the films' columns.
    """
    layers = keras.layers
    builder, own, (width, units) = BUILDERS.get(name, (None, {}, (16, 64)))
    stages = [embeddings(sizes, about, width), layers.Dense(units, activation="relu", name="tower")]
    end = None if name == ESMM else "sigmoid"
    heads = {
        task: [layers.Dense(32, activation="relu", name="hidden"), layers.Dense(1, activation=end, name="out")]
        for task in ("watched", "liked")
    }
    options = {"inputs": funnel_inputs(about), "stages": stages, "heads": heads}
    if name == ESMM:
        return keras_mtl.esmm(**options, shared_depth=1)
    if name == "PEPNet":  # who and what it is about
        about_both = funnel_inputs(about)
        known = [layers.Embedding(sizes[key], 4, name=f"{key}_prior")(about_both[key]) for key in ("person", "film")]
        own = {"prior": keras.Model(about_both, layers.Concatenate()(known), name="who_and_what")}
    if builder is not None:
        return builder(**options, **own)
    feeds = {"liked": keras_mtl.Dependency("watched", stop_gradient=True)} if name == "fed by output" else None
    return keras_mtl.hard_sharing(**options, shared_depth=0 if name == SINGLE else 1, depends_on=feeds)


def probabilities(model, inputs):
    """P(watched), P(liked) and P(liked | watched) of every film that was shown."""
    # One batch: of a call of `predict`, `steps_per_execution` traces the model once for each.
    p = model.predict(inputs, batch_size=len(inputs["film"]), verbose=0)
    if "liked_given_watched" not in p:  # `liked` was trained on the watched ones
        p = {"watched": p["watched"], "liked": p["watched"] * p["liked"], "liked_given_watched": p["liked"]}
    return p


def test(model, data):
    """The areas of the table, in percent."""
    inputs, labels = data
    p = probabilities(model, inputs)
    watched = labels["watched"][:, 0] == 1
    rows = {"watched": slice(None), "liked": slice(None), "liked_given_watched": watched}
    truth = {"watched": labels["watched"], "liked": labels["liked"], "liked_given_watched": labels["liked"]}
    return {name: 100 * area_under_roc(truth[name][rows[name]], p[name][rows[name]]) for name in SCORES}


def main():
    options = command_line(__file__, __doc__, models=MODELS, epochs=(6, 1))
    arrays = movielens.load()
    sizes = {"person": len(arrays["people"]), "film": len(arrays["films"])}
    sizes |= {name: int(arrays["people"][:, i].max()) + 1 for i, name in enumerate(("age", "gender", "occupation"))}
    data_of = lru_cache(1)(lambda seed: movielens.impressions(seed=seed, arrays=arrays))

    def run(name, seed, callbacks):
        data = data_of(seed)
        inputs, labels = data["train"]
        model = build(name, sizes, inputs["about"].shape[1])
        model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE),
            loss=dict.fromkeys(("watched", "liked"), "binary_crossentropy"),
            sample_space=None if name == ESMM else {"liked": "watched"},
            steps_per_execution=16,
        )
        fit = {"validation_data": (*data["validation"],), "callbacks": callbacks, "verbose": 0}
        model.fit(inputs, labels, BATCH, options.epochs, **fit)
        return {"parameters": model.count_params(), **test(model, data["test"])}

    study(run, options, SCORES, title="Test AUC x 100", digits=2, reference=ESMM, paired=True, gain=False)


if __name__ == "__main__":
    main()
