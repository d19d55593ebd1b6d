import builtins

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.models._placed_graph import BOX, PlacedGraph, box_height


def build(builder, **options):
    stages = [keras.layers.Dense(4, name="low"), keras.layers.Dense(4, name="high")]
    return builder(keras.Input((3,)), stages, {"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)}, **options)


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (keras_mtl.hard_sharing, {"shared_depth": 1}),
        (keras_mtl.soft_sharing, {}),
        (keras_mtl.cross_stitch, {}),
        (keras_mtl.sluice, {}),
        (keras_mtl.nddr, {}),
        (keras_mtl.ple, {"shared_experts": 1}),
        (keras_mtl.dselect_k, {"experts": 4}),
        (keras_mtl.mtan, {}),
        (keras_mtl.hierarchical_sharing, {"depths": {"a": 1}, "depends_on": {"b": "a"}}),
        (keras_mtl.esmm, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_picture_of_every_kind(builder, options, tmp_path):
    pytest.importorskip("matplotlib")
    keras_mtl.plot_sharing(build(builder, **options), tmp_path / "p.png", x=np.ones((2, 3), "float32"))
    assert (tmp_path / "p.png").stat().st_size > 5000


def test_without_examples_and_with_a_plain_functional_model(tmp_path):
    pytest.importorskip("matplotlib")
    keras_mtl.plot_sharing(build(keras_mtl.mmoe, experts=2), tmp_path / "gates.svg")
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4)(inputs)
    outputs = {"a": keras.layers.Dense(1)(hidden), "b": keras.layers.Dense(1)(hidden)}
    keras_mtl.plot_sharing(keras_mtl.MultiTaskModel(inputs, outputs), tmp_path / "plain.png")
    assert (tmp_path / "gates.svg").exists() and (tmp_path / "plain.png").exists()


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    found = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        keras_mtl.plot_sharing(build(keras_mtl.hard_sharing), "p.png")


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (keras_mtl.hard_sharing, {"shared_depth": 1}),
        (keras_mtl.cross_stitch, {}),
        (keras_mtl.mmoe, {"experts": 3}),
        (keras_mtl.ple, {"shared_experts": 1}),
        (keras_mtl.mtan, {}),
        (keras_mtl.hierarchical_sharing, {"depths": {"a": 1}, "depends_on": {"b": "a"}}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_boxes_have_names_of_their_own_and_do_not_overlap(builder, options):
    graph = PlacedGraph(build(builder, **options), np.ones((2, 3), "float32"))
    names = [" ".join(lines) for lines in graph.labels().values()]
    assert len(set(names)) == len(names) == len(graph.stages)
    corners = list(graph.places.values())
    for i, (x0, y0) in enumerate(corners):
        assert all(abs(x0 - x1) >= BOX or abs(y0 - y1) >= box_height() for x1, y1 in corners[:i])
    reached = {target for _, target, _ in graph.arrows}
    assert reached == {stage.name for stage in graph.stages}  # from the input on, every box has an arrow
    assert all(graph.places[source][0] < graph.places[target][0] for source, target, _ in graph.arrows)


def test_what_gates_take_is_on_the_arrows_of_the_experts():
    graph = PlacedGraph(build(keras_mtl.mmoe, experts=3), np.ones((2, 3), "float32"))
    into = [weight for source, target, weight in graph.arrows if target == "a_mixture" and weight is not None]
    np.testing.assert_allclose(into, graph.coefficients["a/gate"], rtol=1e-6)
    assert len(into) == 3 and sum(into) == pytest.approx(1, abs=1e-6)


def test_lanes_of_tasks_that_share_longer_stand_together():
    stages = [keras.layers.Dense(4, name=name) for name in ("low", "high")]
    heads = {task: keras.layers.Dense(1) for task in "abcd"}
    tree = [[["a", "c"], ["b", "d"]], [["a", "c"], ["b", "d"]]]
    graph = PlacedGraph(keras_mtl.branched_sharing(keras.Input((3,)), stages, heads, branches=tree), None)
    assert list(graph.lanes) == [("a",), ("a", "c"), ("c",), ("b",), ("b", "d"), ("d",)]
    tops = [top for top, _ in graph.lanes.values()]
    assert tops == [0, -1, -2, -3, -4, -5]


def test_an_input_that_joins_later_has_an_arrow():
    x, late = keras.Input((3,), name="x"), keras.Input((2,), name="late")
    hidden = keras.layers.Dense(4, name="hidden")(x)
    joined = keras.layers.Concatenate()([hidden, late])
    outputs = {"a": keras.layers.Dense(1, name="a")(joined), "b": keras.layers.Dense(1, name="b")(hidden)}
    graph = PlacedGraph(keras_mtl.MultiTaskModel([x, late], outputs), None)
    assert {(source, target) for source, target, _ in graph.arrows} == {
        ("input/x", "hidden"),
        ("hidden", "a"),
        ("input/late", "a"),
        ("hidden", "b"),
    }
