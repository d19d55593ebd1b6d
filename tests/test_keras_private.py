"""Each private member of Keras that is used does what `_keras_private` needs of it."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_mtl import _keras_private as private
from tests import upstream

rests_on = functools.partial(upstream.rests_on, "keras")


def bidirectional():
    return keras.layers.Bidirectional(keras.layers.LSTM(2, name="cells"))


@rests_on("Layer._flatten_layers", "layers_of")
def test_layers_of():
    layer = keras.Sequential([keras.layers.Dense(1, name="a"), keras.Sequential([keras.layers.Dense(1, name="b")])])
    found = private.layers_of(layer)
    assert found[0] is layer and {each.name for each in found} >= {"a", "b"} and len({*map(id, found)}) == len(found)


@rests_on("Layer._flatten_layers", "layers_within")
def test_layers_within():
    layer = bidirectional()
    assert private.layers_within(layer) == private.layers_of(layer)[1:]


@rests_on("Layer._flatten_layers", "layers_directly_within")
def test_layers_directly_within():
    layer = bidirectional()
    assert private.layers_directly_within(layer) == [layer.forward_layer, layer.backward_layer]
    assert layer.forward_layer.cell in private.layers_within(layer)


@rests_on("Layer._clear_losses", "forget_losses")
def test_forget_losses():
    inner = keras.layers.ActivityRegularization(l2=1.0)
    outer = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1, kernel_regularizer="l2")])
    outer(np.ones((1, 2), "float32"))
    assert len(outer.losses) == 2
    private.forget_losses(outer)
    assert len(outer.losses) == 1 and not inner.losses  # the regularizer of the kernel stays


@rests_on("Layer._trainable_variables, Layer._non_trainable_variables", "own_variables")
def test_own_variables():
    layer = keras.layers.BatchNormalization()
    layer.build((None, 3))
    layer.trainable = False
    own = private.own_variables(layer)
    assert [v.name for v in own.trainable] == ["gamma", "beta"]
    assert [v.name for v in own.others] == ["moving_mean", "moving_variance"]
    outer = keras.layers.TimeDistributed(layer)
    outer.build((None, 2, 3))
    assert outer.variables and private.own_variables(outer) == ([], [])


@rests_on("Layer._trainable_variables, Layer._non_trainable_variables", "OwnVariables")
def test_what_is_made_trainable_stays_among_the_trainable():
    layer = keras.layers.Dense(1)
    layer.build((None, 2))
    layer.kernel.trainable = False
    assert [v.name for v in private.own_variables(layer).trainable] == ["kernel", "bias"]


@rests_on("Layer._seed_generators", "seed_generators_of")
def test_seed_generators_of():
    layer = keras.layers.Dropout(0.5, seed=1)
    assert private.seed_generators_of(layer) == [layer.seed_generator]
    assert private.seed_generators_of(keras.layers.TimeDistributed(layer)) == []


@rests_on("TextVectorization._lookup_layer", "lookup_table_of")
def test_lookup_table_of():
    layer = keras.layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(["a b", "a"])
    weights = np.asarray(private.lookup_table_of(layer).idf_weights)
    # log(1 + documents / (1 + those with the word)), for two documents, of which two have "a" and one "b".
    np.testing.assert_allclose(weights[1:3], np.log([1 + 2 / 3, 1 + 2 / 2]), rtol=1e-5)
    dense = keras.layers.Dense(1)
    assert private.lookup_table_of(dense) is dense


@rests_on("Layer._assert_input_compatibility", "output_spec")
def test_output_spec():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    inputs = keras.KerasTensor((None, 3))
    calls = len(private.calls_of(layer))
    assert private.output_spec(layer, inputs).shape == (None, 2)
    assert len(private.calls_of(layer)) == calls
    with pytest.raises(ValueError, match="incompatible with the layer"):
        private.output_spec(layer, keras.KerasTensor((None, 4)))


@rests_on("BatchNormalization._moments", "MomentsNormalization")
def test_moments_of_a_batch():
    class Shifted(private.MomentsNormalization):
        def moments(self, inputs, mask):
            mean, variance = super().moments(inputs, mask)
            return mean + 1.0, variance

    layer = Shifted(epsilon=0.0, momentum=0.0)
    x = np.array([[1.0], [3.0]], "float32")  # mean 2, variance 1
    np.testing.assert_allclose(layer(x, training=True), x - 3.0, atol=1e-6)
    np.testing.assert_allclose([layer.moving_mean[0], layer.moving_variance[0]], [3.0, 1.0], atol=1e-6)


@rests_on("KerasTensor._keras_history", "maker_of")
@pytest.mark.filterwarnings("error")
def test_maker_of():
    layer, inputs = keras.layers.Dense(3), keras.Input((3,))
    first = layer(inputs)
    second = layer(first)
    assert private.maker_of(first) == (layer, 0) and private.maker_of(second) == (layer, 1)
    assert isinstance(private.maker_of(inputs).operation, keras.layers.InputLayer)


@rests_on("KerasTensor._keras_history", "Maker")
def test_maker_of_what_an_operation_made():
    maker = private.maker_of(ops.stop_gradient(keras.KerasTensor((1,))))
    assert isinstance(maker, private.Maker) and type(maker.operation).__name__ == "StopGradient"


@rests_on("Operation._inbound_nodes", "calls_of")
def test_calls_of():
    layer, inputs = keras.layers.Dense(3), keras.Input((3,))
    outputs = layer(layer(inputs))
    first, second = private.calls_of(layer)
    assert first.operation is second.operation is layer
    assert first.input_tensors == [inputs] and second.output_tensors == [outputs]
    assert second.input_tensors == first.output_tensors
    assert not first.is_input and private.calls_of(private.maker_of(inputs).operation)[0].is_input
    other = keras.KerasTensor((None, 3))
    args, kwargs = second.arguments.fill_in({id(second.input_tensors[0]): other})
    assert args == (other,) and kwargs == {}


@rests_on("Function._nodes_by_depth", "calls_in")
def test_calls_in():
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(1, name="b")(keras.layers.Dense(3, name="a")(inputs)))
    model.layers[-1](keras.Input((3,)))  # a call that is not the model's
    assert [call.operation.name for call in private.calls_in(model)] == ["x", "a", "b"]


@rests_on("Function._nodes_by_depth", "is_functional")
def test_is_functional():
    inputs = keras.Input((2,))
    assert private.is_functional(keras.Model(inputs, keras.layers.Dense(1)(inputs)))
    assert not private.is_functional(keras.Sequential([inputs, keras.layers.Dense(1)]))
    assert not private.is_functional(keras.Model())


@rests_on("keras.src.backend.get_keras_mask", "mask_of")
def test_mask_of():
    embedded = keras.layers.Embedding(3, 1, mask_zero=True)(np.array([[1, 0]]))
    assert np.array(private.mask_of(embedded)).tolist() == [[True, False]]
    assert private.mask_of(ops.ones(1)) is None


@rests_on("keras.src.backend.set_keras_mask", "with_mask")
def test_with_mask():
    mask = ops.convert_to_tensor([True, False])
    assert private.mask_of(private.with_mask(ops.ones(2), mask)) is mask


@rests_on("`_keras_logits` beside a tensor", "logits_beside")
def test_logits_beside():
    logits = ops.convert_to_tensor([[1.0, 2.0]])
    for activation in (keras.activations.sigmoid, keras.activations.softmax):
        np.testing.assert_array_equal(private.logits_beside(activation(logits)), logits)
    assert private.logits_beside(logits) is None


@rests_on("`_keras_logits` beside a tensor", "with_logits")
def test_with_logits():
    """A loss goes by the logits that were put beside: their sigmoid is 1 in float32, and log(1 - 1) no number."""
    changed = private.with_logits(ops.ones((1, 1)), ops.full((1, 1), 30.0))
    loss = keras.losses.BinaryCrossentropy()(np.zeros((1, 1)), changed)
    np.testing.assert_allclose(loss, 30.0, rtol=1e-5)  # log(1 + e^30)


@rests_on("TensorFlowTrainer._maybe_symbolic_build", "ModelBuiltBefore")
def test_a_model_built_before_has_nothing_built():
    """Under a strategy Keras looks at a batch before the first step, by that method and no other."""
    looked = []

    class Model(private.ModelBuiltBefore):
        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            looked.append((iterator is not None, data_batch is not None))
            super()._maybe_symbolic_build(iterator, data_batch)

    inputs = keras.Input((1,))
    model = Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", run_eagerly=True)
    x = y = np.ones((2, 1), "float32")
    model.fit(x, y, verbose=0)
    model.evaluate(x, y, verbose=0)
    model.train_on_batch(x, y)
    model.test_on_batch(x, y)
    assert looked == [(True, False), (True, False), (False, True), (False, True)]


@rests_on("Trainer._loss_tracker", "loss_tracker_of")
def test_loss_tracker_of():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    assert private.loss_tracker_of(model) is None
    model.compile("sgd", "mse")
    assert private.loss_tracker_of(model) is model.metrics[0] and model.metrics[0].name == "loss"


@rests_on("MeanMetricWrapper._fn, MeanMetricWrapper._fn_kwargs", "function_of")
def test_function_of():
    metric = keras.metrics.BinaryAccuracy(threshold=0.3)
    values = private.function_of(metric)(np.array([[1.0], [1.0]]), np.array([[0.4], [0.2]]))
    assert np.array(values).ravel().tolist() == [1.0, 0.0]


@rests_on("Optimizer._iterations", "micro_steps_of")
def test_micro_steps_of():
    optimizer, variable = keras.optimizers.SGD(gradient_accumulation_steps=2), keras.Variable([1.0])
    for _ in range(3):
        optimizer.apply([ops.ones(1)], [variable])
    assert int(private.micro_steps_of(optimizer)) == 3 and int(optimizer.iterations) == 1


@rests_on("Optimizer._trainable_variables, Optimizer._accumulated_gradients", "accumulated_gradients")
def test_accumulated_gradients():
    first, second = keras.Variable([1.0]), keras.Variable([1.0, 2.0])
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=2)
    optimizer.apply([ops.full((1,), 3.0), ops.full((2,), 5.0)], [first, second])
    pairs = private.accumulated_gradients(optimizer)
    assert pairs[0][0] is first and pairs[1][0] is second
    assert [np.array(gradient).tolist() for _, gradient in pairs] == [[3.0], [5.0, 5.0]]
    plain = keras.optimizers.SGD()
    plain.build([first])
    assert private.accumulated_gradients(plain) == []


@rests_on("Optimizer._trainable_variables", "trained_by")
def test_trained_by():
    variables = [keras.Variable([1.0]), keras.Variable([1.0, 2.0])]
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    optimizer.build(variables)
    assert [v is w for v, w in zip(private.trained_by(optimizer), variables, strict=True)] == [True, True]


@rests_on("keras.src.backend.get_stateless_scope", "current_scope")
def test_current_scope():
    variable = keras.Variable(1.0)
    assert private.current_scope() is None
    with keras.StatelessScope() as scope:
        variable.assign(2.0)
        assert private.current_scope() is scope
        assert {name: float(value) for name, value in scope.state_mapping.items()} == {id(variable): 2.0}


@rests_on("Optimizer._exclude_from_weight_decay, ..._pattern", "exclude_from_weight_decay")
def test_exclude_from_weight_decay():
    variables = [keras.Variable([1.0], name=name) for name in ("kernel", "bias", "listed", "added")]
    optimizer = keras.optimizers.AdamW(learning_rate=1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[variables[2]], var_names=["bias"])
    private.exclude_from_weight_decay(optimizer, [variables[3]])
    optimizer.apply([ops.zeros(1)] * 4, variables)
    assert [float(v[0]) for v in variables] == [0.5, 1.0, 1.0, 1.0]


@rests_on("keras.src.utils.rng_utils.get_random_seed", "global_seed")
def test_global_seed():
    keras.utils.set_random_seed(7)
    assert private.global_seed() == 7


@rests_on("_fn_kwargs of losses and metrics", "OPTIONS_OF_A_FUNCTION")
def test_options_of_a_function():
    for made in (keras.metrics.BinaryAccuracy(threshold=0.3), keras.losses.Huber(delta=0.3)):
        assert 0.3 in vars(made)[private.OPTIONS_OF_A_FUNCTION].values()


def test_all_is_tested():
    assert upstream.untested(private, list(globals().values())) == set()


def test_a_change_upstream_is_told(monkeypatch):
    """What the tests above would say, had Keras renamed a member."""
    monkeypatch.delattr(keras.layers.Layer, "_flatten_layers")
    with pytest.raises(pytest.fail.Exception, match=r"keras 3\S+ has changed Layer._flatten_layers.*`layers_of`.*What"):
        test_layers_of()
