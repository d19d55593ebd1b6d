"""Query classification and document ranking share letter trigrams, as in Liu et al. (NAACL 2015).

Texts become counts of hashed letter trigrams. One shared layer (tanh) reads queries and documents; each task has a
layer of its own on it. Classification says which domain a query is from; ranking scores a query's documents by cosines,
the clicked one against four others. Steps alternate: a sampler draws whose batch comes next. Each task alone, with the
same number of batches of its own, is the comparison.

- `--corpus made-up` (default): four domains of 150 made-up words on 20 stems each and 8 intents; few labelled queries.
- `--corpus wordnet`: nouns of nine domains. A query is a word; its document is its gloss.

    python recipes/queries.py [--quick] [--corpus wordnet] [--seeds 5]

The picture goes to runs/queries/.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow comes in

import keras
import numpy as np
from common import console, mean_and_spread, output_folder, pairs_tell_apart, progress
from data import wordnet
from keras import layers
from rich.table import Table

import keras_mtl
from keras_mtl.retrieval import hashed_trigrams

TRIGRAMS, SHARED, OWN, NEGATIVES, BATCH = 3000, 100, 48, 4, 32
SIZES = {"made-up": (160, 3000, 1000), "wordnet": (900, 6000, 2000)}  # labelled queries, clicks, test queries
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
MEASURES = {"domain accuracy": ("domain", "accuracy"), "NDCG@1": ("ranking", "ndcg_1"), "NDCG@3": ("ranking", "ndcg_3")}


def made_up(rng, count):
    """Queries with their documents: lists of `(query, document, domain, topic)`."""
    world = np.random.default_rng(0)  # the same words for every seed
    words = {}
    for domain in range(4):
        stems = ["".join(world.choice(SYLLABLES, 2)) for _ in range(20)]
        endings = ["".join(world.choice(SYLLABLES, 1)) for _ in range(150)]
        named = [str(world.choice(stems)) + ending for ending in endings]
        words[domain] = [world.choice(named, 25, replace=False) for _ in range(8)]
    common = ["".join(world.choice(SYLLABLES, 3)) for _ in range(150)]
    found = []
    for _ in range(count):
        domain, intent = int(rng.integers(4)), int(rng.integers(8))
        query = [*rng.choice(words[domain][intent], 2, replace=False), rng.choice(common)]
        document = [*rng.choice(words[domain][intent], 5, replace=False), *rng.choice(common, 5)]
        found.append((" ".join(query), " ".join(document), domain, 8 * domain + intent))
    return found


def from_wordnet(rng, count):
    """Nouns with their glosses, each sense once: lists as of `made_up`; every sense is a topic."""
    numbers = list(wordnet.DOMAINS)
    senses = [(words[0], gloss, numbers.index(d)) for words, d, gloss in wordnet.senses() if d in numbers]
    chosen = rng.choice(len(senses), count, replace=False)
    return [(*senses[i], topic) for topic, i in enumerate(chosen)]


def with_documents(examples, rng):
    """Each query's own document among others, half of them of its domain, in random order.

    Returns:
        Dict of the model's inputs, and labels 1 where the document is the query's own.
    """
    queries, documents, domains, topics = (list(column) for column in zip(*examples, strict=True))
    domains, topics = np.array(domains), np.array(topics)
    table = hashed_trigrams(documents, TRIGRAMS)
    rows, labels = [], []
    for i in range(len(examples)):
        near = np.flatnonzero((domains == domains[i]) & (topics != topics[i]))
        far = np.flatnonzero(domains != domains[i])
        others = [*rng.choice(near, NEGATIVES // 2), *rng.choice(far, NEGATIVES - NEGATIVES // 2)]
        order = rng.permutation(NEGATIVES + 1)
        rows.append(np.array([i, *others])[order])
        labels.append((order == 0).astype("float32"))
    return {"query": hashed_trigrams(queries, TRIGRAMS), "documents": table[np.array(rows)]}, np.array(labels)


def make_data(corpus, seed, sizes):
    """Both tasks' training data and test data, each `(x, y)`."""
    rng = np.random.default_rng(seed)
    labelled, clicks, test = sizes
    examples = (made_up if corpus == "made-up" else from_wordnet)(rng, labelled + clicks + test)

    def classified(part):
        return {"text": hashed_trigrams([e[0] for e in part], TRIGRAMS)}, np.array([e[2] for e in part])

    first, second, last = examples[:labelled], examples[labelled : labelled + clicks], examples[labelled + clicks :]
    train = {"domain": classified(first), "ranking": with_documents(second, rng)}
    x, y = classified(last)
    inputs, labels = with_documents(last, rng)
    return train, ({**x, **inputs}, {"domain": y, "ranking": labels})


def build(domains):
    """The network of both tasks."""
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


def train_and_test(tasks, train, test, steps, seed):
    """Scores of a model of one or both tasks after `steps[task]` batches of each."""
    import tensorflow as tf

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
    model.fit(data, shuffle=False, verbose=0)
    x = {name: test[0][name] for name in keras.tree.map_structure(lambda t: t.name, model.input)}
    logs = model.evaluate(x, {t: test[1][t] for t in tasks}, batch_size=200, verbose=0, return_dict=True)
    return {name: logs[f"{task}_{metric}"] for name, (task, metric) in MEASURES.items() if task in tasks}


def draw(scores, path):
    """A panel for each measure: alone and together, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axis, name in zip(figure.subplots(1, 3), MEASURES, strict=True):
        alone, together = scores["alone"][name], scores["together"][name]
        for pair in zip(alone, together, strict=True):
            axis.plot([0, 1], pair, "o-", color="C0", alpha=0.4)
        axis.plot([0, 1], [np.mean(alone), np.mean(together)], "ko-", linewidth=2)
        axis.set_xticks([0, 1], ["alone", "together"])
        axis.set_xlim(-0.3, 1.3)
        axis.set_title(name)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few steps: shows that it runs, nothing else")
    parser.add_argument("--corpus", choices=SIZES, default="made-up")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    seeds = range(1 if options.quick else options.seeds)
    sizes = (60, 100, 100) if options.quick else SIZES[options.corpus]
    steps = {"domain": 10, "ranking": 20} if options.quick else {"domain": 500, "ranking": 1200}
    scores = {kind: {name: [] for name in MEASURES} for kind in ("alone", "together")}
    with progress("models") as bar:
        row = bar.add_task("", total=3 * len(seeds))
        for seed in seeds:
            train, test = make_data(options.corpus, seed, sizes)
            for kind, tasks in (("alone", ["domain"]), ("alone", ["ranking"]), ("together", ["domain", "ranking"])):
                bar.update(row, description=f"seed {seed}, {kind}: {', '.join(tasks)}")
                keras.utils.clear_session()
                for name, value in train_and_test(tasks, train, test, steps, seed).items():
                    scores[kind][name].append(value)
                bar.advance(row)
    table = Table(title=f"{options.corpus}, {len(seeds)} seeds, × 100", title_justify="left")
    for column in ("", "alone", "together", "difference"):
        table.add_column(column, justify="right" if column else "left")
    for name in MEASURES:
        alone, together = (100 * np.array(scores[kind][name]) for kind in ("alone", "together"))
        sure = len(seeds) > 2 and pairs_tell_apart(together, alone, len(MEASURES))
        shown = mean_and_spread(together - alone, signed=True) + ("" if sure else " (within noise)")
        table.add_row(name, mean_and_spread(alone), mean_and_spread(together), shown)
    console.print(table)
    path = output_folder("queries") / f"{options.corpus}.png"
    draw(scores, path)
    console.print(f"Picture: {path}", soft_wrap=True)


if __name__ == "__main__":
    main()
