import builtins

import keras
import numpy as np
import pytest

import keras_mtl


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
