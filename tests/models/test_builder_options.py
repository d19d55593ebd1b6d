"""Numbers that builders are given: what is none of its kind is refused by name, NumPy's numbers are taken."""

import keras
import numpy as np
import pytest

from keras_mtl.multimodal import OmniTask, omninet
from tests.models.examples import BUILDERS as EXAMPLES
from tests.rows import by_default

NO_INTEGERS = (-1, True, 1.5, 2.0, float("nan"), "2", [2], np.float32(2), np.int64(-3), np.bool_(True), np.array([1]))
NO_NUMBERS = (float("nan"), float("inf"), -float("inf"), "1", True, None, [1.0], 1j, np.float32("nan"), 10**400, 1e300)
POSITIVE = {"bad": (*NO_NUMBERS, 0.0, -1.0, 1e-60), "good": (2, np.float32(0.7))}
STRENGTH = {"bad": NO_NUMBERS, "good": (-0.01, np.float32(0.3))}
SHARE = {"bad": (*NO_NUMBERS, -0.1, 1.0, 2), "good": (0, np.float32(0.5))}
AT_LEAST_0 = {"bad": (*NO_NUMBERS, -0.1), "good": (np.float32(0.3), np.int64(1))}


def integers(least, *good):
    return {"bad": (*NO_INTEGERS, None, least - 1), "good": (least, np.int64(least), *good)}


OR_NONE = {"bad": (*NO_INTEGERS, 0), "good": (1, np.int32(2))}
DEPTH = {"bad": (*NO_INTEGERS, None, 2, 9), "good": (np.int64(1),)}
GATED = {
    "experts": integers(1),
    "shared_depth": DEPTH,
    "gate_temperature": POSITIVE,
    "gate_dropout": SHARE,
}
EXTRACTED = {**GATED, "shared_experts": integers(0), "task_experts": integers(0, {"a": 1, "b": np.int64(2)})}
del EXTRACTED["experts"]
DECAY = {"bad": (*NO_NUMBERS, 0.0, 1.5), "good": (1, np.float32(0.9))}
STEPS = integers(0)
OPTIONS = {
    "hard_sharing": {"shared_depth": {"bad": (*NO_INTEGERS, 3), "good": (0, np.int64(1))}},
    "soft_sharing": {"strength": {"bad": AT_LEAST_0["bad"], "good": (0, [0, np.float32(0.1)])}},
    "cross_stitch": {"self_weight": STRENGTH},
    "nddr": {"self_weight": STRENGTH},
    "sluice": {
        "subspaces": integers(1, 2),
        "self_weight": STRENGTH,
        "last_weight": STRENGTH,
        "orthogonality": AT_LEAST_0,
    },
    "mtan": {"hidden": OR_NONE},
    "mmoe": GATED,
    "omoe": GATED,
    "cgc": EXTRACTED,
    "ple": EXTRACTED,
    "dselect_k": {
        "experts": {"bad": (*NO_INTEGERS, None, 0), "good": (3, np.int64(4))},
        "k": {"bad": (*NO_INTEGERS, None, 0, 9), "good": (1, np.int64(2))},
        "shared_depth": DEPTH,
        "gamma": POSITIVE,
        "entropy_strength": STRENGTH,
    },
    "learning_to_branch": {
        "num_branches": OR_NONE,
        "warmup_steps": STEPS,
        "temperature": POSITIVE,
        "decay": DECAY,
        "min_temperature": POSITIVE,
    },
    "adashare": {
        "sparsity": STRENGTH,
        "sharing": STRENGTH,
        "warmup_steps": STEPS,
        "curriculum_steps": STEPS,
        "temperature": POSITIVE,
        "decay": DECAY,
        "min_temperature": POSITIVE,
    },
}
CASES = [(builder, option) for builder, options in OPTIONS.items() for option in options]


def build(builder, tasks=("a", "b"), **options):
    if builder in ("mmoe", "omoe", "dselect_k"):
        options = {"experts": 2, **options}
    if builder in ("cgc", "ple"):
        options = {"shared_experts": 1, "task_experts": 1, **options}
    stages = [keras.layers.Dense(4, activation="tanh", name=name) for name in ("low", "high")]
    heads = {task: keras.layers.Dense(1) for task in tasks}
    return EXAMPLES[builder][0](keras.Input((4,)), stages, heads, **options)


def trains(model):
    model.compile("sgd", loss="mse", run_eagerly=True)
    x, y = np.eye(4, dtype="float32"), {task: np.ones((4, 1), "float32") for task in model.tasks}
    assert all(np.isfinite(value) for value in model.train_on_batch(x, y, return_dict=True).values())
    assert all(np.isfinite(v).all() for v in model.trainable_variables)


@pytest.mark.parametrize(("builder", "option"), CASES)
def test_what_is_no_such_number_is_refused_by_name(builder, option):
    for value in OPTIONS[builder][option]["bad"]:
        if option == "strength" and isinstance(value, list):
            continue  # one for each stage
        with pytest.raises(ValueError, match=rf"`{option}` should .*Received: {option}=") as caught:
            build(builder, **{option: value})
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("builder", "option"), by_default(CASES[::3], CASES))
def test_numbers_train(builder, option):
    for value in OPTIONS[builder][option]["good"]:
        model = build(builder, **{option: value})
        trains(model)
        model.to_json()  # NumPy's numbers would not be written


@pytest.mark.parametrize("builder", OPTIONS)
def test_one_task_trains(builder):
    """Keras warns of a softmax over one entry, and warnings are errors here."""
    trains(build(builder, tasks=("a",)))


@pytest.mark.parametrize(
    ("option", "least"), [("encoder_blocks", 0), ("decoder_blocks", 1), ("num_heads", 1), ("hidden", 1), ("control", 1)]
)
def test_omninet_takes_integers(option, least):
    def build_omninet(**options):
        inputs = {"image": keras.Input((1, 4, 6), name="image")}
        task = OmniTask({"image": "eye"}, keras.layers.Dense(1))
        small = {"encoder_blocks": 1, "decoder_blocks": 1, "num_heads": 2, "hidden": 4, "control": 3, **options}
        return omninet(inputs, {"eye": keras.layers.Dense(4)}, {"a": task}, **small)

    for value in (*NO_INTEGERS, None, least - 1):
        with pytest.raises(ValueError, match=rf"`{option}` should be an integer of at least {least}. Received"):
            build_omninet(**{option: value})
    for value in (*NO_NUMBERS, -0.1, 1.0):
        with pytest.raises(ValueError, match=r"`dropout` should be a finite number"):
            build_omninet(dropout=value)
    model = build_omninet(**{option: np.int64(least)}, dropout=np.float32(0.1))
    model.compile("sgd", loss="mse", run_eagerly=True)
    logs = model.train_on_batch({"image": np.ones((2, 1, 4, 6))}, {"a": np.ones((2, 1))}, return_dict=True)
    assert np.isfinite(logs["loss"])
    model.to_json()


def test_tokens_and_lengths_are_integers():
    inputs = {"image": keras.Input((1, 4, 6), name="image")}
    for key, value in (("tokens", 0), ("tokens", True), ("length", -1), ("length", 2.0)):
        task = OmniTask({"image": "eye"}, keras.layers.Dense(3), **{"tokens": 3, "length": 2, key: value})
        with pytest.raises(
            ValueError, match=rf"`tasks\['a'\]\.{key}` should be `None` or an integer of at least 1. Received"
        ):
            omninet(inputs, {"eye": keras.layers.Dense(4)}, {"a": task})


def test_depths_are_integers():
    for value in (*NO_INTEGERS, None, 0, 3):
        with pytest.raises(ValueError, match=r"`depths\['b'\]` should be an integer from 1 to 2. Received: "):
            build("hierarchical_sharing", depths={"b": value})
    trains(build("hierarchical_sharing", depths={"b": np.int64(1)}))
