"""OmniNet: its attention by hand, what caches hold, who sees what, and what it refuses."""

import itertools

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.multimodal import (
    CacheAttention,
    FeedForward,
    OmniTask,
    SpatialCache,
    SpatialDecoder,
    TemporalDecoder,
    TemporalEncoder,
    decode,
    omninet,
)

FEATURES, PLACES, WORDS = 8, 4, 10
TASKS = ("answer", "video", "tags")


def build(**options):
    inputs = {
        "image": keras.Input((1, PLACES, 6), name="image"),
        "frames": keras.Input((3, PLACES, 6), name="frames"),
        "text": keras.Input((5,), dtype="int32", name="text"),
    }
    peripherals = {
        "image": [keras.layers.Dense(FEATURES, activation="relu")],
        "text": [keras.layers.Embedding(WORDS, FEATURES, mask_zero=True)],
    }
    tasks = {
        "answer": OmniTask({"image": "image", "text": "text"}, keras.layers.Dense(3)),
        "video": OmniTask({"frames": "image"}, keras.layers.Dense(2)),
        "tags": OmniTask({"text": "text"}, keras.layers.Dense(4), tokens=4, length=5),
    }
    options = {"encoder_blocks": 1, "decoder_blocks": 1, "num_heads": 2, "hidden": 12, "control": 3, **options}
    return omninet(inputs, peripherals, tasks, **options)


def data(count=6, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        "image": rng.normal(size=(count, 1, PLACES, 6)).astype("float32"),
        "frames": rng.normal(size=(count, 3, PLACES, 6)).astype("float32"),
        "text": rng.integers(1, WORDS, (count, 5)).astype("int32"),
        "tags_tokens": rng.integers(0, 4, (count, 5)).astype("int32"),
    }
    y = {"answer": rng.integers(0, 3, count), "video": rng.integers(0, 2, count), "tags": x["tags_tokens"]}
    return x, y


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.oracle
@pytest.mark.parametrize(("causal", "gated", "masked"), [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1)])
def test_attention_is_the_equation(causal, gated, masked):
    rng = np.random.default_rng(0)
    q, k, heads = 3, 3 if causal else 5, 2
    queries = rng.normal(size=(2, q, FEATURES)).astype("float32")
    cache = queries if causal else rng.normal(size=(2, k, FEATURES)).astype("float32")
    gate = rng.random((2, heads, q, k)).astype("float32")
    mask = np.array([[True] * (k - 2) + [False] * 2, [True] * k])
    layer = CacheAttention(heads, causal=bool(causal))
    given = [queries, cache, *([gate] if gated else [])]
    found, weights = layer(given, mask=[None, mask, *([None] if gated else [])] if masked else None)
    w_q, w_k, w_v, w_o = (np.array(d.kernel) for d in (layer.query, layer.key, layer.value, layer.output_projection))
    d, expected = FEATURES // heads, np.zeros((2, q, FEATURES))
    for b in range(2):
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            logits = (queries[b] @ w_q[:, part]) @ (cache[b] @ w_k[:, part]).T / np.sqrt(d)
            logits = logits * gate[b, h] if gated else logits
            if causal:
                logits = np.where(np.tri(q, k) > 0, logits, -1e9)
            if masked:
                logits = np.where(mask[b], logits, -1e9)
            np.testing.assert_allclose(weights[b, h], softmax(logits), atol=1e-5)
            expected[b, :, part] = softmax(logits) @ (cache[b] @ w_v[:, part])
    total = queries + expected @ w_o
    total = (total - total.mean(-1, keepdims=True)) / np.sqrt(total.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found, total, atol=1e-4)


@pytest.mark.oracle
@pytest.mark.parametrize("part", ["attention", "feed_forward"])
def test_dropout_is_of_what_joins_the_residual_connection(part):
    rows, features, p = 64, 4, 0.25
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(rows, 1, features)).astype("float32")
    if part == "attention":
        layer = CacheAttention(2, dropout=p)
        got = {training: np.array(layer([x, x], training=training)[0]) for training in (True, False)}
        joins = x @ np.array(layer.value.kernel) @ np.array(layer.output_projection.kernel)  # of one thing to look at
    else:
        layer = FeedForward(6, dropout=p)
        got = {training: np.array(layer(x, training=training)) for training in (True, False)}
        joins = np.maximum(x @ np.array(layer.inner.kernel), 0) @ np.array(layer.outer.kernel)

    def normalized(z):
        return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)

    np.testing.assert_allclose(got[False], normalized(x + joins), atol=1e-5)
    masks = np.array(list(itertools.product([0, 1], repeat=features)))
    could = np.stack([normalized(x + joins * mask / (1 - p)) for mask in masks])
    error = np.abs(could - got[True]).max((-1, -2))  # (masks, rows)
    assert error.min(0).max() < 1e-4
    kept = masks[error.argmin(0)].mean()
    assert abs(kept - (1 - p)) < 4 * np.sqrt(p * (1 - p) / (rows * features))


def test_dropout_is_in_each_part_of_each_block_and_in_training_alone():
    keras.utils.set_random_seed(0)
    model, (x, _) = build(dropout=0.5, encoder_blocks=2, decoder_blocks=2), data()
    dropouts = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    assert len(dropouts) == 2 * 2 + 2 * 4  # of an encoder's block two, of a decoder's four
    assert {layer.rate for layer in dropouts} == {0.5}
    once, twice = model(x, training=True), model(x, training=True)
    told, again = model(x, training=False), model(x)
    for task in TASKS:
        assert np.abs(once[task] - twice[task]).max() > 1e-3
        np.testing.assert_allclose(told[task], again[task], atol=1e-5)


def test_caches_have_a_row_for_each_time_and_for_each_place_of_it():
    features = np.random.default_rng(0).normal(size=(2, 3, PLACES, FEATURES)).astype("float32")
    over_time = TemporalEncoder(1, 2, 12)(features)
    over_space = SpatialCache()(features)
    assert over_time.shape == (2, 3, FEATURES) and over_space.shape == (2, 3 * PLACES, FEATURES)
    _, seen = TemporalDecoder(2)([np.ones((2, 1, FEATURES)), over_time, np.ones((2, 5, FEATURES))])
    assert seen.shape == (2, 2, 1, 3 + 5)
    np.testing.assert_allclose(np.sum(seen, -1), 1, rtol=1e-5)


@pytest.mark.oracle
def test_gate_repeats_the_attention_to_a_time_for_its_places():
    """Over the places of a time, the gate sums to their number times the attention to it."""
    rng = np.random.default_rng(0)
    seen = rng.random((2, 2, 3, 1 + 3 + 5)).astype("float32")
    temporal = [np.zeros((2, t, FEATURES), "float32") for t in (1, 3)]
    spatial = [np.zeros((2, t * s, FEATURES), "float32") for t, s in ((1, 9), (3, PLACES))]
    gate = np.array(
        SpatialDecoder(2).gate(
            *map(keras.tree.map_structure, [keras.ops.convert_to_tensor] * 3, (seen, temporal, spatial))
        )
    )
    assert gate.shape == (2, 2, 3, 9 + 3 * PLACES)
    np.testing.assert_allclose(gate[..., :9].sum(-1), 9 * seen[..., 0], rtol=1e-5)
    for t in range(3):
        part = gate[..., 9 + t * PLACES : 9 + (t + 1) * PLACES]
        np.testing.assert_array_equal(part, np.repeat(seen[..., 1 + t : 2 + t], PLACES, axis=-1))


def test_a_place_of_a_sequence_sees_the_tokens_before_it_alone():
    model, (x, _) = build(), data()
    before = np.array(model(x)["tags"])
    for place in range(5):
        changed = {**x, "tags_tokens": x["tags_tokens"].copy()}
        changed["tags_tokens"][:, place] = (changed["tags_tokens"][:, place] + 1) % 4
        after = np.array(model(changed)["tags"])
        np.testing.assert_allclose(after[:, : place + 1], before[:, : place + 1], atol=1e-6)
        assert place == 4 or np.abs(after[:, place + 1 :] - before[:, place + 1 :]).max() > 1e-5


def test_padding_is_not_seen():
    model, (x, _) = build(), data()
    x["text"][:, 3:] = 0
    embedding = model.get_layer("shared_text").stack[0]
    before = {task: np.array(output) for task, output in model(x).items()}
    weights = embedding.get_weights()[0]
    weights[0] += 5.0  # what stands at padded places changes
    embedding.set_weights([weights])
    after = model(x)
    for task in ("answer", "tags"):
        np.testing.assert_allclose(after[task], before[task], atol=1e-5)


def test_control_says_what_is_to_be_done_and_batches_do_not_meet():
    model, (x, _) = build(), data()
    before = {task: np.array(output) for task, output in model(x).items()}
    again = {task: np.array(output) for task, output in model({k: v[:2] for k, v in x.items()}).items()}
    for task in TASKS:  # nothing of the first call is left
        np.testing.assert_allclose(again[task], before[task][:2], atol=1e-5)
    control = model.get_layer("answer_control")
    control.set_weights([w + 1.0 for w in control.get_weights()])
    after = model(x)
    assert np.abs(after["answer"] - before["answer"]).max() > 1e-4
    np.testing.assert_array_equal(after["video"], before["video"])


def test_text_alone_takes_no_part_in_space():
    model = build()
    place = model.get_layer("shared_place_1")
    assert model.sharing.tasks_of(place) == ("answer", "video")
    assert model.sharing.tasks_of(model.get_layer("shared_look_1")) == TASKS
    assert model.sharing.tasks_of(model.get_layer("shared_image")) == ("answer", "video")
    assert "shared_place_1" not in [layer.name for layer in model.task_model("tags").layers]
    assert not [layer.name for layer in build(spatial=False).layers if "place" in layer.name or "spatial" in layer.name]
    assert {v.path.split("/")[0] for v in model.trainable_variables} <= {"shared", *TASKS}


def test_decoding_tells_each_token_from_those_before():
    model, (x, _) = build(), data()
    told = decode(model, "tags", x)
    logits = np.array(model({**x, "tags_tokens": told})["tags"])
    np.testing.assert_array_equal(told, logits.argmax(-1))


def test_sharing_is_told_and_drawn(tmp_path):
    model = build()
    lines = []
    model.sharing_summary(lines.append)
    assert "shared_temporal" in lines[0] and "tags_embedding" in lines[0]
    keras_mtl.plot_sharing(model, tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 5000


def test_bad_input_is_told():
    image, dense = {"image": keras.Input((1, 4, 6), name="image")}, keras.layers.Dense
    task = OmniTask({"image": "eye"}, dense(2))
    with pytest.raises(ValueError, match=r"Task 'a' should read inputs of \['image'\]. Received: 'sound'"):
        omninet(image, {"eye": dense(8)}, {"a": OmniTask({"sound": "eye"}, dense(2))})
    with pytest.raises(ValueError, match=r"through a peripheral of .*'ear'.*Received: 'eye'"):
        omninet(image, {"ear": dense(8)}, {"a": task})
    with pytest.raises(ValueError, match=r"should have shape .*batch, time, space, features"):
        omninet(image, {"eye": keras.layers.Flatten()}, {"a": task})
    with pytest.raises(ValueError, match=r"a multiple of `num_heads`. Received: 6 features, num_heads=4"):
        omninet(image, {"eye": dense(6)}, {"a": task})
    both = {**image, "other": keras.Input((1, 4, 6), name="other")}
    reads = OmniTask({"image": "eye", "other": "ear"}, dense(2))
    with pytest.raises(ValueError, match=r"as many features. Received: 8 of 'eye', 12 of 'ear'"):
        omninet(both, {"eye": dense(8), "ear": dense(12)}, {"a": reads})
    with pytest.raises(ValueError, match=r"should be a dict from task to `keras_mtl.multimodal.OmniTask`"):
        omninet(image, {"eye": dense(8)}, {"a": dense(2)})
    with pytest.raises(
        ValueError, match=r"should be one that tells a sequence of known length. Received: task='answer'"
    ):
        decode(build(), "answer", data()[0])
