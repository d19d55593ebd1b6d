"""Query classification and document ranking share letter trigrams, as in Liu et al. (NAACL 2015).

About ten minutes on two cores, half a minute with --quick; downloads nothing, unless --corpus wordnet, whose data come
with a package (see requirements-data.txt).

Texts become counts of hashed letter trigrams, which one shared layer reads. Classification says which domain a query is
from; ranking scores a query's documents by cosines, the clicked one against four others. A sampler draws whose batch
comes next. Each task alone, with the same number of batches of its own, is the comparison. The made-up corpus has four
domains of 150 words on 20 stems each; in WordNet's a query is a noun of nine domains, its document the gloss.

    python recipes/studies/queries.py [--quick] [--corpus wordnet] [--seeds 5]
"""

from functools import lru_cache

import parent  # noqa: F401
from common import command_line, study

import keras
import tensorflow as tf
from data.queries import NEGATIVES, TRIGRAMS, make_data
from keras import layers

import keras_mtl

ALONE, TOGETHER = MODELS = ("alone", "together")
SHARED, OWN, BATCH = 100, 48, 32
SIZES = {"made-up": (160, 3000, 1000), "wordnet": (900, 6000, 2000)}  # labelled queries, clicks, test queries
MEASURES = {"domain accuracy": ("domain", "accuracy"), "NDCG@1": ("ranking", "ndcg_1"), "NDCG@3": ("ranking", "ndcg_3")}


def build(domains):
    shapes = {"text": (TRIGRAMS,), "query": (TRIGRAMS,), "documents": (NEGATIVES + 1, TRIGRAMS)}
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    shared = keras_mtl.layers.Stage([layers.Dense(SHARED, activation="tanh", name="semantic")], "shared", name="shared")
    text, query, documents = (shared(inputs[name]) for name in ("text", "query", "documents"))
    own = [layers.Dense(OWN, activation="tanh", name="layer"), layers.Dense(domains, name="logits")]
    towers = {
        name: keras_mtl.layers.Stage([layers.Dense(OWN, activation="tanh", name=name)], "ranking", name=name)
        for name in ("query_tower", "document_tower")
    }
    scores = keras_mtl.retrieval.CosineScores(gamma=10, name="ranking")
    outputs = {
        "domain": keras_mtl.layers.Stage(own, "domain", name="domain")(text),
        "ranking": scores([towers["query_tower"](query), towers["document_tower"](documents)]),
    }
    return keras_mtl.MultiTaskModel(inputs, outputs)


def compile_model(model):
    """Losses and metrics of the tasks that the model has."""
    loss = {
        "domain": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "ranking": keras.losses.CategoricalCrossentropy(from_logits=True),
    }
    metrics = {"domain": ["accuracy"], "ranking": [keras_mtl.metrics.NDCG(1), keras_mtl.metrics.NDCG(3)]}
    model.compile(
        keras.optimizers.Adam(1e-3),
        loss={task: loss[task] for task in model.tasks},
        metrics={task: metrics[task] for task in model.tasks},
        jit_compile=False,
    )


def train_and_test(tasks, train, test, steps, seed, callbacks=()):
    """Scores of a model of one or both tasks after `steps[task]` batches of each."""
    keras.utils.set_random_seed(seed)
    domains = int(max(y.max() for y in (train["domain"][1], test[1]["domain"]))) + 1
    model = build(domains)
    if len(tasks) == 1:
        inputs = model.sharing.inputs_of(tasks[0])
        model = keras_mtl.MultiTaskModel(inputs, {tasks[0]: model.output[tasks[0]]})
    compile_model(model)
    sets = {t: tf.data.Dataset.from_tensor_slices(train[t]).shuffle(10000, seed=seed) for t in tasks}
    total = sum(steps[task] for task in tasks)
    sampler = {task: steps[task] / total for task in tasks}
    data = keras_mtl.data.mix(sets, sampler, batch="interleave", batch_size=BATCH, stop=total, seed=seed)
    model.fit(data, shuffle=False, callbacks=list(callbacks), verbose=0)
    x = {name: test[0][name] for name in keras.tree.map_structure(lambda t: t.name, model.input)}
    logs = model.evaluate(x, {t: test[1][t] for t in tasks}, batch_size=200, verbose=0, return_dict=True)
    return {name: logs[f"{task}_{metric}"] for name, (task, metric) in MEASURES.items() if task in tasks}


def main():
    corpus = (tuple(SIZES), "texts")
    options = command_line(__file__, __doc__, models=MODELS, corpus=corpus)
    sizes = (60, 100, 100) if options.quick else SIZES[options.corpus]
    steps = {"domain": 10, "ranking": 20} if options.quick else {"domain": 500, "ranking": 1200}
    data_of = lru_cache(1)(lambda seed: make_data(options.corpus, seed, sizes))

    def run(name, seed, callbacks):
        found = {}
        for tasks in (["domain"], ["ranking"]) if name == ALONE else (["domain", "ranking"],):
            found |= train_and_test(tasks, *data_of(seed), steps, seed, callbacks)
        return {measure: 100 * value for measure, value in found.items()}

    title = f"{options.corpus}, x 100"
    study(run, options, tuple(MEASURES), title=title, reference=ALONE, paired=True, gain=False)


if __name__ == "__main__":
    main()
