"""Networks from layouts: what they compute, which examples they see, and what they refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.modular import (
    CombineModule,
    DescribeModule,
    FindModule,
    MeasureModule,
    TransformModule,
    group_by_layout,
    neural_module_network,
    predict_by_layout,
    query_layout,
)
from keras_mtl.modular.layouts import as_text, read_layout, signature, words

COLORS, SHAPES = ("red", "green", "blue"), ("circle", "square", "triangle")
RELATIONS = {"above": (-1, 0), "below": (1, 0), "left_of": (0, -1), "right_of": (0, 1)}
VOCABULARY = [*COLORS, *SHAPES, *RELATIONS]
QUERIES = ["(is red blue)", "(is red (above blue))", "(is red (above (left_of circle)))"]


def modules():
    return {
        "find": FindModule(),
        "transform": TransformModule(scale=1.0),
        "and": CombineModule(),
        "answer": MeasureModule(),
    }


def build(layouts=QUERIES, stages=(), channels=6):
    return neural_module_network(
        keras.Input((3, 3, channels), name="image"), list(stages), modules(), layouts, vocabulary=VOCABULARY
    )


def scenes(count, seed=0):
    """One-hot colors and shapes of 3 x 3 cells, a fifth of which are empty."""
    rng = np.random.default_rng(seed)
    full = rng.random((count, 3, 3, 1)) > 0.2
    parts = [np.eye(3)[rng.integers(3, size=(count, 3, 3))] for _ in range(2)]
    return (np.concatenate(parts, -1) * full).astype("float32")


def truth(query, scene):
    """Set of cells that an expression means, or whether the query holds: relations lead to the adjacent cell."""
    if isinstance(query, str):
        return {tuple(cell) for cell in np.argwhere(scene[..., VOCABULARY.index(query)] > 0)}
    word, *arguments = query
    if word == "is":
        return bool(truth(arguments[0], scene) & truth(arguments[1], scene))
    dy, dx = RELATIONS[word]
    moved = {(y + dy, x + dx) for y, x in truth(arguments[0], scene)}
    return {(y, x) for y, x in moved if 0 <= y < 3 and 0 <= x < 3}


def by_hand(model):
    """Weights with which modules do what their words mean."""
    find = model.get_layer("shared_find").stack[-1]
    kernel = np.zeros((len(VOCABULARY), 6), "float32")
    kernel[:6] = 60 * np.eye(6)
    find.set_weights([kernel, np.full((len(VOCABULARY), 1), -30.0)])
    transform = model.get_layer("shared_transform").stack[-1]
    kernel = np.zeros((len(VOCABULARY), 3, 3), "float32")
    for word, (dy, dx) in RELATIONS.items():
        kernel[VOCABULARY.index(word), 1 - dy, 1 - dx] = 60  # what is above a cell looks one down
    transform.set_weights([kernel.reshape(-1, 9), np.full((len(VOCABULARY), 1), -30.0)])
    model.get_layer("shared_answer").stack[-1].set_weights([np.array([[0.0], [0.0], [60.0]]), np.array([-30.0])])


@pytest.mark.oracle
def test_modules_with_the_right_weights_answer_every_query():
    model = build()
    by_hand(model)
    rng = np.random.default_rng(1)
    queries = []
    for _ in range(150):
        thing, other = (str(rng.choice(VOCABULARY[:6])) for _ in range(2))
        for _ in range(int(rng.integers(3))):
            other = f"({rng.choice(list(RELATIONS))} {other})"
        queries.append(f"(is {thing} {other})")
    x = scenes(len(queries))
    answers = predict_by_layout(model, x, queries)[:, 0] > 0
    expected = [truth(_tuple(query), scene) for query, scene in zip(queries, x, strict=True)]
    assert 20 < sum(expected) < 130
    np.testing.assert_array_equal(answers, expected)


def _tuple(query):
    """A query as nested tuples, read independently of the package."""
    tokens = query.replace("(", " ( ").replace(")", " ) ").split()

    def read(at):
        if tokens[at] != "(":
            return tokens[at], at + 1
        inside, at = [], at + 1
        while tokens[at] != ")":
            item, at = read(at)
            inside.append(item)
        return tuple(inside), at + 1

    return read(0)[0]


def test_layouts_from_queries_tuples_and_tokens_are_the_same():
    expected = ("answer", ("and", ("find", "red"), ("transform", "above", ("find", "blue"))))
    assert query_layout("(is red (above blue))") == expected
    assert query_layout("is(red, above(blue))") == expected
    tokens = ["find[red]", "find[blue]", "transform[above]", "and", "answer"]
    assert read_layout(tokens, modules()) == read_layout(expected, modules()) == expected
    bare = read_layout(["_Find", "_Find", "_Transform", "_And", "_Answer"], modules())
    assert signature(bare) == signature(expected) == "find.find.transform.and.answer"
    assert words(expected, modules()) == ["red", "blue", "above"]
    assert as_text(expected) == "answer(and(find[red], transform[above](find[blue])))"
    assert query_layout("(what (left_of red))", {"root": "describe"}) == (
        "describe",
        ("transform", "left_of", ("find", "red")),
    )


def test_describe_answers_by_word():
    kinds = {**modules(), "describe": DescribeModule(4)}
    layout = ("describe", "color", ("find", "circle"))
    model = neural_module_network(
        keras.Input((3, 3, 6), name="image"), [], kinds, [layout, "(is red blue)"], vocabulary=[*VOCABULARY, "color"]
    )
    assert model.output["find.describe"].shape == (None, 4)
    groups = group_by_layout(model, [layout])
    np.testing.assert_array_equal(groups["find.describe"][1][0, :2], [3, 10])


def test_groups_keep_every_example_and_its_words():
    model = build()
    queries = [QUERIES[2], QUERIES[0], "(is blue red)", QUERIES[1]]
    groups = group_by_layout(model, queries)
    assert {task: rows.tolist() for task, (rows, _) in groups.items()} == {
        "find.find.and.answer": [1, 2],
        "find.find.transform.and.answer": [3],
        "find.find.transform.transform.and.answer": [0],
    }
    red, blue, circle, above, left = (VOCABULARY.index(w) for w in ("red", "blue", "circle", "above", "left_of"))
    assert groups["find.find.and.answer"][1].tolist() == [[red, blue, 0, 0], [blue, red, 0, 0]]
    assert groups["find.find.transform.transform.and.answer"][1].tolist() == [[red, circle, left, above]]


def mixture(model, queries, x, y, batch_size=8):
    datasets = {}
    for task, (rows, numbers) in group_by_layout(model, queries).items():
        given = {"image": x[rows], "words": numbers}
        datasets[task] = tf.data.Dataset.from_tensor_slices((given, y[rows]))
    return keras_mtl.data.mix(datasets, "round_robin", inputs="own", batch_size=batch_size, seed=0)


def test_batches_of_one_signature_train_what_it_is_made_of_and_trace_once():
    network = build(stages=[keras.layers.Dense(6, name="look")])
    model = keras_mtl.own_inputs(network)
    traces = []

    class Counting(keras.losses.BinaryCrossentropy):
        def call(self, y_true, y_pred):
            traces.append(y_pred.shape)
            return super().call(y_true, y_pred)

    model.compile("sgd", loss=Counting(from_logits=True), jit_compile=False)
    queries = [QUERIES[i % 3] for i in range(48)]
    x = scenes(48)
    y = np.array([[float(truth(_tuple(q), s))] for q, s in zip(queries, x, strict=True)], "float32")
    before = {v.path: np.array(v) for v in network.trainable_variables}
    history = model.fit(mixture(network, queries, x, y), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all((before[v.path] != np.array(v)).any() for v in network.trainable_variables)
    assert len(traces) <= len(model.tasks) * len(model.tasks)

    before = {v.path: np.array(v) for v in network.trainable_variables}
    only = mixture(network, [QUERIES[0]] * 8, x[:8], y[:8])
    keras_mtl.own_inputs(network)  # leaves the network as it is
    single = network.task_model("find.find.and.answer")
    single.compile("sgd", loss=keras.losses.BinaryCrossentropy(from_logits=True))
    ((given, labels, *_),) = only.take(1)
    single.train_on_batch(
        {"image": given["find.find.and.answer_image"], "words": given["find.find.and.answer_words"]},
        labels["find.find.and.answer"],
    )
    moved = {path for path, old in before.items() if (old != np.array(_variable(network, path))).any()}
    assert not any("transform" in path for path in moved) and any("find" in path for path in moved)


def _variable(model, path):
    return next(v for v in model.trainable_variables if v.path == path)


def test_back_from_a_file_it_answers_the_same(tmp_path):
    model, x = build(stages=[keras.layers.Dense(6)]), scenes(3)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [v.path for v in loaded.trainable_variables] == [v.path for v in model.trainable_variables]
    answers = [predict_by_layout(m, x, QUERIES) for m in (model, loaded)]
    np.testing.assert_allclose(*answers, rtol=1e-6)


def test_who_shares_what(tmp_path):
    model = build(stages=[keras.layers.Dense(6, name="look")])
    of_transform = [v for v in model.trainable_variables if "transform" in v.path]
    assert {v.path.split("/")[0] for v in model.trainable_variables} == {"shared"}
    assert model.sharing.tasks_of(model.get_layer("shared_transform")) == model.tasks[1:]
    assert all(any(v is s for s in model.shared_variables) for v in of_transform)
    lines = []
    model.sharing_summary(lines.append)
    assert "shared_transform" in lines[0]
    keras_mtl.plot_sharing(model, tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("layouts", "message"),
    [
        (
            [("answer", ("transform", ("answer", ("find",))))],
            r"Module 'transform' in layout .* should take an attention "
            r"as argument 1. Received: module 'answer', which gives an answer",
        ),
        ([("and", ("find",), ("find",))], r"outermost module of layout and\(find, find\) should give an answer"),
        ([("answer", ("find",), ("find",))], r"Module 'answer' in layout .* should have 1 arguments. Received: 2"),
        ([("answer", ("seek",))], "'seek' in"),
        ([["_Find", "_And", "_Answer"]], r"Module 'and' at place 1 of .* should take 2 arguments. Received: 1"),
        ([["_Find", "_Find", "_Answer"]], "make 2"),
        (["(is red purple)"], r"words of layouts should be in `vocabulary`.*Received: \['purple'\]"),
        (["(is red (above blue)"], "brackets of a query should fit"),
        (["(is red) blue"], "with 'blue' behind it"),
        ([("answer", "red", ("find",))], "Module 'answer' takes no word. Received: 'red'"),
        ([], "at least one layout"),
    ],
)
def test_bad_layouts_are_told(layouts, message):
    with pytest.raises(ValueError, match=message):
        build(layouts)


def test_bad_modules_and_examples_are_told():
    with pytest.raises(ValueError, match=r"Module 'find' should be a `keras_mtl.modular.NeuralModule`"):
        neural_module_network(keras.Input((3, 3, 6), name="image"), [], {"find": keras.layers.Dense(1)}, ["(is red)"])
    model = build(QUERIES[1:])
    with pytest.raises(ValueError, match=r"signatures of layouts should be tasks.*Received: find.find.and.answer of"):
        group_by_layout(model, QUERIES)
    with pytest.raises(ValueError, match="Every module that takes a word should have one"):
        group_by_layout(model, [["_Find", "_Find", "_Transform", "_And", "_Answer"]])
    with pytest.raises(ValueError, match="which has no modules"):
        group_by_layout(keras_mtl.hard_sharing(keras.Input((2,)), [], {"a": keras.layers.Dense(1)}), QUERIES)
    with pytest.raises(ValueError, match="`kernel_size` should be an odd integer"):
        TransformModule(kernel_size=2)
    with pytest.raises(ValueError, match="`rule` should be 'product' or 'min'"):
        CombineModule(rule="max")
