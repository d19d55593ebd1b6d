"""What is built, trained and dropped is freed: models, weightings, optimizers, and the graphs that were traced."""

import gc
import weakref

import keras
import numpy as np
import pytest
from tensorflow.python.framework.func_graph import FuncGraph

from tests.models.examples import HEADS, build, draw_inputs, draw_labels
from tests.rows import by_default

CASES = [
    ("hard_sharing", "equal", "parameters"),
    ("hard_sharing", "gradnorm", "parameters"),
    ("hard_sharing", "modo", "parameters"),
    ("cross_stitch", "mgda", "parameters"),
    ("mtan", "uncertainty", "parameters"),
    ("mmoe", "famo", "parameters"),
    ("cgc", "mgda", "features"),
    ("adashare", "dwa", "parameters"),
    ("depends_on_output", "nash", "parameters"),
]


def graphs():
    return [g for g in gc.get_objects() if isinstance(g, FuncGraph)]


def data(model):
    rng = np.random.default_rng(0)
    return draw_inputs(model, 8, rng), draw_labels(model, HEADS, 8, rng)


def trained(make, optimizer, **options):
    """Weak references to a model that was trained, and to what came with it."""
    gc.collect()
    before = set(map(id, graphs()))
    model = make()
    model.compile(optimizer, loss="mse", jit_compile=False, **options)
    model.fit(*data(model), batch_size=4, verbose=0)
    parts = [model, model.optimizer, model.train_function, *model.layers, *model.variables]
    if options:
        parts.append(model.weighting)
    found = [g for g in graphs() if id(g) not in before]
    assert found
    return list(map(weakref.ref, parts)), list(map(weakref.ref, found))


def alive(references):
    gc.collect()
    return [r() for r in references if r() is not None]


# One of each kind of rule by default, at once, since looking at all objects takes longer than a training. The others
# hold on to things in the same places.
QUICK = (CASES[0], CASES[2], CASES[6])


@pytest.mark.parametrize("cases", by_default([QUICK], [QUICK, *[(case,) for case in CASES if case not in QUICK]]))
def test_nothing_outlives_a_model(cases):
    parts, traced = [], []
    for builder, weighting, place in cases:
        of_one = trained(lambda builder=builder: build(builder), "adam", weighting=weighting, gradients=place)
        parts, traced = [*parts, *of_one[0]], [*traced, *of_one[1]]
    keras.utils.clear_session()
    assert alive(parts) == []
    assert alive(traced) == []


def test_plain_keras_keeps_graphs():
    """If this fails, Keras or TensorFlow have mended it: `StepGuard` and docs/guide/holding-up.md can say less."""

    def make():
        inputs = keras.Input((5,))
        return keras.Model(inputs, {task: keras.layers.Dense(1, name=task)(inputs) for task in ("left", "right")})

    parts, traced = trained(make, "adam")
    keras.utils.clear_session()
    assert alive(parts) == []
    assert alive(traced) != []


def test_one_step_is_that_of_plain_keras():
    """Optimizers that clip, average, decay or accumulate do the same where they are called as it is here."""
    for options in (
        {"clipnorm": 0.1},
        {"use_ema": True, "ema_overwrite_frequency": 2},
        {"weight_decay": 0.1},
        {"gradient_accumulation_steps": 2},
    ):
        found = []
        for own in (True, False):
            keras.utils.set_random_seed(3)
            model = build("hard_sharing")
            if not own:
                model = keras.Model(model.inputs, model.output)
            optimizer = keras.optimizers.Adam(0.01, **options)
            model.compile(optimizer, loss=dict.fromkeys(("left", "right"), "mse"), run_eagerly=True)
            model.fit(*data(model), batch_size=4, verbose=0, shuffle=False)
            found.append(model.get_weights())
        for ours, plain in zip(*found, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-7)
