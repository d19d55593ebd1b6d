"""Random stages, heads, branches, labels and options: a model is built and trains a step, or we say what is wrong.

No other exception, no NaN and no hang. An error is ours if it is raised in this package and is of a kind that says
what was wrong with the arguments or the numbers; what Keras or TensorFlow say of a case is not good enough.
"""

import contextlib
import pathlib
import signal
import time
import traceback

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from keras import layers

import keras_mtl
from tests.contract.fuzz_cases import INPUTS, KINDS, MADE, cases
from tests.models.examples import BUILDERS as EXAMPLES

HOUSE = pathlib.Path(keras_mtl.__file__).parent
OWN_ERRORS = (ValueError, TypeError, FloatingPointError)
SECONDS = 60  # of CPU time that no case of this size may take, or five times as many of the clock's


def make(key):
    return [make(one) for one in key] if isinstance(key, list) else MADE[key]()


def make_model(case):
    inputs = INPUTS[case["inputs"]]()
    logits = case["builder"] == "esmm"
    given_heads = {}
    for name, head in case["heads"].items():
        activation = None if logits else KINDS[head["kind"]][0]
        given_heads[name] = [*map(make, head["before"]), layers.Dense(head["width"], activation=activation)]
    builder, _ = EXAMPLES[case["builder"]]
    return builder(inputs, [make(stage) for stage in case["stages"]], given_heads, **case["options"])


def make_inputs(model, size, rng):
    def one(tensor):
        return rng.normal(size=(size, *(3 if n is None else n for n in tensor.shape[1:]))).astype("float32")

    return keras.tree.map_structure(one, model.input)


def make_labels(kind, shape, how, gaps, rng):
    """Labels that fit the loss of an output of this shape, and then as `how` and `gaps` say."""
    if kind == "sparse":
        y = rng.integers(0, shape[-1], size=shape[:-1]).astype("float32")
    elif kind in ("categorical", "kl"):
        y = np.eye(shape[-1], dtype="float32")[rng.integers(0, shape[-1], size=shape[:-1])]
    elif kind in ("binary", "hinge"):
        y = rng.integers(0, 2, size=shape).astype("float32")
    else:
        y = np.abs(rng.normal(size=shape)).astype("float32")
    if how == "column_dropped":
        y = y[..., 0]
    elif how == "wider":
        y = np.concatenate([y, y[..., :1]], axis=-1) if y.ndim > 1 else y
    elif how == "deeper":
        y = y[..., None]
    elif how == "fewer_examples":
        y = y[1:]
    if y.ndim and gaps == "some":
        y[::2] = np.nan
    elif gaps == "all":
        y[...] = np.nan
    elif gaps == "minus_one":
        y[:1] = -1
    types = {"integers": "int64", "float16": "float16", "booleans": "bool"}
    return np.nan_to_num(y, nan=-1.0).astype(types[how]) if how in types else y


def train_a_step(case):
    """Builds, compiles and trains one step; raises what it raises."""
    model = make_model(case)
    kinds = {name: head["kind"] for name, head in case["heads"].items()}
    loss = {name: KINDS[kind][1] for name, kind in kinds.items()}
    model.compile(loss=loss, run_eagerly=True, **case["compile"])
    rng, size = np.random.default_rng(0), case["batch_size"]
    x, y = make_inputs(model, size, rng), {}
    for name, (how, gaps) in case["labels"].items():
        labels = make_labels(kinds[name], (size, *(n or 3 for n in model.output[name].shape[1:])), how, gaps, rng)
        if gaps != "absent":
            y[name] = labels
    if case["y"] == "array" and y:
        y = next(iter(y.values()))
    elif case["y"] == "other_task":
        y = {**y, "z": np.zeros(size)}
    weights = {
        "none": None,
        "of_examples": np.arange(size, dtype="float32"),
        "zeros": np.zeros(size, "float32"),
        "of_a_task": {model.tasks[0]: np.ones(size, "float32")},
        "of_nobody": {"z": np.ones(size, "float32")},
    }[case["sample_weight"]]
    logs = model.train_on_batch(x, y, sample_weight=weights, return_dict=True)
    # What nobody knows is NaN: of a task that had no labelled example, and so no weight.
    unlabelled = [task for task in model.tasks if logs.get(f"{task}_weight", 0.0) == 0.0]
    unknown = {name for task in unlabelled for name in logs if name.startswith(f"{task}_")}
    for name, value in logs.items():
        assert np.isfinite(value).all() or (name in unknown and np.isnan(value)), (name, logs)
    for variable in (*model.variables, *model.optimizer.variables):
        if "float" in variable.dtype:
            assert np.isfinite(variable.numpy()).all(), variable.path


@contextlib.contextmanager
def no_hang():
    started, computed = time.monotonic(), time.process_time()

    def stop(*_):
        waited, took = time.monotonic() - started, time.process_time() - computed
        # A machine that stands still, or has other jobs, is no hang: neither clock alone tells one.
        if took >= SECONDS or waited >= 5 * SECONDS:
            raise AssertionError(f"A case took more than {took:.0f} s of CPU time, and {waited:.0f} s of the clock's")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS / 4)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_ours(error):
    """Whether we raised it on purpose: in this package, and of a kind that says what is wrong."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    # Not what Python says of a line of ours, such as `"x" < 0`.
    on_purpose = last.line.startswith("raise ")
    return isinstance(error, OWN_ERRORS) and HOUSE in pathlib.Path(last.filename).parents and on_purpose


def outcome(case):
    """`"trained"`, or the first words of our own error; any other exception goes on."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    keras.config.disable_traceback_filtering()  # else Keras hides where an error comes from
    try:
        with no_hang():
            train_a_step(case)
    except OWN_ERRORS as error:
        if not is_ours(error):
            raise
        return f"{type(error).__name__}: {str(error)[:30]}"
    finally:
        keras.config.enable_traceback_filtering()
    return "trained"


def fuzz(examples, **options):
    common = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), **options}
    seen = []

    @settings(max_examples=examples, **common)
    @given(cases())
    def run(case):
        found = outcome(case)
        event(found)
        seen.append(found)

    run()
    trained = sum(found == "trained" for found in seen)
    print(f"{len(seen)} cases: {trained} train, {len(seen) - trained} are refused")
    assert len(seen) >= examples
    assert trained > 0.2 * len(seen), f"{trained} of {len(seen)} cases train: the others are refused"
    assert len(set(seen)) > 3, "no errors are met"


def test_some_cases():
    fuzz(10, derandomize=True, phases=[Phase.generate])


@pytest.mark.slow
def test_many_cases():
    fuzz(2000)
