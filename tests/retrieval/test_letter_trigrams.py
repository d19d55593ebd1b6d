"""Hashed letter trigrams."""

import zlib

import numpy as np
import pytest

from keras_mtl.retrieval import hashed_trigrams, letter_trigrams


def test_boundaries_are_part_of_a_word():
    assert letter_trigrams("#cat# Dogs") == ["#ca", "cat", "at#", "#do", "dog", "ogs", "gs#"]
    assert letter_trigrams("a") == ["#a#"]
    assert letter_trigrams(" ,") == []


def test_counts_are_where_the_hash_says():
    counts = hashed_trigrams(["banana"], 50)
    expected = np.zeros(50)
    for trigram in ("#ba", "ban", "ana", "nan", "ana", "na#"):
        expected[zlib.crc32(trigram.encode()) % 50] += 1
    np.testing.assert_array_equal(counts[0], expected)
    with pytest.raises(ValueError, match="list of strings"):
        hashed_trigrams("banana", 50)
