"""Trainings that lead to the same numbers on every backend.

A cell is a weighting at a place in a mode. All start from the same variables, see the same batches and draw the same
numbers, on whatever backend Keras runs.
"""

import keras
import numpy as np
from keras import layers, ops

import keras_mtl
from keras_mtl import weighting as W
from keras_mtl.training.backends import _dense_kernels

STEPS, BATCH = 5, 6
TASKS = ("a", "b", "c")
# Options with which a method does within five steps what it is for.
OPTIONS = {
    "stch": {"warmup_epochs": 0},
    "sdmgrad": {"learning_rate": 1.0},
    "relobralo": {"rho": 0.5},
    "dtp": {"kpi": "mae"},
}
PLACES = ("parameters", "last_shared", "features")
MODES = {}


def repeatable(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """What stands in for `keras.random.uniform`, whose numbers differ from backend to backend."""
    number = ops.cast(seed.next()[-1], "int32") if hasattr(seed, "next") else 0
    places = ops.reshape(ops.arange(int(np.prod(shape)), dtype="int32"), shape)
    return minval + ops.cast((places * 7919 + number * 4513 + 101) % 1009, "float32") / 1009 * (maxval - minval)


def repeatable_normal(shape, dtype=None, seed=None):
    return repeatable(shape, -1.5, 1.5, dtype, seed)


def batches():
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        x = rng.normal(size=(BATCH, 4)).astype("float32")
        y = {"a": x[:, :1] + 1.0, "b": (x[:, 1:2] > 0).astype("float32"), "c": x[:, 2:3] * x[:, :1] - 0.5}
        yield x, y


def network(**options):
    inputs = keras.Input((4,))
    stages = options.get("stages") or [layers.Dense(5, activation="tanh"), layers.Dense(4, activation="relu")]
    return keras_mtl.hard_sharing(inputs, stages, {task: layers.Dense(1, dtype="float32") for task in TASKS})


def start(model):
    """Gives a model values that do not depend on the backend's random numbers."""
    rng = np.random.default_rng(1)
    for variable in (*model.trainable_variables,):
        if variable.name not in ("gamma", "scales", "log_var", "log_scale"):
            variable.assign(rng.normal(size=variable.shape).astype("float32") * 0.5)


def train(weighting="equal", place="parameters", *, model=None, optimizer=None, data=batches, between=None, **options):
    """Five steps. Returns the variables after them, and the logs of each."""
    keras.utils.set_random_seed(0)
    model = model or network()
    if isinstance(weighting, str):
        weighting = type(W.get(weighting))(**OPTIONS.get(weighting, {}))
    model.compile(
        optimizer or keras.optimizers.SGD(0.05, momentum=0.5),
        loss={"a": "mse", "b": keras.losses.BinaryCrossentropy(from_logits=True), "c": "mae"},
        metrics={task: ["mae"] for task in TASKS},
        weighting=weighting,
        gradients=place,
        run_eagerly=keras.config.backend() == "tensorflow",  # which has less to compile
        **options,
    )
    start(model)
    logs = []
    for step, (x, y) in enumerate(data()):
        if between is not None:
            between(model, step)
        logs.append(model.train_on_batch(x, y, return_dict=True))
    model.weighting.end_epoch({name: float(value) for name, value in logs[-1].items()})
    names = sorted(logs[0])
    variables = [v for v in (*model.variables, *model.optimizer.variables) if "seed" not in v.path]
    values = [ops.convert_to_numpy(v.value).astype("float64").ravel() for v in variables]
    return np.concatenate([*values, *(np.array([float(log[name]) for name in names]) for log in logs)])


def mode(function):
    MODES[function.__name__] = function
    return function


@mode
def plain(weighting, place):
    return train(weighting, place)


@mode
def missing(weighting, place):
    def data():
        for step, (x, y) in enumerate(batches()):
            gaps = (np.arange(BATCH)[:, None] + step) % 3 == 0
            yield x, {**y, "b": np.where(gaps | (step == 2), np.nan, y["b"]).astype("float32")}

    return train(weighting, place, data=data, missing="nan")


@mode
def absent(weighting, place):
    def data():
        for step, (x, y) in enumerate(batches()):
            yield x, {task: y[task] for task in TASKS if task != "c" or step % 2 == 0}

    return train(weighting, place, data=data, optimizer=keras.optimizers.Adam(0.01))


@mode
def penalties(weighting, place):
    def data():
        for x, y in batches():
            yield x, {**y, "group": (x[:, 3:] > 0).astype("float32")}

    return train(weighting, place, data=data, penalties={"a": keras_mtl.fairness.MMDPenalty("group", bound=0.1)})


@mode
def added(weighting, place):
    """Regularizers, losses of layers in trunk and heads, and batch normalization."""
    stages = [
        keras.Sequential([layers.Dense(5, kernel_regularizer="l2"), layers.BatchNormalization()]),
        keras.Sequential([layers.Dense(4, activation="tanh"), layers.ActivityRegularization(l2=0.1)]),
    ]
    return train(weighting, place, model=network(stages=stages))


@mode
def nested(weighting, place):
    """Features of which the later is computed with the earlier."""
    inputs = keras.Input((4,))
    low = layers.Dense(5, activation="tanh")(inputs)
    high = layers.Dense(4, activation="tanh")(low)
    outputs = {task: layers.Dense(1, name=task)(low if task == "c" else high) for task in TASKS}
    outputs["b"] = layers.Dense(1, name="b_")(layers.Concatenate()([low, high]))
    return train(weighting, place, model=keras_mtl.MultiTaskModel(inputs, outputs))


@mode
def masked(weighting, place):
    """A mask, by which losses leave positions out."""
    inputs = keras.Input((4,))
    embedded = layers.Embedding(5, 3, mask_zero=True)(layers.Lambda(_as_words)(inputs))
    hidden = layers.Dense(4, activation="tanh")(embedded)
    outputs = {task: layers.Dense(1, name=task)(hidden) for task in TASKS}

    def data():
        for x, y in batches():
            yield x, {task: np.repeat(of[:, None], 4, axis=1) for task, of in y.items()}

    return train(weighting, place, model=keras_mtl.MultiTaskModel(inputs, outputs), data=data)


def _as_words(x):
    return ops.cast(ops.clip(x * 2.0 + 2.0, 0.0, 4.0), "int32")


@mode
def accumulated(weighting, place):
    return train(weighting, place, optimizer=keras.optimizers.Adam(0.01, gradient_accumulation_steps=2))


@mode
def clipped(weighting, place):
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5, use_ema=True, ema_momentum=0.9)
    return train(weighting, place, optimizer=optimizer)


@mode
def several(weighting, place):
    """An optimizer for each level, without a task now and then."""

    def data():
        for step, (x, y) in enumerate(batches()):
            yield x, {task: y[task] for task in TASKS if task != "c" or step % 2 == 0}

    model = network()
    optimizer = keras_mtl.models.discriminative_rates(model, keras.optimizers.SGD(0.05, momentum=0.5))
    return train(weighting, place, model=model, optimizer=optimizer, data=data)


def mixed(policy, weighting, place):
    keras.config.set_dtype_policy(policy)
    try:
        return train(weighting, place)
    finally:
        keras.config.set_dtype_policy("float32")


@mode
def float16(weighting, place):
    return mixed("mixed_float16", weighting, place)


@mode
def bfloat16(weighting, place):
    return mixed("mixed_bfloat16", weighting, place)


def with_infinity():
    for step, (x, y) in enumerate(batches()):
        yield x, {**y, "a": np.where((np.arange(BATCH)[:, None] == 1) & (step == 2), np.inf, y["a"]).astype("float32")}


@mode
def skip_task(weighting, place):
    return train(weighting, place, data=with_infinity, on_nonfinite="skip_task")


@mode
def skip_step(weighting, place):
    return train(weighting, place, data=with_infinity, on_nonfinite="skip_step")


@mode
def part(weighting, place):
    return train(weighting, place, gramian_fraction=0.5)


@mode
def every(weighting, place):
    return train(type(W.get(weighting))(every=2), place)


@mode
def live(weighting, place):
    """Static weights that change, one of them a variable of the user's own."""
    own = keras.Variable(2.0)

    def between(model, step):
        own.assign(2.0 + step)
        if step == 3:
            model.set_task_weights({"a": 0.0, "b": 3.0})

    return train(weighting, place, between=between, loss_weights={"a": 1.0, "b": 0.5, "c": own})


@mode
def diagnosed(weighting, place):
    return train(weighting, place, diagnostics=True)


def places(weighting):
    return PLACES if W.get(weighting).requires == "gramian" else PLACES[:1]


@mode
def factored(weighting, place):
    """Dense kernels that are wide beside the batch, however small: their factors do, where the backend keeps them."""
    smallest, _dense_kernels._SMALLEST = _dense_kernels._SMALLEST, 1
    try:
        stages = [layers.Dense(24, activation="tanh"), layers.Dense(24, activation="relu")]
        return train(weighting, place, model=network(stages=stages), optimizer=keras.optimizers.SGD(0.003))
    finally:
        _dense_kernels._SMALLEST = smallest


def name(weighting, place="parameters", of="plain"):
    return f"{weighting}/{place}/{of}"


EVERY_PLACE = [name(weighting, place) for weighting in W.names() for place in places(weighting)]
BOTH = ("missing", "absent", "penalties", "added", "accumulated", "clipped", "skip_task", "skip_step", "live")
EVERY_MODE = [
    *[
        name(weighting, of=of)
        for of in (*BOTH, "float16", "bfloat16")
        for weighting in ("uncertainty", "upgrad", "dbmtl")
    ],
    *[name("upgrad", "features", of) for of in ("added", "nested", "part", "every", "skip_task", "float16", "absent")],
    *[name("upgrad", "last_shared", of) for of in ("nested", "part", "every")],
    *[name("upgrad", of=of) for of in ("part", "every", "diagnosed", "masked")],
    name("upgrad", of="several"),
    *[name(weighting, of="factored") for weighting in ("mgda", "upgrad", "nash", "dbmtl")],
    name("mgda", "last_shared", "factored"),
    name("imtl_g", "features", "added"),
    name("imtl_g", of="every"),
    *[name("great", of=of) for of in ("missing", "absent", "float16")],
    *[name("famo", of=of) for of in ("absent", "accumulated")],
    *[name("gradnorm", of=of) for of in ("missing", "every")],
    *[name("modo", of=of) for of in ("missing", "absent")],
    *[name("equal", of=of) for of in ("live", "clipped", "skip_task", "float16")],
]
ALL = [*EVERY_PLACE, *EVERY_MODE]


def numbers(of):
    """The numbers of a cell."""
    weighting, place, of = of.split("/")
    uniform, normal = keras.random.uniform, keras.random.normal
    keras.random.uniform, keras.random.normal = repeatable, repeatable_normal
    try:
        return MODES[of](weighting, place)
    finally:
        keras.random.uniform, keras.random.normal = uniform, normal
