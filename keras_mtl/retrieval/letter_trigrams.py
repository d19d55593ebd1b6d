"""Words as counts of hashed letter trigrams."""

import re
import zlib
from collections.abc import Sequence

import numpy as np

from keras_mtl._checks import check_integer


def letter_trigrams(text: str) -> list[str]:
    """The letter trigrams of a text's words, word boundaries included.

    Args:
        text: String. Words are runs of letters and digits, in lower case.

    Returns:
        List of strings of three characters.

    Example:

    >>> keras_mtl.retrieval.letter_trigrams("Cat!")
    ['#ca', 'cat', 'at#']
    """
    words = (f"#{word}#" for word in re.findall(r"\w+", text.lower()))
    return [word[i : i + 3] for word in words for i in range(max(1, len(word) - 2))]


def hashed_trigrams(texts: Sequence[str], size: int) -> np.ndarray:
    """Counts of the texts' letter trigrams in a table of given size.

    A word that was never seen still shares trigrams with those that were, and
    tens of thousands of words fit into some thousand columns. Trigrams are put
    to columns by their CRC-32, the same in every process.

    Args:
        texts: List of strings.
        size: Integer. Number of columns.

    Returns:
        float32 array of shape `(len(texts), size)`.

    Example:

    >>> counts = keras_mtl.retrieval.hashed_trigrams(["cat", "a cat"], size=500)
    >>> counts.shape, counts.sum(axis=1).tolist()
    ((2, 500), [3.0, 4.0])

    Reference:

    - X. Liu et al., "Representation Learning Using Multi-Task Deep Neural Networks for Semantic Classification and
      Information Retrieval", NAACL 2015.
    """
    if isinstance(texts, str):
        raise ValueError(f"`texts` should be a list of strings. Received: {texts!r}")
    size = check_integer(size, "size", 1)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"`texts` should be a list of strings. Received: texts[{place}]={text!r}")
    counts = np.zeros((len(texts), size), "float32")
    for row, text in zip(counts, texts, strict=True):
        for trigram in letter_trigrams(text):
            row[zlib.crc32(trigram.encode()) % size] += 1
    return counts
