"""Group metrics against counts in NumPy, standing alone and as metrics of a task."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_mtl
from keras_mtl.fairness import (
    DemographicParityGap,
    EqualizedOddsGap,
    EqualOpportunityGap,
    average_relative_error,
    average_relative_gap,
    group_rates,
)

RNG = np.random.default_rng(0)
N = 60
LABELS = RNG.integers(0, 2, N)
SCORES = RNG.random(N).astype("float32")
GROUPS = RNG.integers(0, 3, N)
METRICS = [DemographicParityGap, EqualOpportunityGap, EqualizedOddsGap]


def gap_by_hand(rates):
    return max(abs(a - b) for a in rates for b in rates)


def by_hand(kind, labels, scores, groups, threshold=0.5, weights=None):
    weights = np.ones(len(labels)) if weights is None else weights

    def rates(part):
        return [
            np.average(scores[part & (groups == g)] > threshold, weights=weights[part & (groups == g)])
            for g in sorted(set(groups.tolist()) - {-1})
        ]

    everyone, positives, negatives = np.ones(len(labels), bool), labels == 1, labels == 0
    if kind is DemographicParityGap:
        return gap_by_hand(rates(everyone))
    opportunity = gap_by_hand(rates(positives))
    return opportunity if kind is EqualOpportunityGap else max(opportunity, gap_by_hand(rates(negatives)))


@pytest.mark.oracle
@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_gaps_of_three_groups_over_batches(kind, shape):
    metric = kind("g", groups=3, threshold=0.4)
    labels, scores, groups = (values.reshape(shape) for values in (LABELS, SCORES, GROUPS))
    for part in (slice(0, 13), slice(13, N)):
        metric.update_state(labels[part], scores[part], groups=groups[part])
    assert float(metric.result()) == pytest.approx(by_hand(kind, LABELS, SCORES, GROUPS, 0.4))
    metric.reset_state()
    assert np.isnan(float(metric.result()))


@pytest.mark.oracle
@pytest.mark.parametrize("kind", METRICS)
def test_weights_and_unknown_groups(kind):
    groups = np.where(np.arange(N) % 5 == 0, np.nan, np.minimum(GROUPS, 1)).astype("float32")
    weights = RNG.random(N)
    metric = kind("g")
    metric.update_state(LABELS, SCORES, sample_weight=weights, groups=groups)
    known = ~np.isnan(groups)
    expected = by_hand(kind, LABELS[known], SCORES[known], groups[known].astype(int), weights=weights[known])
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("one_hot", [False, True])
def test_one_class_of_several_from_logits(one_hot):
    logits = RNG.normal(size=(N, 3)).astype("float32")
    classes = RNG.integers(0, 3, N)
    metric = EqualOpportunityGap("g", class_id=2, from_logits=True, threshold=0.3, groups=3)
    labels = np.eye(3)[classes] if one_hot else classes
    metric.update_state(labels, logits, groups=GROUPS)
    scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[:, 2]
    assert float(metric.result()) == pytest.approx(by_hand(EqualOpportunityGap, classes == 2, scores, GROUPS, 0.3))


def test_a_group_without_members_makes_the_gap_unknown():
    metric = DemographicParityGap("g", groups=3)
    metric.update_state(LABELS, SCORES, groups=np.minimum(GROUPS, 1))
    assert np.isnan(float(metric.result()))
    odds = EqualizedOddsGap("g")
    odds.update_state(np.array([0, 1, 0]), np.array([0.2, 0.9, 0.9]), groups=np.array([0, 0, 1]))
    assert np.isnan(float(odds.result()))  # group 1 has no positives


def test_group_rates_say_the_same_as_the_metrics():
    rates = group_rates(LABELS, SCORES, GROUPS, threshold=0.4)
    for kind, name in zip(METRICS, ("demographic_parity", "equal_opportunity", "equalized_odds"), strict=True):
        assert rates[f"{name}_gap"] == pytest.approx(by_hand(kind, LABELS, SCORES, GROUPS, 0.4))
    assert rates["count"] == {g: int(np.sum(g == GROUPS)) for g in range(3)}
    missing = np.where(np.arange(N) < 20, np.nan, LABELS)
    assert group_rates(missing, SCORES, GROUPS) == group_rates(LABELS[20:], SCORES[20:], GROUPS[20:])


@pytest.mark.oracle
def test_summaries_by_hand():
    assert average_relative_gap({"a": 0.1, "b": 0.3}, {"a": 0.4, "b": 0.2}) == pytest.approx((0.25 + 1.5) / 2)
    assert average_relative_error({"a": 0.1, "b": 0.3}, {"a": 0.1, "b": 0.2}) == pytest.approx((1 + 1.5) / 2)


def model_with(heads, **options):
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(keras.Input((4,)), [layers.Dense(6, activation="tanh")], heads)
    model.compile(keras.optimizers.SGD(0.0), **options)
    return model


X = RNG.normal(size=(N, 4)).astype("float32")


def two_tasks(**options):
    heads = {"hired": layers.Dense(1), "kind": layers.Dense(3, activation="softmax")}
    loss = {"hired": keras.losses.BinaryCrossentropy(from_logits=True), "kind": "crossentropy"}
    return model_with(heads, **{"loss": loss, "missing": {"hired": "nan"}, **options})


def test_as_metrics_of_two_tasks_with_gaps_in_the_labels_and_a_column():
    metrics = {
        "hired": [DemographicParityGap("sex", from_logits=True), "accuracy"],
        "kind": [EqualizedOddsGap("sex", class_id=1, threshold=0.33)],
    }
    model = two_tasks(metrics=metrics, weighted_metrics={"hired": [DemographicParityGap("sex", from_logits=True)]})
    sex = GROUPS - 1  # -1: unknown
    weights = RNG.random(N).astype("float32")
    kinds = RNG.integers(0, 3, N)
    y = {"hired": np.where(np.arange(N) % 4 == 0, np.nan, LABELS), "kind": kinds, "sex": sex}
    predicted = {task: np.array(output) for task, output in model(X).items()}
    scores = 1 / (1 + np.exp(-predicted["hired"][:, 0]))
    in_both = ~np.isnan(y["hired"]) & (sex >= 0)
    hired = (LABELS[in_both], scores[in_both], sex[in_both])
    known = sex >= 0
    expected = {
        "hired_demographic_parity_gap": by_hand(DemographicParityGap, *hired),
        "hired_weighted_demographic_parity_gap": by_hand(DemographicParityGap, *hired, weights=weights[in_both]),
        "kind_equalized_odds_gap": by_hand(
            EqualizedOddsGap, kinds[known] == 1, predicted["kind"][known, 1], sex[known], 0.33
        ),
    }
    options = {"sample_weight": {"hired": weights}, "batch_size": 7, "verbose": 0}
    fitted = {name: values[-1] for name, values in model.fit(X, y, **options).history.items()}
    evaluated = model.evaluate(X, y, return_dict=True, **options)
    for name, value in expected.items():
        assert value > 0 and fitted[name] == pytest.approx(value, rel=1e-5), name
        assert evaluated[name] == pytest.approx(value, rel=1e-5), name


def test_the_column_is_not_needed_to_evaluate_or_predict():
    model = two_tasks(metrics={"hired": [DemographicParityGap("sex", from_logits=True)]})
    logs = model.evaluate(X, {"hired": LABELS, "kind": GROUPS}, return_dict=True, verbose=0)
    assert np.isnan(logs["hired_demographic_parity_gap"]) and np.isfinite(logs["loss"])
    assert set(model(X)) == {"hired", "kind"}
    assert len(model.inputs) == 1


def test_a_task_may_be_the_column():
    model = two_tasks(metrics={"hired": [DemographicParityGap("kind", from_logits=True, groups=3)]})
    logs = model.evaluate(X, {"hired": LABELS, "kind": GROUPS}, return_dict=True, verbose=0)
    scores = np.array(model(X)["hired"])[:, 0]
    assert logs["hired_demographic_parity_gap"] == pytest.approx(
        by_hand(DemographicParityGap, LABELS, scores, GROUPS, 0)
    )
    assert logs["kind_loss"] > 0


def test_survive_save_and_load(tmp_path):
    model = two_tasks(
        metrics={"hired": [EqualizedOddsGap("sex", from_logits=True, threshold=0.4, name="odds")]}, run_eagerly=True
    )
    y = {"hired": LABELS, "kind": GROUPS, "sex": LABELS[::-1].copy()}
    model.fit(X, y, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    logs = again.evaluate(X, y, return_dict=True, verbose=0)
    assert logs == model.evaluate(X, y, return_dict=True, verbose=0) and logs["hired_odds"] > 0


@pytest.mark.parametrize(
    ("sex", "says"),
    [
        (np.zeros(N, int), r"'sex', which task 'hired' reads, should have members of all 2 groups.*group \[1\]"),
        (
            GROUPS,
            r"should have the groups 0 to 1, and less than 0 or NaN where .* unknown. Received: \[2.0\]",
        ),
        (np.array(["f", "m"] * (N // 2)), r"should have one number for each example. Received: an array of <U1"),
        (np.zeros((N, 2)), r"should have one number for each example. Received: .* shape \(60, 2\)"),
    ],
)
def test_fit_refuses_columns_that_are_no_groups(sex, says):
    model = two_tasks(metrics={"hired": [DemographicParityGap("sex", from_logits=True)]})
    with pytest.raises(ValueError, match=says):
        model.fit(X, {"hired": LABELS, "kind": GROUPS, "sex": sex}, verbose=0)


def test_fit_names_the_columns_that_it_knows():
    model = two_tasks(metrics={"hired": [DemographicParityGap("sex", from_logits=True)]})
    with pytest.raises(ValueError, match=r"should be tasks: .*, or columns that metrics .*'sex',\).*\['race'\]"):
        model.fit(X, {"hired": LABELS, "kind": GROUPS, "race": GROUPS}, verbose=0)


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        (
            {"hired": [DemographicParityGap("sex")]},
            r"`from_logits` of Metric '.*' should be True.*task 'hired'",
        ),
        (
            {"kind": [DemographicParityGap("sex")]},
            r"one output for each example, or .*task 'kind'.*\(None, 3\)",
        ),
        ({"kind": [DemographicParityGap("sex", class_id=3)]}, r"`class_id` of .* from 0 to 2. Received: 3"),
    ],
)
def test_compile_refuses(metrics, says):
    with pytest.raises(ValueError, match=says):
        two_tasks(metrics=metrics)


def test_rates_by_label_need_classes():
    with pytest.raises(ValueError, match=r"Metric 'equal_opportunity_gap' looks at examples by their class.*'price'"):
        model_with({"price": layers.Dense(1)}, loss="mse", metrics={"price": [EqualOpportunityGap("sex")]})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: DemographicParityGap(""), r"`column` should be a key of `y`"),
        (lambda: DemographicParityGap("sex", groups=1), r"`groups` should be an integer of at least 2"),
        (lambda: DemographicParityGap("sex").update_state([0], [0.5]), r"should be given `groups`"),
        (lambda: group_rates([0, 1], [0.1, 0.2], [0, 0]), r"members of two groups or more. Received: groups \[0\]"),
        (lambda: group_rates([0, 1], [0.1, 0.2], [0]), r"one value for each example. Received: 2, 2 and 1 values"),
        (lambda: average_relative_gap({"a": 1.0}, {"b": 1.0}), r"`gaps` and `single_task` should have the same tasks"),
        (
            lambda: average_relative_error({"a": 1.0}, {"a": 0.0}),
            r"`single_task` should have positive.*\{'a': 0.0\}",
        ),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_logits_of_one_class_are_read_as_that_class():
    """Without the warning that Keras has for a softmax over one entry."""
    metric = DemographicParityGap("g", class_id=0, from_logits=True, groups=2)
    metric.update_state(np.array([[1.0], [1.0]]), np.array([[3.0], [-2.0]]), groups=np.array([0, 1]))
    assert float(metric.result()) == 0.0
