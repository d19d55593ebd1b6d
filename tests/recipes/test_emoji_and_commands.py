"""Loaders of emoji, of home commands and of the sentence encoder, on made-up files of the same form."""

import json

import keras
import numpy as np
import pytest
from scipy.special import erf

from recipes.data import emoji, home_commands, minilm

EMOJI = """# group: Animals & Nature

# subgroup: cat-face
1F63A                 ; fully-qualified     # 😺 E0.6 grinning cat
2764 FE0F             ; fully-qualified     # ❤️ E0.6 red heart
2764                  ; unqualified         # ❤ E0.6 red heart
1F408 200D 2B1B       ; fully-qualified     # 🐈‍⬛ E13.0 black cat
# group: Flags
# subgroup: flag
1F3C1                 ; fully-qualified     # 🏁 E0.6 chequered flag
"""


def test_emoji_of_one_code_point_have_names_and_groups():
    assert list(emoji.names_and_groups(EMOJI.splitlines())) == [
        (0x1F63A, "grinning cat", "Animals & Nature", "cat-face"),
        (0x2764, "red heart", "Animals & Nature", "cat-face"),
    ]


def test_what_the_font_lacks_is_left_out_and_rare_subgroups_have_no_label():
    rows = [(i, f"name {i}", "a" if i < 6 else "b", "often" if i < 11 else "seldom") for i in range(13)]
    table = emoji.number(rows, [None, *np.zeros((12, 2, 2, 3), "float32")])
    assert table["pictures"].shape == (12, 2, 2, 3) and table["names"][0] == "name 1"
    assert table["group"].tolist() == [0] * 5 + [1] * 7
    assert table["subgroup"].tolist() == [0] * 10 + [emoji.NOT_LABELLED] * 2
    assert table["subgroups"].tolist() == ["often"]


GRAMMARS = {
    "expansion_rules": {"the": "(the|my)"},
    "lists": {
        "level": {"range": {"from": 1, "to": 3}},
        "color": {"values": [{"in": "(dark|light) red", "out": "red"}]},
    },
    "intents": {
        "HassTurnOn": {"data": [{"sentences": ["[please] turn on <the> {area}"], "slots": {"domain": "light"}}]},
        "HassLightSet": {"data": [{"sentences": ["set ({level:brightness}%;{color})"]}]},
    },
}


def test_commands_are_different_and_tagged_word_by_word():
    found = home_commands.commands(40, file=GRAMMARS)
    assert len({" ".join(command.words) for command in found}) == 40
    for command in found:
        assert len(command.words) == len(command.tags) and command.domain == "light"
        if command.intent == "HassTurnOn":
            at = command.tags.index("B-area")
            assert command.words[at - 1] in ("the", "my") and set(command.tags[:at]) == {"O"}
            assert set(command.tags[at + 1 :]) <= {"I-area"}
        else:
            at = command.tags.index("B-color")
            assert command.words[at] in ("dark", "light") and command.tags[at + 1] == "I-color"
            at = command.tags.index("B-brightness")
            assert command.words[at] in ("1", "2", "3") and command.words[at + 1] == "%"
    assert {command.tags.index("B-color") for command in found if "B-color" in command.tags} == {1, 3}  # both orders


def test_grammars_that_have_too_few_commands_say_so():
    with pytest.raises(ValueError, match="different commands, not 1000"):
        home_commands.commands(1000, file=GRAMMARS)


def test_words_are_cut_into_the_longest_pieces():
    pieces = minilm.WordPieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##believ", "##able", "##ably", "b", "##e"])
    assert pieces.of_word("unbelievable") == [4, 5, 6] and pieces.of_word("xbe") == [1]
    assert pieces.of_sentence(["be", "unbelievably"], 8) == ([2, 8, 9, 4, 5, 7, 3, 0], [1, 3])
    with pytest.raises(ValueError, match="has 7 pieces; length=6 is too short"):
        pieces.of_sentence(["be", "unbelievably"], 6)


def test_weights_are_read_from_their_file(tmp_path):
    a, b = np.arange(6, dtype="<f4"), np.array([7], "<i8")
    table = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "I64", "shape": [1], "data_offsets": [24, 32]},
    }
    head = json.dumps(table).encode()
    path = tmp_path / "weights"
    path.write_bytes(len(head).to_bytes(8, "little") + head + a.tobytes() + b.tobytes())
    arrays = minilm.read_weights(path)
    np.testing.assert_array_equal(arrays["a"], a.reshape(2, 3))
    assert arrays["b"].tolist() == [7] and set(arrays) == {"a", "b"}


@pytest.mark.oracle
def test_a_block_of_the_encoder_is_that_of_bert_and_ignores_what_is_masked():
    rng = np.random.default_rng(0)
    width, length = minilm.WIDTH, 5
    part = dict.fromkeys(("attention.self.query", "attention.self.key", "attention.self.value"), (width, width))
    part |= {"attention.output.dense": (width, width), "intermediate.dense": (4 * width, width)}
    part |= {"output.dense": (width, 4 * width), "attention.output.LayerNorm": (width,), "output.LayerNorm": (width,)}
    weights = {}
    for name, shape in part.items():
        weights[f"encoder.layer.0.{name}.weight"] = rng.normal(0, 0.1, shape).astype("float32")
        weights[f"encoder.layer.0.{name}.bias"] = rng.normal(0, 0.1, shape[:1]).astype("float32")

    def of(name):
        return weights[f"encoder.layer.0.{name}.weight"], weights[f"encoder.layer.0.{name}.bias"]

    def dense(x, name):
        return x @ of(name)[0].T + of(name)[1]

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
        return scaled * of(name)[0] + of(name)[1]

    x = rng.normal(size=(length, width)).astype("float32")
    q, k, v = (
        dense(x, f"attention.self.{n}").reshape(length, minilm.HEADS, -1).swapaxes(0, 1)
        for n in ("query", "key", "value")
    )
    attention = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(width / minilm.HEADS))
    attention /= attention.sum(-1, keepdims=True)
    seen = dense((attention @ v).swapaxes(0, 1).reshape(length, width), "attention.output.dense")
    middle = norm(x + seen, "attention.output.LayerNorm")
    wide = dense(middle, "intermediate.dense")
    expected = norm(middle + dense(wide * (1 + erf(wide / np.sqrt(2))) / 2, "output.dense"), "output.LayerNorm")

    block = minilm.load_block(weights, 0)
    padded = np.concatenate([x, np.zeros((3, width), "float32")])[None]
    masked = keras.Sequential([keras.layers.Masking(), block])
    np.testing.assert_allclose(block(x[None])[0], expected, atol=1e-4)
    np.testing.assert_allclose(masked(padded)[0, :length], expected, atol=1e-4)
