"""Search and matching of texts: letter trigrams as inputs, cosine scores of queries and documents.

`keras_mtl.metrics.NDCG` says how good a ranking is.
"""

from keras_mtl.retrieval.cosine_scores import CosineScores
from keras_mtl.retrieval.letter_trigrams import hashed_trigrams, letter_trigrams

__all__ = [
    "CosineScores",
    "hashed_trigrams",
    "letter_trigrams",
]
