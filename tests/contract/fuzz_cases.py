"""What random configurations are drawn from, as keys and numbers."""

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

from keras_mtl import weighting as W
from keras_mtl.training.compiled import GRADIENTS
from keras_mtl.training.options import ON_NONFINITE


@keras.saving.register_keras_serializable(package="fuzz")
class Twice(layers.Layer):
    """A layer that returns two tensors."""

    def call(self, x):
        return [x, 2 * x]


def functional(width):
    inputs = keras.Input((width,))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(4, activation="tanh")(inputs)))


# What stands in a case is a key, so that a case that fails can be read.
MADE = {
    "dense": lambda: layers.Dense(3, activation="tanh"),
    "wide": lambda: layers.Dense(5, activation="relu"),
    "named": lambda: layers.Dense(3, name="same"),
    "no_bias": lambda: layers.Dense(3, use_bias=False),
    "decayed": lambda: layers.Dense(3, kernel_regularizer="l2"),
    "dropout": lambda: layers.Dropout(0.5),
    "batch_norm": lambda: layers.BatchNormalization(),
    "layer_norm": lambda: layers.LayerNormalization(),
    "flatten": lambda: layers.Flatten(),
    "activation": lambda: layers.Activation("relu"),
    "sequential": lambda: keras.Sequential([layers.Dense(4), layers.Dense(3)]),
    "functional_3": lambda: functional(3),
    "functional_5": lambda: functional(5),
    "frozen": lambda: layers.Dense(3, trainable=False),
    "conv1d": lambda: layers.Conv1D(3, 2, padding="same"),
    "conv2d": lambda: layers.Conv2D(3, 2, padding="same"),
    "pool1d": lambda: layers.MaxPooling1D(2),
    "pool2d": lambda: layers.MaxPooling2D(2),
    "gru": lambda: layers.GRU(3),
    "mean1d": lambda: layers.GlobalAveragePooling1D(),
    "concatenate": lambda: layers.Concatenate(),
    "two_tensors": lambda: Twice(),
    "text": lambda: "Dense(3)",
    "nothing": lambda: None,
    "empty": lambda: [],
}
USUAL = ("dense", "wide", "no_bias", "decayed", "dropout", "batch_norm", "layer_norm", "sequential", "activation")
INPUTS = {
    "vector": lambda: keras.Input((5,)),
    "sequence": lambda: keras.Input((4, 2)),
    "image": lambda: keras.Input((4, 4, 1)),
    "any_length": lambda: keras.Input((None, 2)),
    "dict": lambda: {"u": keras.Input((5,), name="u"), "v": keras.Input((3,), name="v")},
    "list": lambda: [keras.Input((5,)), keras.Input((3,))],
}
# Activation and loss of a head, and how its labels are drawn.
KINDS = {
    "mse": (None, "mse"),
    "mae": (None, "mae"),
    "huber": (None, "huber"),
    "poisson": ("softplus", "poisson"),
    "binary": ("sigmoid", "binary_crossentropy"),
    "hinge": ("tanh", "hinge"),
    "categorical": ("softmax", "categorical_crossentropy"),
    "sparse": ("softmax", "sparse_categorical_crossentropy"),
    "kl": ("softmax", "kl_divergence"),
    "cosine": (None, "cosine_similarity"),
}
LABELS = ("as_output",) * 30 + (
    "column_dropped",
    "wider",
    "deeper",
    "fewer_examples",
    "integers",
    "float16",
    "booleans",
)


# What fits, what is odd, and numbers of every kind: half of the cases are drawn from the first alone.
NAN, INF = float("nan"), float("inf")
INTEGERS = [0, 1, -1, True, False, 1.5, NAN, "2", None, np.int64(2), np.int32(-1), np.uint8(1), np.float32(1)]
NUMBERS = [0, 1, 0.5, -1.0, NAN, INF, -INF, "1", True, None, np.float32(0.3), np.int64(1), 1e-60, 1e-20, 1e20, 1e300]
GATE = {"gate_temperature": ([1.0, 0.1], [0.0], NUMBERS), "gate_dropout": ([0.0, 0.5], [1.0], NUMBERS)}
EXTRACTION = {
    "shared_experts": ([1, 2], [0], INTEGERS),
    "task_experts": ([1, 2], [0, -1, {"a": 1}, {"a": "1"}], INTEGERS),
    "shared_depth": ([0], [1], INTEGERS),
    **GATE,
}
GUMBEL = {
    "temperature": ([5.0], [0.0], NUMBERS),
    "decay": ([0.99, 1.0], [1.5, 0.0], NUMBERS),
    "min_temperature": ([0.5], [0.0], NUMBERS),
    "warmup_steps": ([0, 1], [-1], [*INTEGERS, 10**12]),
}
OPTIONS = {
    "hard_sharing": {"shared_depth": ([None, 0, 1], [7, -1, "all"], INTEGERS)},
    "soft_sharing": {
        "distance": (["l2", "trace_norm"], ["none"]),
        "normalization": (["laf", "tt"], ["x"]),
        "strength": ([0.01, 0.0], [-1.0, [0.1], [0.1, "1"]], NUMBERS),
    },
    "cross_stitch": {"units": (["channel", "layer"], ["all"]), "self_weight": ([0.9, 0.0], [2.0], NUMBERS)},
    "sluice": {
        "subspaces": ([1], [3, 2, 0], INTEGERS),
        "layer_stitch": ([False], [True]),
        "self_weight": ([0.9], [0.0], NUMBERS),
        "last_weight": ([0.9], [0.0], NUMBERS),
        "orthogonality": ([0.1, 0.0], [-0.1], NUMBERS),
    },
    "nddr": {"batch_normalization": ([False, True], [None]), "self_weight": ([0.9, 0.0], [], NUMBERS)},
    "mtan": {"batch_normalization": ([False, True], []), "hidden": ([None, 2], [0, -3], INTEGERS)},
    "mmoe": {"experts": ([1, 2, 4], [0, -1, 1.5], INTEGERS), "shared_depth": ([0], [1, 9], INTEGERS), **GATE},
    "omoe": {"experts": ([1, 2], [0], INTEGERS), "shared_depth": ([0], [1, 9], INTEGERS), **GATE},
    "cgc": EXTRACTION,
    "ple": EXTRACTION,
    "dselect_k": {
        "experts": ([2, 3, 5], [1], INTEGERS),
        "k": ([1, 2], [4, 0], INTEGERS),
        "shared_depth": ([0], [1], INTEGERS),
        "per_example": ([False, True], []),
        "gamma": ([1.0], [0.0], NUMBERS),
        "entropy_strength": ([0.0, 0.1], [-0.1], NUMBERS),
    },
    "branched_sharing": {},
    "learning_to_branch": {"num_branches": ([None, 2], [0, 1], INTEGERS), **GUMBEL},
    "adashare": {
        "residual": ([False], [True]),
        "form": (["paper", "code"], ["x"]),
        "sparsity": ([0.05, 0.0], [-0.05], NUMBERS),
        "sharing": ([0.05, 0.0], [-0.05], NUMBERS),
        "curriculum_steps": ([0, 1], [-1], [*INTEGERS, 10**12]),
        **GUMBEL,
    },
    "hierarchical_sharing": {},
    "esmm": {},
}


@st.composite
def cases(draw):
    """One case as a dict of keys and numbers."""
    odd = draw(st.booleans())

    def pick(usual, others=()):
        return draw(st.sampled_from([*usual, *others] if odd else usual))

    def rarely(strategy, otherwise):
        return draw(strategy) if odd and draw(st.integers(0, 5)) == 0 else otherwise

    def a_layer():
        return rarely(st.sampled_from(sorted(MADE)), draw(st.sampled_from(USUAL)))

    def a_stack():
        return [a_layer() for _ in range(draw(st.integers(1, 3)))] if draw(st.booleans()) else a_layer()

    builder = draw(st.sampled_from(sorted(OPTIONS)))
    names = ["a", "b", "c", "d"][: draw(st.sampled_from([1, 2, 2, 2, 3, 4])) if builder != "esmm" else 2]
    names[0] = rarely(st.sampled_from(["loss", "a b", "a/b", "shared", "", "a_b", "1"]), "a")
    inputs = rarely(st.sampled_from(sorted(INPUTS)), pick(["vector"] * 4 + ["sequence", "image", "dict"]))
    stages = [a_stack() for _ in range(rarely(st.just(0), draw(st.integers(1, 3))))]
    first = {"dict": "concatenate", "list": "concatenate", "sequence": "conv1d", "image": "conv2d"}.get(inputs)
    stages = [*[first] * (first is not None and pick([True], [False])), *stages]

    def head():
        kind = pick(["binary"] if builder == "esmm" else sorted(KINDS), sorted(KINDS))
        width = 1 if builder == "esmm" else draw(st.sampled_from([1, 2, 3]))
        # Keras warns of a softmax over one class.
        width = max(width, 2) if KINDS[kind][0] == "softmax" else width
        return {"before": [a_layer()] * draw(st.integers(0, 1)), "width": width, "kind": kind}

    options = {}
    for key, (usual, others, *numbers) in OPTIONS[builder].items():
        options[key] = pick(usual, others)
        for kinds in numbers:
            options[key] = rarely(st.sampled_from(kinds), options[key])
    if builder == "branched_sharing":
        options["branches"] = draw(branches(names, len(stages), odd))
    if builder == "hierarchical_sharing":
        some_depth = st.one_of(st.integers(0, 3), st.sampled_from(INTEGERS))
        depths = st.dictionaries(st.sampled_from([*names, "z"]), some_depth, max_size=2)
        options["depths"] = rarely(depths, {names[-1]: 1})
    if len(names) > 1:
        options["depends_on"] = rarely(
            st.sampled_from([{names[1]: names[0]}, {names[1]: names[1]}, {names[1]: "z"}]), None
        )
    some = names[0], names[-1]
    heads = {name: head() for name in names}
    missing = pick(["nan"] * 4 + [-1], [None, "gone"])
    return {
        "inputs": inputs,
        "stages": stages,
        "heads": heads,
        "builder": builder,
        "options": options,
        "compile": {
            "optimizer": pick(["sgd", "adam"]),
            "weighting": pick(["equal", "uncertainty"] if builder == "soft_sharing" else sorted(W.names())),
            "gradients": rarely(st.sampled_from([*GRADIENTS, "all"]), "parameters"),
            "missing": missing,
            "on_nonfinite": pick(ON_NONFINITE),
            "gramian_fraction": rarely(st.sampled_from([0.5, 0.0, *NUMBERS]), 1.0),
            "diagnostics": rarely(st.just(True), False),
            "loss_weights": pick(
                [None, {some[0]: 0.0}, {some[0]: 0.5}],
                [{some[0]: -1.0}, {"z": 1.0}, {some[0]: NAN}, {some[0]: "1"}, {some[0]: np.float32(2)}],
            ),
            "class_weight": pick([None, None, {some[0]: {0: 0.5, 1: 2.0}}, {some[1]: {0: 0.0}}]),
            "sample_space": rarely(st.sampled_from([{some[1]: some[0]}, {some[0]: "z"}]), None),
            "metrics": pick([None, {some[0]: ["accuracy"]}, {some[0]: ["mae"]}], [{some[0]: ["mae", "no_metric"]}]),
        },
        "labels": {name: draw(labels(heads[name]["kind"], missing, odd)) for name in names},
        "sample_weight": pick(["none", "none", "of_examples", "zeros", "of_a_task"], ["of_nobody"]),
        "y": rarely(st.sampled_from(["array", "other_task"]), "dict"),
        "batch_size": draw(st.integers(1, 5)),
    }


@st.composite
def labels(draw, kind, missing, odd):
    """How the labels of a task are given, and what they lack."""
    # A number that is no class is not drawn: TensorFlow raises its own error on CPUs, and gives NaN on GPUs.
    gaps = ["none", "none", "none", "absent", *["minus_one"] * (kind != "sparse" or missing == -1)]
    wide = kind == "sparse" or kind in ("categorical", "kl")
    gaps += ["some", "all"] * (missing == "nan" or (odd and not wide))
    return draw(st.sampled_from(LABELS if odd else ["as_output"])), draw(st.sampled_from(gaps))


@st.composite
def branches(draw, names, depth, odd):
    """A tree of groups; where it is odd, also groups that merge again, leave tasks out or are too few."""
    groups, tree = [list(names)], []
    for _ in range(depth):
        parts = [draw(st.sampled_from([[group], [group[:1], group[1:]]])) for group in groups]
        groups = [group for split in parts for group in split if group]
        tree.append([list(group) for group in groups])
    wrong = [tree[::-1], tree[1:], [], [[["z"]]] * depth, None, [[names[:1]]] * depth]
    return draw(st.sampled_from([tree] * 6 + wrong * odd))
