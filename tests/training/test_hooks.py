"""What a subclass of `MultiTaskModel` may give: targets that the data do not hold, and the losses that read them."""

import keras
import numpy as np
import pytest

import keras_mtl
from keras_mtl.losses.task_losses import TaskLosses

X = np.array([[1.0], [2.0], [3.0], [4.0]], "float32")


class Doubled(keras_mtl.MultiTaskModel):
    """Its second task learns twice the inputs, which no data set holds."""

    def further_targets(self, x, training):
        return {"twice": 2.0 * x, **({"weight": x[:, 0]} if training else {})}

    def make_task_losses(self, losses, outputs, columns=(), **options):
        return Weighted(losses, outputs, columns=(*columns, "weight"), **options)


class Weighted(TaskLosses):
    """Weighs the examples of all tasks by a column, where there is one."""

    def __call__(self, y, y_pred, sample_weight=None, training=False):
        weight = y.get("weight")
        return super().__call__(y, y_pred, sample_weight if weight is None else weight, training)


def make_model(**options):
    inputs = keras.Input((1,))
    heads = {task: keras.layers.Dense(1, use_bias=False, kernel_initializer="ones") for task in ("once", "twice")}
    model = Doubled(inputs, {task: head(inputs) for task, head in heads.items()})
    model.compile(keras.optimizers.SGD(0.0), loss="mse", **options)
    return model


@pytest.mark.parametrize("eager", [True, False])
def test_labels_and_columns_of_the_models_own(eager):
    model = make_model(run_eagerly=eager)
    logs = model.fit(X, {"once": X + 1.0}, batch_size=4, verbose=0, validation_data=(X, {"once": X + 1.0})).history
    # Errors are 1 in the one task and x in the other; the mean is over examples, and weighs each by x in training.
    assert logs["once_loss"] == pytest.approx([10 / 4]) and logs["twice_loss"] == pytest.approx([100 / 4])
    assert logs["val_once_loss"] == pytest.approx([1.0]) and logs["val_twice_loss"] == pytest.approx([30 / 4])


def test_data_need_no_labels_where_the_model_makes_them():
    model = make_model(run_eagerly=True)
    with pytest.warns(UserWarning, match="Task 'once' had no labelled example"):
        logs = model.fit(X, batch_size=4, verbose=0).history
    assert logs["twice_loss"] == pytest.approx([25.0])
    model = make_model(run_eagerly=True, metrics={"twice": ["mae"]})
    assert model.train_on_batch(X, X, return_dict=True)["once_loss"] == pytest.approx(0.0)  # labels of the first task


def test_labels_that_the_model_makes_itself_are_refused():
    with pytest.raises(ValueError, match=r"`y` should not have \['twice'\], which Doubled makes itself"):
        make_model(run_eagerly=True).fit(X, {"once": X, "twice": X}, verbose=0)


def test_a_refused_compile_leaves_the_model_as_it_was():
    class Refusing(Doubled):
        def make_task_losses(self, losses, outputs, **options):
            if "once" not in losses:
                raise ValueError("`loss` should have 'once'")
            return super().make_task_losses(losses, outputs, **options)

    inputs = keras.Input((1,))
    model = Refusing(inputs, {task: keras.layers.Dense(1)(inputs) for task in ("once", "twice")})
    model.compile("sgd", loss="mse", weighting="uncertainty", loss_weights={"once": 3.0})
    optimizer, weighting = model.optimizer, model.weighting
    with pytest.raises(ValueError, match="should have 'once'"):
        model.compile("adam", loss={"twice": "mse"})
    assert model.optimizer is optimizer and model.weighting is weighting
    assert model.task_weights() == {"once": 3.0, "twice": 1.0}
