"""Rooms that serve one paper or one domain: what each of them keeps to, whatever is in it."""

import ast
import importlib
import inspect
import pathlib

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import learned, modular, multimodal, recommenders, retrieval, rl

ROOMS = {room.__name__.split(".")[-1]: room for room in (learned, modular, multimodal, recommenders, retrieval, rl)}
# What a room may take: the core, and itself.
CORE = {"layers", "models", "weighting", "losses", "metrics", "penalties", "training", "data"}
SOURCE = pathlib.Path(keras_mtl.__file__).parent


def normal(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("float32")


def chance(*shape):
    return np.random.default_rng(0).uniform(size=shape).astype("float32")


def policy_stage():
    gate = learned.GumbelGate(2, name="gate")
    return learned.PolicyStage([gate], "a/policy/low", ["a_policy_low"], 1, 2, 0.1, 0.2, "paper", name="a_policy_low")


PICTURE, WORD, ATTENTION, TOKENS, CACHE = (
    normal(2, 3, 3, 4),
    np.eye(2),
    chance(2, 3, 3, 1),
    normal(2, 3, 8),
    normal(2, 5, 8),
)
# A layer of each kind, and what it is called on.
LAYERS = {
    "GumbelGate": (lambda: learned.GumbelGate(3), normal(2, 4)),
    "PolicyStage": (policy_stage, normal(2, 4)),
    "FindModule": (modular.FindModule, [PICTURE, WORD]),
    "TransformModule": (lambda: modular.TransformModule(kernel_size=1, scale=2.0), [PICTURE, WORD, ATTENTION]),
    "CombineModule": (lambda: modular.CombineModule("min"), [PICTURE[..., :1], ATTENTION, ATTENTION / 2]),
    "DescribeModule": (lambda: modular.DescribeModule(5), [PICTURE, WORD, ATTENTION]),
    "MeasureModule": (lambda: modular.MeasureModule(2), [PICTURE, ATTENTION]),
    "LayoutWord": (lambda: modular.LayoutWord(1, ["red", "blue"]), np.array([[0, 1], [1, 0]], "int32")),
    "CacheAttention": (lambda: multimodal.CacheAttention(2, causal=True), [TOKENS, CACHE]),
    "ControlVector": (lambda: multimodal.ControlVector(6), normal(2, 5)),
    "ControlledFeatures": (multimodal.ControlledFeatures, [CACHE, normal(2, 4)]),
    "DecoderTokens": (lambda: multimodal.DecoderTokens(8), [normal(2, 4), normal(2, 6, 8)]),
    "FeedForward": (lambda: multimodal.FeedForward(6), CACHE),
    "SpatialCache": (multimodal.SpatialCache, normal(2, 5, 9, 8)),
    "SpatialDecoder": (
        lambda: multimodal.SpatialDecoder(2),
        [TOKENS, chance(2, 2, 3, 6), CACHE, normal(2, 45, 8)],
    ),
    "TemporalDecoder": (lambda: multimodal.TemporalDecoder(2), [TOKENS, normal(2, 1, 8), CACHE]),
    "TemporalEncoder": (lambda: multimodal.TemporalEncoder(1, 2, 6), normal(2, 5, 9, 8)),
    "CosineScores": (lambda: retrieval.CosineScores(gamma=3.0), [normal(2, 4), normal(2, 5, 4)]),
    "FunnelOrder": (lambda: recommenders.FunnelOrder(2.0), [chance(2, 1), chance(2, 1)]),
    "InformationTransfer": (recommenders.InformationTransfer, [normal(2, 4), normal(2, 4)]),
    "PersonalGate": (recommenders.PersonalGate, [normal(2, 3), normal(2, 4), normal(2, 5)]),
    "DistilledPolicy": (lambda: rl.DistilledPolicy(0.3), [normal(2, 2), normal(2, 3)]),
}
WITHOUT_A_CALL = {"NeuralModule"}  # what others subclass


@pytest.mark.parametrize("room", ROOMS)
def test_its_face_says_what_it_is(room):
    module = ROOMS[room]
    assert len(module.__doc__) > 40 and getattr(keras_mtl, room) is module
    assert set(module.__all__) >= {name for name, one in vars(module).items() if inspect.isfunction(one)} - {
        "__getattr__"
    }
    for name in module.__all__:
        one = getattr(module, name)
        assert one.__module__.startswith(f"keras_mtl.{room}."), name
        assert name not in keras_mtl.__all__ and not hasattr(keras_mtl.models, name) and one.__doc__, name


def imports(path):
    """Packages of keras_mtl that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "keras_mtl":
            parts = node.module.split(".")
            yield from [parts[1]] if parts[1:] else [alias.name for alias in node.names]


@pytest.mark.parametrize("room", ROOMS)
def test_it_stands_on_the_core_alone_and_the_core_does_without_it(room):
    files = list((SOURCE / room).rglob("*.py"))
    assert len(files) > 2
    for path in files:
        assert {name for name in imports(path) if not name.startswith("_")} <= CORE | {room}, path
    for package in CORE:
        for path in (SOURCE / package).rglob("*.py"):
            assert room not in set(imports(path)), path


def test_every_layer_of_a_room_is_in_the_table():
    found = {
        name
        for room in ROOMS.values()
        for name in room.__all__
        if inspect.isclass(getattr(room, name)) and issubclass(getattr(room, name), keras.layers.Layer)
    }
    assert found == set(LAYERS) | WITHOUT_A_CALL


@pytest.mark.parametrize("name", LAYERS)
def test_layer_keeps_its_config_its_shapes_and_its_registered_name(name):
    make, x = LAYERS[name]
    layer = make()
    registered = keras.saving.get_registered_name(type(layer))
    assert registered == f"keras_mtl>{name}"  # saved files have it, wherever the class may live
    assert importlib.import_module(type(layer).__module__).__name__.startswith(
        tuple(r.__name__ for r in ROOMS.values())
    )
    given = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
    expected = layer(given)
    symbolic = layer(keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), given))
    shapes = keras.tree.map_structure(lambda x: tuple(x.shape), expected)
    assert keras.tree.flatten(keras.tree.map_structure(lambda x: tuple(x.shape), symbolic)) == keras.tree.flatten(
        shapes
    )
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object({**config, "module": "a.place.it.had.before"})
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    again(given)
    again.set_weights(layer.get_weights())
    got = again(given)
    for one, other in zip(keras.tree.flatten(expected), keras.tree.flatten(got), strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other))
