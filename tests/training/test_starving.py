"""A run says, once, that a weighting leaves a task next to no weight."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.weighting import MGDA, PCD, Sequential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 5)).astype("float32")
Y = {"a": X[:, :1], "b": 100 * RNG.normal(size=(16, 1)).astype("float32")}


def warnings_of(weighting, y=None, epochs=3, validation=False, **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(keras.Input((5,)), [layers.Dense(6)], {task: layers.Dense(1) for task in "ab"})
    options = {"loss": "mse", "run_eagerly": True, **options}
    model.compile(keras.optimizers.SGD(1e-5), weighting=weighting, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = (X, Y) if validation else None
        logs = model.fit(X, y or Y, batch_size=8, epochs=epochs, verbose=0, validation_data=data).history
    return [str(w.message) for w in caught if "mean weight" in str(w.message)], logs


@pytest.mark.parametrize("validation", [False, True])
def test_mgda_on_gradients_of_different_sizes(validation):
    (said,), logs = warnings_of("mgda", validation=validation)
    assert logs["b_weight"][0] < 0.01 < logs["a_weight"][0]
    assert said.startswith("The mean weight of ['b'] stayed below 1 % of all tasks' in epoch 1")
    assert "`MGDA(normalize='norm')`" in said and "`loss_weights`" in said


def test_what_it_recommends_helps():
    assert warnings_of(MGDA(normalize="norm"), epochs=1)[0] == []
    assert warnings_of("mgda", epochs=1, loss_weights={"b": 1e-2})[0] == []


@pytest.mark.parametrize("weighting", ["imtl_g", "nash", "scale_invariant", "famo"])
def test_weights_that_make_up_for_sizes_are_no_news(weighting):
    said, logs = warnings_of(weighting, epochs=1)
    weights = [abs(logs[f"{task}_weight"][0]) for task in "ab"]
    assert min(weights) < 0.02 * sum(weights) and said == []


@pytest.mark.parametrize("weighting", [PCD(), Sequential(["uncertainty", PCD()])], ids=["pcd", "sequential"])
def test_a_method_that_means_it_is_no_news(weighting):
    """Tasks that want the same: the primary one does for both."""
    said, logs = warnings_of(weighting, {"a": Y["a"], "b": Y["a"]}, epochs=1)
    assert logs["b_weight"][0] < 0.01 * logs["a_weight"][0] and said == []


@pytest.mark.filterwarnings("ignore:Task 'b' had no labelled example")
def test_tasks_that_have_no_part_in_training_do_not_count():
    absent = {"a": Y["a"], "b": np.full_like(Y["b"], np.nan)}
    assert warnings_of("mgda", absent, epochs=1, missing="nan")[0] == []
    assert warnings_of("mgda", epochs=1, loss_weights={"b": 0.0})[0] == []
    assert warnings_of("equal", epochs=1, loss_weights={"b": 1e-6})[0] == []


def test_methods_on_losses_have_a_remedy_too():
    """A smooth maximum of losses that are not logarithms sees the large one alone."""
    (said,), _ = warnings_of(keras_mtl.weighting.STCH(mu=0.1, form="plain", warmup_epochs=0), epochs=1)
    assert said.startswith("The mean weight of ['a'] stayed below 1 %") and "bring losses to one size" in said


@pytest.mark.filterwarnings("ignore:Task 'c' had no labelled example")
def test_a_task_without_labels_hides_no_other():
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(keras.Input((5,)), [layers.Dense(6)], {task: layers.Dense(1) for task in "abc"})
    model.compile(keras.optimizers.SGD(1e-5), loss="mse", weighting=MGDA(), run_eagerly=True)
    with pytest.warns(UserWarning, match=r"The mean weight of \['b'\] stayed below 1 %"):
        model.fit(X, Y, batch_size=8, verbose=0)
