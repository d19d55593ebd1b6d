"""Queries and documents, made up or nouns and glosses of WordNet, as counts of letter trigrams."""

import numpy as np

from keras_mtl.retrieval import hashed_trigrams

from . import wordnet

TRIGRAMS, NEGATIVES = 3000, 4
SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]


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
