"""Every option of a weighting that is a number refuses what is none, by its name."""

import inspect

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl import weighting as W

LISTS = ("leak", "reference", "preference", "initial_losses")


def options():
    """Pairs of a weighting's name and an option whose default is a number, or a list of numbers."""
    for name in W.names():
        for option, parameter in inspect.signature(type(W.get(name)).__init__).parameters.items():
            number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
            if number or option in LISTS:
                yield name, option


@pytest.mark.parametrize("value", ["2", float("nan"), float("inf"), -1e30, True, [[1.0]]])
@pytest.mark.parametrize(("name", "option"), list(options()))
def test_what_is_no_number_is_refused(name, option, value):
    if value == -1e30 and option == "reference":
        pytest.skip("losses may be that low")
    with pytest.raises(ValueError, match=f"`{option}` should be "):
        type(W.get(name))(**{option: value})


@pytest.mark.parametrize(("name", "option"), [pair for pair in options() if pair[1] not in LISTS])
def test_none_is_no_number(name, option):
    with pytest.raises(ValueError, match=f"`{option}` should be "):
        type(W.get(name))(**{option: None})


def test_numbers_of_numpy_are_numbers():
    weighting = W.GradDrop(leak=np.array([0.25, 0.5], "float32"))
    assert weighting.leak == [0.25, 0.5]
    assert W.STCH(warmup_epochs=np.int64(2), mu=np.float32(0.5)).get_config()["warmup_epochs"] == 2


def test_options_are_found():
    found = list(options())
    assert ("graddrop", "leak") in found
    assert ("mgda", "every") in found
    assert len(found) > 40


@pytest.mark.parametrize("value", ["1", None, True, 0.0, 1.5, float("nan")])
def test_a_fraction_that_is_none_is_refused(value):
    model = keras_mtl.hard_sharing(keras.Input((2,)), [keras.layers.Dense(2)], {t: keras.layers.Dense(1) for t in "ab"})
    with pytest.raises(ValueError, match="`gramian_fraction` should be a finite number, above 0 and at most 1"):
        model.compile("sgd", loss="mse", weighting="mgda", gramian_fraction=value)
