"""Options that are true or false: every one of the public API says so by its name."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl._checks import check_boolean

MODULES = ("", *(name for _, name, package in pkgutil.iter_modules(keras_mtl.__path__) if package))
# What a callable needs before it looks at the option; else `None` for each argument.
NEEDED = {
    "Adversary": {"column": "group"},
    "AttentionMask": {"channels": 2},
    "CacheAttention": {"num_heads": 1},
    "CosineScores": {},
    "Curriculum": {"order": ["a", "b"]},
    "DSelectKGate": {"num_experts": 4, "k": 2},
    "Grouping": {"groups": [["a"]]},
    "GumbelGate": {"num_options": 2},
    "LabelwiseAUC": {"num_labels": 2},
    "NDDR": {"index": 0},
    "soft_targets": {"outputs": [np.ones((2, 3))], "kind": "softmax"},
}
# Keras' own layer takes these.
KERAS = {"SafeBatchNormalization"}


def public():
    found = {}
    for module in [f"keras_mtl.{name}".rstrip(".") for name in MODULES]:
        module = importlib.import_module(module)
        for name in getattr(module, "__all__", ()):
            one = getattr(module, name)
            if callable(one) and one.__module__.startswith("keras_mtl") and name not in KERAS:
                found[name] = one
    return found


def options():
    for name, one in public().items():
        for option in inspect.signature(one).parameters.values():
            if isinstance(option.default, bool):
                yield pytest.param(one, option.name, id=f"{name}-{option.name}")


@pytest.mark.parametrize(("one", "option"), list(options()))
def test_strings_are_no_booleans(one, option):
    parameters = inspect.signature(one).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic]
    given = {**dict.fromkeys(needed), **NEEDED.get(one.__name__, {})}
    with pytest.raises(ValueError, match=f"`{option}` should be True or False. Received: {option}='False'"):
        one(**{**given, option: "False"})


BUILDERS = [name for name, one in public().items() if "copy_weights" in inspect.signature(one).parameters]


@pytest.mark.parametrize("name", BUILDERS)
def test_copy_weights_is_none_or_a_boolean(name):
    one = public()[name]
    needed = {
        "branched_sharing": {"branches": [[["a", "b"]]] * 2},
        "branch_by_affinity": {"train": print, "validation_data": (np.ones(2), {"a": np.ones(2), "b": np.ones(2)})},
        "SharingHyperModel": {"compile": {"loss": "mse"}},
        "pepnet": {"prior": layers.Dense(2)},
    }
    stages = [layers.Dense(4), layers.Dense(4)]
    heads = {"a": layers.Dense(2, name="a"), "b": layers.Dense(2, name="b")}
    with pytest.raises(ValueError, match=r"`copy_weights` should be `None`, True or False. Received: .*'False'"):
        one(keras.Input((4,)), stages, heads, copy_weights="False", **needed.get(name, {}))


def test_at_least_the_builders_with_columns_are_in_the_table():
    assert {"hard_sharing", "soft_sharing", "mmoe", "ple", "learning_to_branch", "distral"} <= set(BUILDERS)


def test_numpys_booleans_are_some_and_numbers_are_none():
    assert check_boolean(np.True_, "x") is True and check_boolean(None, "x", or_none=True) is None
    for wrong in (0, 1, 1.0, None, "True", np.ones(1, bool)):
        with pytest.raises(ValueError, match=r"`x` should be True or False"):
            check_boolean(wrong, "x")


@pytest.mark.parametrize("metric", ["DemographicParityGap", "EqualOpportunityGap", "EqualizedOddsGap", "ParityPenalty"])
def test_options_that_are_passed_on_are_checked_too(metric):
    with pytest.raises(ValueError, match=r"`from_logits` should be True or False"):
        getattr(keras_mtl.fairness, metric)("group", from_logits="False")
