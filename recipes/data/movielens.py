"""MovieLens 100K: 100,000 ratings of 1,682 films by 943 people, as a funnel of events.

The package recbole carries the files (F. M. Harper, J. A. Konstan, ACM TiiS 5, 2015; GroupLens allows research use and
no redistribution). The package is not imported. A film that somebody rated counts as watched, and 4 or 5 stars as
liked. Films that were shown and not watched are not on record: they are drawn from those that the person never rated.
"""

import csv

import numpy as np

from .files import CACHE, cached, package_file

LIKED = 4.0  # stars


def read_table(path):
    """Reads a file of the package to a dict from column to list of strings."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = [name.split(":")[0] for name in rows[0]]
    return dict(zip(names, zip(*rows[1:], strict=True), strict=True))


def codes(cells):
    """Each value by a number from 0 on, in the order of the values."""
    return np.unique(np.array(cells), return_inverse=True)[1]


def encode(ratings, people, films):
    """Ratings, and what is known of people and films, of tables as from `read_table`.

    Returns:
        Dict of arrays: "person", "film" (places in the arrays below), "stars" and "time" of each rating; "people" of
        shape (people, 3), age, gender and occupation as codes; "films" of shape (films, 1 + genres), years since 1900
        over 100 and 0 or 1 for each genre.
    """
    of_person = {name: place for place, name in enumerate(people["user_id"])}
    of_film = {name: place for place, name in enumerate(films["item_id"])}
    ages = np.minimum(np.array(people["age"], "int32") // 5, 14)
    genres = sorted({genre for cell in films["class"] for genre in cell.split()})
    kinds = np.array([[genre in cell.split() for genre in genres] for cell in films["class"]], "float32")
    years = np.array([float(cell) if cell.isdigit() else 1990.0 for cell in films["release_year"]], "float32")
    return {
        "person": np.array([of_person[name] for name in ratings["user_id"]], "int32"),
        "film": np.array([of_film[name] for name in ratings["item_id"]], "int32"),
        "stars": np.array(ratings["rating"], "float32"),
        "time": np.array(ratings["timestamp"], "float64"),
        "people": np.stack([ages, codes(people["gender"]), codes(people["occupation"])], axis=1).astype("int32"),
        "films": np.concatenate([(years[:, None] - 1900) / 100, kinds], axis=1).astype("float32"),
    }


def read(folder):
    """Reads the files in a folder. Returns what `encode` does."""
    return encode(*(read_table(folder / f"ml-100k.{part}") for part in ("inter", "user", "item")))


def load(cache=CACHE):
    """The ratings, read once and then kept in `cache`. Returns what `encode` does."""
    folder = ("recbole", "dataset_example", "ml-100k")
    return cached(cache, "movielens", lambda: read(package_file(*folder)))


def impressions(unwatched=4, validation=0.1, test=0.2, seed=0, arrays=None):
    """Films that were shown, watched and liked: everybody's last ratings are for the test.

    Args:
        unwatched: Integer. How many films that the person never rated are drawn for each that was watched.
        validation: Float. The part of everybody's ratings to validate on, those before the test's.
        test: Float. The part of everybody's ratings to test on, the last ones.
        seed: Integer. Which films are drawn. Defaults to 0.
        arrays: What `load` returns. Defaults to that.

    Returns:
        Dict from split ("train", "validation", "test") to `(inputs, labels)`. Inputs are a dict of "person", "film",
        "age", "gender", "occupation" (codes, of shape (n,)) and "about" (of shape (n, 1 + genres)). Labels are a dict
        of "watched" and "liked", of shape (n, 1), 0 or 1; nothing is liked that was not watched.
    """
    arrays = load() if arrays is None else arrays
    rng = np.random.default_rng(seed)
    person, film = arrays["person"], arrays["film"]
    rated = np.zeros((len(arrays["people"]), len(arrays["films"])), bool)
    rated[person, film] = True
    # Each person's ratings in the order of time; those of one second as they stand in the file.
    order = np.lexsort((arrays["time"], person))
    counts = np.bincount(person, minlength=len(rated))
    first = np.cumsum(counts) - counts
    share = (np.arange(len(order)) - first[person[order]]) / counts[person[order]]
    ends = np.round([0.0, 1 - test - validation, 1 - test, 1.0], 9)
    place = np.searchsorted(ends, np.round(share, 9), "right") - 1
    return {
        split: _shown(order[place == i], arrays, ~rated, unwatched, rng)
        for i, split in enumerate(("train", "validation", "test"))
    }


def _shown(rows, arrays, unrated, unwatched, rng):
    """Inputs and labels: the films of these ratings, and films drawn for each person in proportion to them."""
    watchers, counts = np.unique(arrays["person"][rows], return_counts=True)
    drawn = [rng.choice(np.flatnonzero(unrated[p]), unwatched * n) for p, n in zip(watchers, counts, strict=True)]
    person = np.concatenate([arrays["person"][rows], np.repeat(watchers, unwatched * counts)])
    film = np.concatenate([arrays["film"][rows], *drawn])
    watched = np.arange(len(person)) < len(rows)
    liked = np.concatenate([arrays["stars"][rows] >= LIKED, np.zeros(len(person) - len(rows), bool)])
    mixed = rng.permutation(len(person))
    person, film = person[mixed], film[mixed]
    age, gender, occupation = arrays["people"][person].T
    inputs = {"person": person, "film": film, "age": age, "gender": gender, "occupation": occupation}
    labels = {"watched": watched[mixed, None].astype("float32"), "liked": liked[mixed, None].astype("float32")}
    return {**inputs, "about": arrays["films"][film]}, labels
