"""Builders nest: each is another one for the right units, gates or strength."""

import keras
import numpy as np
import pytest

import keras_mtl

TASKS = ("a", "b")


def dense(name, width=6):
    return keras.layers.Dense(width, activation="tanh", name=name)


def stages(built=False):
    made = [dense("low"), dense("high")]
    if built:
        made[0].build((None, 5))
        made[1].build((None, 6))
    return made


def heads(tasks=TASKS):
    return {task: keras.layers.Dense(1, name="out") for task in tasks}


def build(builder, given=None, **options):
    return builder(keras.Input((5,)), given or stages(), heads(), **options)


def x():
    return np.random.default_rng(0).normal(size=(7, 5)).astype("float32")


def weights_by_path(model):
    return {v.path: v for v in model.variables}


def take(model, source, rename=lambda path: path):
    """Gives a model the weights of another one by their paths; all of the other's are taken."""
    theirs = weights_by_path(source)
    taken = set()
    for path, variable in weights_by_path(model).items():
        if rename(path) in theirs:
            variable.assign(theirs[rename(path)])
            taken.add(rename(path))
    assert taken == set(theirs)


def assert_equal_outputs(model, other, rtol=1e-6):
    for task in TASKS:
        np.testing.assert_allclose(model(x())[task], other(x())[task], rtol=rtol, atol=1e-6)


def independent():
    return build(keras_mtl.hard_sharing, shared_depth=0)


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (keras_mtl.cross_stitch, {"per": "channel", "self_weight": 1.0}),
        (keras_mtl.cross_stitch, {"per": "layer", "self_weight": 1.0}),
        (keras_mtl.nddr, {"self_weight": 1.0}),
        (keras_mtl.sluice, {"self_weight": 1.0, "last_weight": 1.0, "orthogonality": 0.0}),
        (keras_mtl.soft_sharing, {"strength": 0.0}),
        (keras_mtl.soft_sharing, {"strength": 1.0}),
        (keras_mtl.cgc, {"shared_experts": 0, "task_experts": 1}),
        (keras_mtl.ple, {"shared_experts": 0, "task_experts": 1}),
        (keras_mtl.branched_sharing, {"branches": [[["a"], ["b"]]] * 2}),
    ],
)
def test_independent_columns(builder, options):
    columns = independent()
    model = build(builder, **options)
    take(model, columns, lambda path: path.replace("expert_1/", ""))
    assert_equal_outputs(model, columns)


@pytest.mark.parametrize(
    ("builder", "options"),
    [
        (keras_mtl.cross_stitch, {"self_weight": 0.5, "copy_weights": True}),
        (keras_mtl.nddr, {"self_weight": 0.5, "copy_weights": True}),
        (keras_mtl.sluice, {"self_weight": 0.25, "subspaces": 1, "layer_stitch": False, "copy_weights": True}),
        (keras_mtl.mmoe, {"experts": 1, "copy_weights": True}),
        (keras_mtl.omoe, {"experts": 1, "copy_weights": True}),
        (keras_mtl.mmoe, {"experts": 3, "copy_weights": True}),
        (keras_mtl.dselect_k, {"experts": 4, "copy_weights": True}),
        (keras_mtl.branched_sharing, {"branches": [[["a", "b"]]] * 2}),
        (keras_mtl.soft_sharing, {"copy_weights": True}),
    ],
)
def test_hard_sharing(builder, options):
    given = stages(built=True)
    shared = build(keras_mtl.hard_sharing, given)
    copied = [layer.get_weights() for layer in given]
    again = stages(built=True)
    for layer, values in zip(again, copied, strict=True):
        layer.set_weights(values)
    model = build(builder, again, **options)
    for task in TASKS:
        target = next(layer for layer in model.layers if layer.name == task)
        target.set_weights(next(layer for layer in shared.layers if layer.name == task).get_weights())
    assert_equal_outputs(model, shared, rtol=1e-5)


def test_sluice_with_one_subspace_is_cross_stitch():
    stitched = build(keras_mtl.cross_stitch, per="layer", self_weight=0.7)
    model = build(keras_mtl.sluice, subspaces=1, self_weight=0.7, layer_stitch=False)
    assert model.count_params() == stitched.count_params()
    for ours, theirs in zip(model.variables, stitched.variables, strict=True):
        ours.assign(keras.ops.reshape(theirs, ours.shape))
    assert_equal_outputs(model, stitched)
    assert not model.losses


def test_nddr_with_diagonal_kernels_is_cross_stitch():
    stitched = build(keras_mtl.cross_stitch, self_weight=0.7)
    for layer in stitched.layers:
        if "units" in layer.name:
            layer.set_weights([np.random.default_rng(1).normal(size=layer.get_weights()[0].shape)])
    model = build(keras_mtl.nddr)
    theirs = weights_by_path(stitched)
    for path, variable in weights_by_path(model).items():
        if path.endswith("nddr/kernel"):
            alpha = keras.ops.convert_to_numpy(theirs[path.replace("nddr/kernel", "stitch/alpha")])
            variable.assign(np.concatenate([np.diag(row) for row in alpha]))
        elif path in theirs:
            variable.assign(theirs[path])
    assert_equal_outputs(model, stitched)


def test_cgc_without_task_experts_is_mmoe():
    experts = build(keras_mtl.mmoe, experts=3)
    model = build(keras_mtl.cgc, shared_experts=3, task_experts=0)
    assert [v.path for v in model.variables] == [v.path for v in experts.variables]
    model.set_weights(experts.get_weights())
    assert_equal_outputs(model, experts)


def test_ple_of_one_level_is_cgc():
    one = build(keras_mtl.cgc, [dense("low")])
    model = build(keras_mtl.ple, [dense("low")])
    model.set_weights(one.get_weights())
    assert_equal_outputs(model, one)


def test_omoe_is_mmoe_with_equal_gates():
    one = build(keras_mtl.omoe, experts=3)
    model = build(keras_mtl.mmoe, experts=3)
    for path, variable in weights_by_path(model).items():
        variable.assign(weights_by_path(one)[path.replace("a/gate", "shared/gate").replace("b/gate", "shared/gate")])
    assert_equal_outputs(model, one)


def test_mtan_with_masks_of_one_is_the_trunk_and_task_convolutions():
    trunk = [
        [keras.layers.Conv2D(3, 3, padding="same", name="a1"), keras.layers.Conv2D(4, 3, padding="same", name="a2")],
        [keras.layers.MaxPooling2D(), keras.layers.Conv2D(5, 3, padding="same", name="b2")],
    ]
    model = keras_mtl.mtan(keras.Input((8, 8, 2)), trunk, heads(), batch_normalization=False)
    for layer in model.layers:
        if "_attention_" in layer.name:
            weights = layer.get_weights()
            layer.set_weights([*weights[:-2], 0 * weights[-2], 0 * weights[-1] + 100.0])
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype("float32")
    shared = images
    for layer in [layer for stack in trunk for layer in stack]:
        shared = layer(shared)
    for task in TASKS:
        conv = next(layer for layer in model.layers if layer.name == f"{task}_features_stage_2")
        head = next(layer for layer in model.layers if layer.name == task)
        np.testing.assert_allclose(model(images)[task], head(conv(shared)), rtol=1e-5, atol=1e-6)


def test_mtan_masks_see_the_first_feature_and_the_previous_one_and_multiply_the_second():
    trunk = [[dense("u1", 3), dense("p1", 4)], [dense("u2", 5), dense("p2", 7)]]
    model = keras_mtl.mtan(keras.Input((5,)), trunk, heads(), batch_normalization=False)
    (u1, p1), (u2, p2) = trunk
    first = u1(x())
    second = p1(first)
    below = u2(second)
    last = p2(below)

    def part(name):
        return next(layer for layer in model.layers if layer.name == name)

    mask = part("a_attention_stage_1")([first])
    feature = part("a_features_stage_1")(mask * second)
    mask = part("a_attention_stage_2")([below, feature])
    expected = part("a")(part("a_features_stage_2")(mask * last))
    np.testing.assert_allclose(model(x())["a"], expected, rtol=1e-5, atol=1e-6)


def test_soft_sharing_at_infinity_is_hard_sharing():
    keras.utils.set_random_seed(1)
    model = build(keras_mtl.soft_sharing, strength=1e3)
    apart = model.sharing_coefficients()["distance/low"][0, 1]
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.0), loss="mse", run_eagerly=True)
    y = {"a": x()[:, :1], "b": -x()[:, :1]}
    for _ in range(20):
        model.train_on_batch(x(), y)
    together = model.sharing_coefficients()["distance/low"][0, 1]
    assert apart > 0.5 and together < 1e-3


def test_soft_sharing_adds_its_distance_to_the_sum_of_the_task_losses():
    model = build(keras_mtl.soft_sharing, strength=[0.5, 0.0])
    columns = [next(layer for layer in model.layers if layer.name == f"{task}_low") for task in TASKS]
    first, second = (layer.get_weights() for layer in columns)
    distance = sum(np.sum((v - w) ** 2) for v, w in zip(first, second, strict=True))
    y = {task: x()[:, :1] for task in TASKS}
    model.compile("sgd", loss="mse", run_eagerly=True)
    logs = model.evaluate(x(), y, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(logs["a_loss"] + logs["b_loss"] + 0.5 * distance, rel=1e-5)


def test_sluice_rows_are_tasks_and_columns_are_blocks():
    unit = keras_mtl.layers.SubspaceStitch(index=1, subspaces=2)
    left, right = np.array([[1.0, 2, 3, 4]]), np.array([[5.0, 6, 7, 8]])
    unit([left, right])
    unit.alpha.assign([[1, 0, 0, 10], [0, 1, 100, 0]])
    # Subspace 1 is left[:2] + 10 right[2:], subspace 2 is left[2:] + 100 right[:2].
    np.testing.assert_allclose(unit([left, right]), [[71.0, 82.0, 503.0, 604.0]])


def test_the_shared_gate_of_ple_sees_all_experts():
    model = build(keras_mtl.ple, shared_experts=1, task_experts=2)
    shapes = {key: value.shape for key, value in model.sharing_coefficients(x()).items()}
    assert shapes == {"a/gate_1": (3,), "b/gate_1": (3,), "shared/gate_1": (5,), "a/gate_2": (3,), "b/gate_2": (3,)}
    serving = {layer.name: model.sharing.tasks_of(layer) for layer in model.layers}
    assert serving["a_expert_1_low"] == TASKS  # through the shared gate
    assert serving["a_expert_1_high"] == ("a",)
    assert serving["shared_expert_1_high"] == TASKS
