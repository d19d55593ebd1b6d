"""Every builder x weighting x place of task gradients survives every mode, or the table says what stops it.

One cell is one combination in one mode. By default a subset runs that has every mode and every place at least once;
`tests/models/test_builders_contract.py` has every builder, `tests/weighting/test_fit_contract.py` every weighting.
`-m slow -k pair` runs one mode of each combination, in which any two of a builder, a weighting at a place and a mode
meet; `-m slow -k every_cell` the whole product. A new builder is a row of `tests/models/examples.py`; a new weighting
is here by its name.
"""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import weighting as W
from keras_mtl.training.compiled import GRADIENTS
from tests.models.examples import EVERY, WITHOUT_SHARED, build, draw_inputs, draw_labels, refusal, tasks_of
from tests.rows import by_default

# Options that make a method repeatable, or move within a few steps.
OPTIONS = {
    "graddrop": {"seed": 0},
    "gradvac": {"seed": 0},
    "pcgrad": {"seed": 0},
    "random": {"seed": 0},
    # With its default, 10, the weights jump between corners: what differs by 6e-8 does by 2e-5 after three steps.
    "sdmgrad": {"learning_rate": 1.0},
    "stch": {"warmup_epochs": 0},
}
DRAWS = ("graddrop", "gradvac", "pcgrad", "random")
# A third of it is enough for batch normalization, which has no gradient where it sees one example, and hardly one where
# it sees two. Rounding wants no less: with batches of 4 examples, MTAN under XLA is off by 2.4e-4 in float32 and by
# 4.8e-14 in float64, with 12 by 1.2e-7 and 4.6e-16.
BATCH = 12
ROWS = 33
EPOCHS = 2


@functools.cache
def data(builder):
    """Inputs and labels of three batches: the second has none of the second task, the third is a short one."""
    model, rng = build(builder), np.random.default_rng(0)
    x, y = draw_inputs(model, ROWS, rng), draw_labels(model, tasks_of(builder), ROWS, rng)
    y[tasks_of(builder)[1]][BATCH : 2 * BATCH] = np.nan
    return x, y


def first_batch(builder):
    """Inputs and labels of the first batch."""
    return keras.tree.map_structure(lambda array: array[:BATCH], data(builder))


def batches(builder, count=3):
    return tf.data.Dataset.from_tensor_slices(data(builder)).batch(BATCH).take(count)


def requires(weighting):
    return W.get(weighting).requires


def places(weighting):
    """Where the task gradients of a weighting may be taken."""
    return GRADIENTS if requires(weighting) == "gramian" else GRADIENTS[:1]


def compiled(cell, *, model=None, **options):
    builder, weighting, place = cell
    tasks = tasks_of(builder)
    model = model or build_seeded(cell)
    keras.utils.set_random_seed(2)  # what the weighting builds starts the same, whatever was built before
    model.compile(
        **{"optimizer": keras.optimizers.SGD(0.05), "jit_compile": False, **options},
        loss=dict.fromkeys(tasks, "mse"),
        metrics={task: ["accuracy" if weighting == "dtp" else "mae"] for task in tasks},
        weighting=type(W.get(weighting))(**OPTIONS.get(weighting, {})),
        gradients=place,
        missing="nan",
    )
    return model


def fit(model, cell, epochs=EPOCHS, count=3, **options):
    logs = model.fit(batches(cell[0], count), epochs=epochs, verbose=0, shuffle=False, **options).history
    assert all(np.isfinite(values).all() for values in logs.values()), logs
    return {name: values[-1] for name, values in logs.items()}


def paths(model):
    return [v.path for v in model.variables if "seed" not in v.path]


def state(model):
    return {v.path: v.numpy() for v in (*model.variables, *model.optimizer.variables) if "seed" not in v.path}


@functools.lru_cache(maxsize=2)
def reference(cell, count=3):
    """What eager steps lead to. The modes of a cell come one after another, so few are kept."""
    model = compiled(cell, run_eagerly=True)
    logs = fit(model, cell, count=count)
    return state(model), logs


def assert_same(model, logs, cell, count=3, rtol=1e-3, atol=1e-5):
    expected, expected_logs = reference(cell, count)
    found = state(model)
    assert len(found) == len(expected)
    for (path, value), old in zip(found.items(), expected.values(), strict=True):
        np.testing.assert_allclose(value, old, rtol=rtol, atol=atol, err_msg=path)
    for name, value in expected_logs.items():
        assert logs[name] == pytest.approx(value, rel=rtol, abs=10 * atol), name


def in_graph(cell, limit, count=3, **options):
    model = compiled(cell, **options)
    logs = fit(model, cell, count=count)
    if limit is None:
        assert_same(model, logs, cell, count)


def mode_graph(cell, tmp_path, limit):
    in_graph(cell, limit)


def mode_steps_per_execution(cell, tmp_path, limit):
    in_graph(cell, limit, steps_per_execution=8)


def mode_xla(cell, tmp_path, limit):
    # XLA compiles afresh for each shape, which is most of the time, so here is no short batch.
    in_graph(cell, limit, count=2, jit_compile=True)


def mode_mixed_float16(cell, tmp_path, limit):
    mixed(cell, "mixed_float16")


def mode_mixed_bfloat16(cell, tmp_path, limit):
    mixed(cell, "mixed_bfloat16")


def mixed(cell, policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(cell, run_eagerly=True)
    fit(model, cell)
    assert int(model.optimizer.iterations) > 0
    assert all(np.isfinite(value).all() for value in state(model).values())
    assert all(v.dtype == "float32" for v in model.trainable_variables)


def mode_accumulation(cell, tmp_path, limit):
    model = compiled(cell, optimizer=keras.optimizers.SGD(0.05, gradient_accumulation_steps=2), run_eagerly=True)
    before = [v.numpy() for v in model.trainable_variables]
    fit(model, cell)
    assert int(model.optimizer.iterations) == 3  # of 6 batches
    moved = [np.abs(v.numpy() - old).max() > 0 for v, old in zip(model.trainable_variables, before, strict=True)]
    assert np.mean(moved) > 0.9


def mode_absent(cell, tmp_path, limit):
    model = compiled(cell, run_eagerly=True)
    present, absent = tasks_of(cell[0])
    x, y = first_batch(cell[0])
    own = {v.path: v.numpy() for v in model.task_variables(absent)}
    logs = model.train_on_batch(x, {present: y[present]}, return_dict=True)
    assert logs[f"{absent}_weight"] == 0
    metric = "accuracy" if cell[1] == "dtp" else "mae"
    # What nobody can know of a task without labels, and nothing else.
    assert {name for name, value in logs.items() if np.isnan(value)} == {f"{absent}_loss", f"{absent}_{metric}"}
    assert not np.isinf(list(logs.values())).any()
    penalized = limit == "what layers add reaches the task's own variables"
    for v in model.task_variables(absent):
        assert penalized or np.array_equal(v.numpy(), own[v.path]), v.path


def mode_save_load_fit(cell, tmp_path, limit):
    model = compiled(cell, run_eagerly=True)
    fit(model, cell, epochs=1)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert paths(again) == paths(model)
    again.run_eagerly = True
    logs = fit(again, cell, epochs=1)
    if limit is None:
        assert_same(again, logs, cell)


def mode_backup(cell, tmp_path, limit):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(compiled(cell, run_eagerly=True), cell, callbacks=[keras.callbacks.BackupAndRestore(tmp_path), Kill()])
    again = compiled(cell, run_eagerly=True)
    logs = fit(again, cell, callbacks=[keras.callbacks.BackupAndRestore(tmp_path)])
    if limit is None:
        assert_same(again, logs, cell)


def mode_clone(cell, tmp_path, limit):
    original = build_seeded(cell)
    clone = keras.models.clone_model(original)
    assert paths(clone) == paths(original)
    clone.set_weights(original.get_weights())
    compiled(cell, model=clone, run_eagerly=True)
    logs = fit(clone, cell)
    if limit is None:
        assert_same(clone, logs, cell)


def mode_export(cell, tmp_path, limit):
    model = compiled(cell, run_eagerly=True)
    fit(model, cell, epochs=1)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")  # its variables live as long as it does
    x, _ = data(cell[0])
    served, expected = loaded.serve(x), model(x, training=False)
    for task in tasks_of(cell[0]):
        np.testing.assert_allclose(served[task], expected[task], rtol=1e-4, atol=1e-6)


def mode_mirrored(cell, tmp_path, limit, mirrored_strategy):
    single = build_seeded(cell)
    with mirrored_strategy.scope():
        double = compiled(cell)
    for v, w in zip(double.variables, compiled(cell, model=single).variables, strict=True):
        v.assign(w)
    logs = fit(double, cell)
    if limit is None:
        assert_same(double, logs, cell)


def build_seeded(cell):
    data(cell[0])  # made before: it draws from the seed too
    keras.utils.set_random_seed(1)
    return build(cell[0])


MODES = {name.removeprefix("mode_"): mode for name, mode in globals().items() if name.startswith("mode_")}


# What stops a cell from being equal to the same training on one device, eagerly and at one go. Those of Keras itself
# have their proof in test_keras_limits.py.
def limit_of(cell, mode):
    """The reason why a cell may differ, or `None`."""
    builder, weighting, _ = cell
    draws, normalizes, adds_losses = traits(builder)
    if mode in ("save_load_fit", "backup") and draws:
        return "Keras does not save the state of its seeds"
    if mode == "mirrored":
        if draws or weighting in DRAWS:
            return "replicas draw random numbers each for itself"
        if normalizes:
            return "batch normalization takes the statistics of its replica"
        if getattr(W.get(weighting), "sub_batches", 1) > 1:
            return "the parts of a batch are those of each replica"
    if mode == "xla" and (draws or weighting in DRAWS):
        return "XLA draws other random numbers from the same seed"
    if mode == "clone" and draws:
        return "the clone has seeds of its own"
    if mode == "absent" and adds_losses:
        return "what layers add reaches the task's own variables"
    return None


@functools.cache
def traits(builder):
    """Whether the layers of a builder draw random numbers, normalize batches, and add losses."""
    model = build(builder)
    model(first_batch(builder)[0], training=True)  # some layers add theirs in training only
    draws = any("seed" in v.path for v in model.variables)
    normalizes = any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers())
    return draws, normalizes, bool(model.losses)


def run(cell, mode, tmp_path, strategy):
    """One cell: passes, or the limit is what it says."""
    if says := refusal(*cell):
        with pytest.raises(ValueError, match=says):
            compiled(cell)
        return
    options = {"mirrored_strategy": strategy} if mode == "mirrored" else {}
    MODES[mode](cell, tmp_path, limit_of(cell, mode), **options)


def subset():
    """Cells of the default run."""
    kinds = (
        "equal",
        "mgda",
        "uncertainty",
        "nash",
        "famo",
        "modo",
        "gradnorm",
        "geometric",
        "upgrad",
        "dwa",
        "graddrop",
    )
    cheap = ("save_load_fit", "clone", "accumulation", "absent", "backup")
    place = itertools.cycle(GRADIENTS)
    rows = [(builder, cheap[i % len(cheap)]) for i, builder in enumerate(EVERY)]
    costly = [mode for mode in MODES if mode not in cheap]
    rows += [(("hard_sharing", "cross_stitch", "cgc")[i % 3], mode) for i, mode in enumerate(costly)]
    for i, (builder, mode) in enumerate(rows):
        weighting = "uncertainty" if builder in WITHOUT_SHARED else kinds[i % len(kinds)]
        yield builder, weighting, next(place) if requires(weighting) == "gramian" else "parameters", mode


CELLS = list(subset())
# Every mode, those that train eagerly with builders that are quick to call. `tests/models/test_builders_contract.py`
# trains, saves, clones and loads every builder; here is that none of it is lost on the way to a next step.
DEFAULT = [
    ("soft_sharing", "uncertainty", "parameters", "clone"),
    ("omoe", "upgrad", "features", "absent"),
    ("cgc", "dwa", "parameters", "backup"),
    ("aitm", "gradnorm", "features", "accumulation"),
    ("adapters", "dwa", "parameters", "save_load_fit"),
    *CELLS[len(EVERY) :],
]


@pytest.mark.parametrize(("builder", "weighting", "place", "mode"), by_default(DEFAULT, CELLS))
def test_cell(builder, weighting, place, mode, tmp_path, mirrored_strategy):
    run((builder, weighting, place), mode, tmp_path, mirrored_strategy)


PLACED = [(name, place) for name in W.names() for place in places(name)]


def pairs():
    """Each combination once, in modes that go round, so that any two of builder, weighting and mode meet."""
    modes = list(MODES)
    for row, builder in enumerate(EVERY):
        for column, (weighting, place) in enumerate(PLACED):
            yield builder, weighting, place, modes[(row + column) % len(modes)]


def test_any_two_meet_in_a_pair():
    assert len(EVERY) >= len(MODES) and len(PLACED) >= len(MODES)
    assert {(builder, mode) for builder, _, _, mode in pairs()} == set(itertools.product(EVERY, MODES))
    assert {(*cell[1:3], cell[3]) for cell in pairs()} == {(*p, mode) for p in PLACED for mode in MODES}


@pytest.mark.slow
@pytest.mark.parametrize(("builder", "weighting", "place", "mode"), list(pairs()))
def test_pair(builder, weighting, place, mode, tmp_path, mirrored_strategy):
    """About three quarters of an hour on two cores."""
    run((builder, weighting, place), mode, tmp_path, mirrored_strategy)


# Parts of the product that `-k` can pick: what they cost grows from the first to the last.
PARTS = {
    "eager": ("mixed_float16", "mixed_bfloat16", "accumulation", "absent", "save_load_fit", "backup", "clone"),
    "graph": ("graph", "steps_per_execution", "export", "mirrored"),
    "xla": ("xla",),
}
assert sorted(itertools.chain(*PARTS.values())) == sorted(MODES)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(("weighting", "place"), PLACED)
@pytest.mark.parametrize("builder", EVERY)
def test_every_cell(builder, weighting, place, part, tmp_path, mirrored_strategy):
    """The whole product: hours on one core, so `-n` helps, and `-k` picks rows. All modes run, whatever fails."""
    errors = []
    for mode in PARTS[part]:
        folder = tmp_path / mode
        folder.mkdir()
        try:
            run((builder, weighting, place), mode, folder, mirrored_strategy)
        except Exception as error:
            error.add_note(f"cell: {builder}, {weighting}, {place}, {mode}")
            errors.append(error)
        finally:
            keras.config.set_dtype_policy("float32")
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {len(PARTS[part])} modes", errors)
