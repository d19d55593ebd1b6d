"""Weightings on losses against numbers from the papers' equations, by hand and from an independent implementation."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_mtl import weighting as W
from keras_mtl.weighting._present import masked_softmax
from keras_mtl.weighting._simplex import project_to_simplex

GOLDENS = json.loads(pathlib.Path(__file__).with_name("scalarizer_goldens.json").read_text())["scalarizers"]
LOSSES = np.array(GOLDENS["losses"], "float32")
ONES = np.ones(3, "float32")


def f32(*values):
    return np.array(values, "float32")


def gradients(weighting, losses, present):
    """Value of the objective, its gradient in the losses and in the learned variables."""
    losses, present = tf.constant(losses), tf.constant(present)
    with tf.GradientTape() as tape:
        tape.watch(losses)
        value = weighting.objective(losses, weighting.task_weights(losses, present), present)
    by_loss, *by_variable = tape.gradient(value, [losses, *[v.value for v in weighting.trainable_variables]])
    return float(value), by_loss.numpy(), [g.numpy() for g in by_variable]


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("golden", "make", "variable"),
    [
        ("UW(log_var=theta)", W.Uncertainty, "log_var"),
        ("IMTLL(log_scale=theta)", W.IMTLL, "log_scale"),
    ],
)
def test_learned_scales_match_goldens(golden, make, variable):
    golden = GOLDENS[golden]
    weighting = make()
    weighting.build((3,))
    getattr(weighting, variable).assign(golden["theta"])
    value, by_loss, (by_variable,) = gradients(weighting, LOSSES, ONES)
    np.testing.assert_allclose(value, golden["value"], rtol=1e-6)
    np.testing.assert_allclose(by_loss, golden["weights"], rtol=1e-6)
    np.testing.assert_allclose(by_variable, golden["grad_theta"], rtol=1e-5)


def test_uncertainty_kinds_have_the_factors_of_their_noise():
    weighting = W.Uncertainty(kinds={"c": "laplace"})
    weighting.set_tasks(["a", "b", "c"], ["regression", "classification", "regression"])
    weighting.build((3,))
    s = f32(0.5, -1.0, 0.2)
    weighting.log_var.assign(s)
    value, by_loss, (by_s,) = gradients(weighting, LOSSES, ONES)
    a, b = np.array([0.5, 1.0, 1.0]), np.array([0.5, 0.5, 1.0])
    np.testing.assert_allclose(by_loss, a * np.exp(-s), rtol=1e-6)
    np.testing.assert_allclose(value, np.sum(a * np.exp(-s) * LOSSES + b * s), rtol=1e-6)
    np.testing.assert_allclose(by_s, -a * np.exp(-s) * LOSSES + b, rtol=1e-5)


@pytest.mark.parametrize(("kind", "optimum"), [("regression", 4.0), ("classification", 8.0), ("laplace", 4.0)])
def test_uncertainty_is_stationary_where_the_equation_says(kind, optimum):
    weighting = W.Uncertainty(kinds=kind)
    weighting.build((1,))
    weighting.log_var.assign([np.log(optimum)])
    _, _, (by_s,) = gradients(weighting, f32(4.0), f32(1.0))
    np.testing.assert_allclose(by_s, [0.0], atol=1e-6)


@pytest.mark.parametrize("make", [W.Uncertainty, W.IMTLL])
def test_learned_scale_of_an_absent_task_gets_no_gradient(make):
    weighting = make(initial=0.3)
    weighting.build((3,))
    full = gradients(weighting, f32(1.0, 2.0, 0.0), f32(1, 1, 0))
    part = make(initial=0.3)
    part.build((2,))
    np.testing.assert_allclose(full[0], gradients(part, f32(1.0, 2.0), f32(1, 1))[0], rtol=1e-6)
    assert full[1][2] == 0 and full[2][0][2] == 0


@pytest.mark.parametrize("make", [W.Uncertainty, W.IMTLL])
def test_learned_scale_stays_within_limits_and_comes_back(make):
    weighting = make()
    weighting.build((1,))
    optimizer = keras.optimizers.SGD(100.0)
    variable = weighting.trainable_variables[0]
    optimizer.apply([np.array([1.0])], [variable])
    np.testing.assert_allclose(variable.numpy(), [-10.0])
    # At the limit the gradient still flows, so that it can come back.
    _, _, (gradient,) = gradients(weighting, f32(5.0), f32(1.0))
    assert np.all(gradient != 0)
    assert np.all(np.isfinite(gradient))


def test_uncertainty_learns_the_inverse_of_the_loss():
    weighting = W.Uncertainty()
    weighting.build((2,))
    optimizer = keras.optimizers.SGD(0.5)
    losses = f32(0.25, 3.0)
    for _ in range(60):
        optimizer.apply(gradients(weighting, losses, f32(1, 1))[2], weighting.trainable_variables)
    np.testing.assert_allclose(weighting(losses), 1 / (2 * losses), rtol=1e-3)


@pytest.mark.oracle
def test_geometric_matches_golden():
    weighting = W.Geometric()
    np.testing.assert_allclose(weighting(LOSSES), GOLDENS["GeometricMean"]["weights"], rtol=1e-6)
    value, by_loss, _ = gradients(weighting, LOSSES, ONES)
    np.testing.assert_allclose(value, GOLDENS["GeometricMean"]["value"], rtol=1e-6)
    np.testing.assert_allclose(by_loss, GOLDENS["GeometricMean"]["weights"], rtol=1e-6)
    np.testing.assert_allclose(weighting([1.0, 2.0, 3.0]), [0.6057, 0.3029, 0.2019], atol=1e-4)


def test_geometric_leaves_absent_tasks_out_of_the_mean():
    weights = W.Geometric()(f32(2.0, 0.0, 8.0), present=f32(1, 0, 1))
    np.testing.assert_allclose(weights, [1.0, 0.0, 0.25], rtol=1e-6)


def test_geometric_does_not_overflow_where_the_product_would():
    np.testing.assert_allclose(W.Geometric()(f32(1e30, 1e30, 1e30)), [1 / 3] * 3, rtol=1e-5)


def test_scale_invariant_weighs_every_loss_to_one():
    np.testing.assert_allclose(W.ScaleInvariant()(LOSSES), 1 / LOSSES, rtol=1e-6)


@pytest.mark.parametrize("make", [W.Geometric, W.ScaleInvariant, W.STCH])
def test_losses_below_the_floor_are_read_as_the_floor(make):
    weighting = make(floor=1e-3)
    np.testing.assert_allclose(weighting([1.0, -5.0]), make()([1.0, 1e-3]), rtol=1e-5)


@pytest.mark.oracle
def test_stch_plain_matches_goldens():
    golden = GOLDENS["STCH(mu=0.5)"]
    np.testing.assert_allclose(W.STCH(mu=0.5, form="plain")(LOSSES), golden["weights"], rtol=1e-5)
    golden = GOLDENS["STCH(mu=0.5,weights=r,reference=0.1)"]
    weighting = W.STCH(mu=0.5, form="plain", preference=GOLDENS["preference"], reference=0.1)
    np.testing.assert_allclose(weighting(LOSSES), golden["weights"], rtol=1e-5)


def test_stch_log_warms_up_measures_the_nadir_then_smooths():
    weighting = W.STCH(mu=0.5, warmup_epochs=1)
    weighting.build((2,))
    present = f32(1, 1)
    for epoch in ([[7.0, 7.0]], [[1.0, 4.0], [3.0, 6.0]]):  # the second one gives the nadir (2, 5)
        for losses in epoch:
            np.testing.assert_allclose(weighting(f32(*losses)), 1 / f32(*losses), rtol=1e-6)
            weighting.update(f32(*losses), present, present)
        weighting.end_epoch()
    np.testing.assert_allclose(weighting.nadir, [2.0, 5.0], rtol=1e-6)
    losses = np.array([1.5, 4.5])
    share = np.exp(np.log(losses / [2.0, 5.0]) / 0.5)
    np.testing.assert_allclose(weighting(losses), 2 * share / share.sum() / losses, rtol=1e-5)


def test_stch_takes_a_late_tasks_nadir_from_its_first_epoch():
    weighting = W.STCH(warmup_epochs=0)
    weighting.build((2,))
    weighting.update(f32(2.0, 0.0), f32(1, 0), f32(1, 0))
    weighting.end_epoch()
    # At its nadir, as far as anybody knows: both ratios are 1.
    np.testing.assert_allclose(weighting(f32(2.0, 5.0)), [0.5, 0.2], rtol=1e-6)
    weighting.update(f32(1.0, 4.0), f32(1, 1), f32(1, 1))
    weighting.end_epoch()
    np.testing.assert_allclose(weighting.nadir, [2.0, 4.0], rtol=1e-6)


def test_stch_weights_are_the_derivative_of_its_equation():
    weighting = W.STCH(mu=0.3, form="plain", preference=[0.5, 0.3, 0.2])

    def value(losses):
        return 0.3 * np.log(np.sum(np.exp(np.array([0.5, 0.3, 0.2]) * losses / 0.3)))

    losses = np.array([1.0, 2.0, 4.0])
    numeric = [(value(losses + d) - value(losses - d)) / 2e-5 for d in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(weighting(losses), numeric, rtol=1e-5)


@pytest.mark.oracle
def test_dwa_matches_golden():
    golden = GOLDENS["DWA(T=2) after two epochs"]
    weighting = W.DWA(temperature=2.0)
    weighting.build((3,))
    for epoch in golden["epochs"]:
        np.testing.assert_allclose(weighting(LOSSES), ONES)
        for losses in epoch:
            weighting.update(f32(*losses), ONES, ONES)
        weighting.end_epoch({})
    np.testing.assert_allclose(weighting(LOSSES), golden["weights"], rtol=1e-6)


def test_dwa_rates_by_hand():
    weighting = W.DWA()
    weighting.build((3,))
    for losses in (f32(1, 1, 1), f32(0.9, 0.5, 1.1)):
        weighting.update(losses, ONES, ONES)
        weighting.end_epoch()
    np.testing.assert_allclose(weighting(LOSSES), [1.0260, 0.8400, 1.1339], atol=1e-4)
    # An absent task takes nothing from the others, whose weights are the epoch's.
    np.testing.assert_allclose(weighting(LOSSES, present=f32(1, 0, 1)), [1.0260, 0, 1.1339], atol=1e-4)


def test_dwa_of_one_task_weighs_it_by_1():
    """Without the warning that Keras has for a softmax over one entry."""
    weighting = W.DWA()
    weighting.build((1,))
    np.testing.assert_array_equal(weighting(f32(0.5)), [1.0])


def test_dwa_means_are_over_the_batches_that_have_the_task():
    weighting = W.DWA()
    weighting.build((2,))
    weighting.update(f32(2.0, 0.0), f32(1, 0), f32(1, 0))
    weighting.update(f32(4.0, 6.0), f32(1, 1), f32(1, 1))
    weighting.end_epoch()
    np.testing.assert_allclose(weighting.last, [3.0, 6.0])
    weighting.update(f32(1.0, 0.0), f32(1, 0), f32(1, 0))
    weighting.end_epoch()
    np.testing.assert_allclose(weighting.last, [1.0, 6.0])
    np.testing.assert_allclose(weighting.epochs, [2, 1])


@pytest.mark.oracle
def test_famo_matches_golden_steps():
    golden = GOLDENS["FAMO(lr=.025,wd=1e-3)"]
    weighting = W.FAMO(learning_rate=0.025, weight_decay=1e-3)
    assert weighting.second_forward
    weighting.build((3,))
    for losses, after, step in zip(golden["losses"], golden["losses"][1:], golden["steps"], strict=False):
        losses, after = f32(*losses), f32(*after)
        np.testing.assert_allclose(weighting(losses), step["weights"], rtol=2e-6)
        weighting.after_step(losses, after, ONES)
        np.testing.assert_allclose(weighting.logits, step["logits_after"], rtol=1e-4)


def test_famo_first_step_by_hand():
    weighting = W.FAMO(weight_decay=0.0)
    weighting.build((3,))
    np.testing.assert_allclose(weighting([1.0, 2.0, 3.0]), [0.5455, 0.2727, 0.1818], atol=1e-4)
    weighting.after_step(f32(1, 2, 3), f32(0.9, 1.9, 2.5), ONES)
    np.testing.assert_allclose(weighting.momentum, 0.1 * f32(-0.0025, -0.0206, 0.0231), atol=1e-5)
    np.testing.assert_allclose(weighting.logits, [0.025, 0.025, -0.025], atol=1e-5)


def test_famo_next_batch_uses_the_losses_as_they_come():
    """Weights of step t are those that the same-batch form has after measuring L(t-1) -> L(t)."""
    same, following = W.FAMO(), W.FAMO(form="next_batch")
    assert not following.second_forward
    sequence = [f32(*losses) for losses in GOLDENS["FAMO(lr=.025,wd=1e-3)"]["losses"]]
    same.build((3,))
    following.build((3,))
    for step, losses in enumerate(sequence):
        if step:
            same.after_step(sequence[step - 1], losses, ONES)
        np.testing.assert_allclose(following(losses), same(losses), rtol=1e-5)
        following.update(losses, ONES, ONES)
        np.testing.assert_allclose(following.logits, same.logits, rtol=1e-4, atol=1e-7)


def test_famo_next_batch_skips_batches_without_the_task():
    """Two tasks in turn: a task's gain is told from its own last batch."""
    weighting = W.FAMO(form="next_batch")
    weighting.build((2,))
    for losses, present in (((1, 0), (1, 0)), ((0, 3), (0, 1))):
        weighting.update(f32(*losses), f32(*present), f32(*present))
    np.testing.assert_allclose(weighting.steps, [0, 0])
    np.testing.assert_allclose(weighting.last_log, np.log([1.0, 3.0]), atol=1e-6)
    weighting.update(f32(0.5, 3.0), f32(1, 1), f32(1, 1))
    assert weighting.logits.numpy()[0] < weighting.logits.numpy()[1]


def test_famo_counts_losses_from_what_can_be_reached():
    weighting = W.FAMO(reference=[0.5, 0.0])
    np.testing.assert_allclose(weighting([1.0, 0.5]), [0.5, 0.5], rtol=1e-6)


def test_dtp_by_hand():
    weighting = W.DTP(gamma=1.0, ema=0.25)
    weighting.set_tasks(["a", "b"], ["classification"] * 2)
    weighting.build((2,))
    both = f32(1, 1)
    np.testing.assert_allclose(weighting([1.0, 1.0]), [1.0, 1.0])
    weighting.update(both, both, both)
    weighting.end_epoch({"a_accuracy": 0.5, "b_accuracy": 1.0, "loss": 3.0})
    np.testing.assert_allclose(weighting([1.0, 1.0]), [0.3466, 0.0], atol=1e-4)
    weighting.update(both, f32(1, 0), both)
    weighting.end_epoch({"a_accuracy": 0.9, "b_accuracy": 0.0})
    np.testing.assert_allclose(weighting.average, [0.25 * 0.9 + 0.75 * 0.5, 1.0], rtol=1e-6)


def test_dtp_names_the_missing_log():
    weighting = W.DTP(kpi="auc")
    weighting.set_tasks(["left", "right"], ["classification"] * 2)
    weighting.build((2,))
    with pytest.raises(ValueError, match="right_auc"):
        weighting.end_epoch({"left_auc": 0.5})
    nameless = W.DTP()
    nameless.build((2,))
    with pytest.raises(ValueError, match="set_tasks"):
        nameless.end_epoch({"left_accuracy": 0.5})


def test_random_weights_are_a_softmax_of_seeded_normals():
    weighting = W.RandomWeighting(seed=3)
    drawn = np.array([weighting(LOSSES) for _ in range(200)])
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(drawn.mean(axis=0), [1 / 3] * 3, atol=0.06)
    logits = np.log(drawn) - np.log(drawn).mean(axis=1, keepdims=True)
    # Centred standard normals of three tasks have variance 2/3.
    np.testing.assert_allclose(logits.var(), 2 / 3, atol=0.1)
    weighting.reset_state()
    np.testing.assert_allclose(weighting(LOSSES), drawn[0])
    scaled = W.RandomWeighting(seed=3, reduction="sum")
    np.testing.assert_allclose(scaled(LOSSES), 3 * drawn[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: W.STCH(mu=-1), "`mu` should be a finite number, above 0. Received: mu=-1"),
        (lambda: W.STCH(form="x"), "`form`"),
        (lambda: W.STCH(preference=[0.5, -0.6]), "`preference`"),
        (lambda: W.STCH(preference=[0.5, 0.5]).build((3,)), "`preference` should have one value for each of 3"),
        (lambda: W.STCH(warmup_epochs=-1), "`warmup_epochs`"),
        (lambda: W.DWA(temperature=0), "`temperature`"),
        (lambda: W.FAMO(form="other"), "`form`"),
        (lambda: W.FAMO(learning_rate=0), "`learning_rate`"),
        (lambda: W.FAMO(weight_decay=-1), "`weight_decay`"),
        (lambda: W.FAMO(reference=[0.0]).build((2,)), "`reference`"),
        (lambda: W.Geometric(floor=0), "`floor`"),
        (lambda: W.ScaleInvariant(floor=-1), "`floor`"),
        (lambda: W.IMTLL(initial=11), "`initial`"),
        (lambda: W.Uncertainty(initial=11), "`initial`"),
        (lambda: W.Uncertainty(kinds="poisson"), "`kinds`"),
        (lambda: W.Uncertainty(kinds={"a": "poisson"}), "`kinds`"),
        (lambda: W.Uncertainty(kinds={"z": "laplace"}).set_tasks(["a"], ["regression"]), "`kinds`.*z"),
        (lambda: W.Uncertainty(kinds={"a": "laplace"})([1.0]), "set_tasks"),
        (lambda: W.DTP(gamma=-1), "`gamma`"),
        (lambda: W.DTP(ema=0), "`ema`"),
        (lambda: W.DTP(kpi={"a": "auc"}).set_tasks(["a", "b"], ["classification"] * 2), "`kpi`"),
        (lambda: W.RandomWeighting(reduction=None), "`reduction`"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_softmax_leaves_absent_tasks_out():
    logits = np.array([1.0, 500.0, 2.0], "float32")
    np.testing.assert_allclose(masked_softmax(logits, f32(1, 0, 1)), [0.26894, 0, 0.73106], atol=1e-5)
    np.testing.assert_allclose(masked_softmax(logits, f32(0, 0, 0)), [0, 0, 0])


def test_projection_meets_the_optimality_conditions():
    """x is the nearest point iff (p - x) is a constant on x > 0 and no larger elsewhere."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 7):
        for scale in (1e-3, 1.0, 1e4):
            point = (rng.standard_normal(size) * scale).astype("float32")
            x = np.asarray(ops.convert_to_numpy(project_to_simplex(point, np.ones(size, "float32"))))
            np.testing.assert_allclose(x.sum(), 1.0, rtol=1e-5)
            assert x.min() >= 0
            gap = point - x
            level = gap[x > 0].max()
            np.testing.assert_allclose(gap[x > 0], level, atol=1e-5 * max(scale, 1))
            assert np.all(gap[x == 0] <= level + 1e-5 * max(scale, 1))


def test_projection_keeps_absent_tasks_out():
    np.testing.assert_allclose(project_to_simplex(f32(0.6, 9.0, 0.8), f32(1, 0, 1)), [0.4, 0.0, 0.6], atol=1e-6)
