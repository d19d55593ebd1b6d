"""Experts above an input stage that all of them share, as with embeddings of categorical columns."""

import keras
import numpy as np
import pytest

import keras_mtl
from tests.rows import by_default


def columns():
    return {"codes": keras.Input((3,), dtype="int32", name="codes"), "numbers": keras.Input((2,), name="numbers")}


def embedding_stage():
    inputs = columns()
    embedded = keras.layers.Flatten()(keras.layers.Embedding(10, 4)(inputs["codes"]))
    return keras.Model(inputs, keras.layers.Concatenate()([embedded, inputs["numbers"]]), name="columns")


@pytest.mark.parametrize(
    ("builder", "levels"),
    by_default(
        [(keras_mtl.mmoe, 1), (keras_mtl.ple, 2)],
        [(keras_mtl.omoe, 1), (keras_mtl.mmoe, 1), (keras_mtl.dselect_k, 1), (keras_mtl.cgc, 1), (keras_mtl.ple, 2)],
    ),
)
def test_experts_share_the_stages_below_them(builder, levels):
    model = builder(
        inputs=columns(),
        stages=[embedding_stage(), *[keras.layers.Dense(5, activation="relu") for _ in range(levels)]],
        heads={"a": keras.layers.Dense(1), "b": keras.layers.Dense(1)},
        shared_depth=1,
    )
    tables = [v for v in model.trainable_variables if "embeddings" in v.path]
    assert [v.shape for v in tables] == [(10, 4)]
    assert any(v is tables[0] for v in model.shared_variables)
    model.compile("sgd", "mse", run_eagerly=True)
    x = {"codes": np.arange(24).reshape(8, 3) % 10, "numbers": np.ones((8, 2), "float32")}
    before = tables[0].numpy()
    model.fit(x, {"a": np.ones((8, 1)), "b": np.zeros((8, 1))}, verbose=0)
    assert not np.array_equal(before, tables[0].numpy())
