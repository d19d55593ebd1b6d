"""What samplers say, against numbers worked out apart from the code, and how often tasks are drawn."""

import json
import tracemalloc

import numpy as np
import pytest
from scipy import stats as statistics

from keras_mtl import data
from keras_mtl.data import _chooser as chooser_module
from keras_mtl.data._chooser import Chooser
from keras_mtl.data.samplers._meta_policy import MetaPolicy

# Training sizes of GLUE (CoLA, MNLI, MRPC, QNLI, QQP, SST, STS, RTE), with both orders of the pairs in MRPC and STS.
GLUE = (8551, 392702, 7336, 108436, 363870, 67350, 11498, 2490)
GLUE_TABLE = {
    1: (0.0089, 0.4081, 0.0076, 0.1127, 0.3782, 0.07, 0.0119, 0.0026),
    4 / 3: (0.0203, 0.3581, 0.0181, 0.1364, 0.3382, 0.0954, 0.0253, 0.008),
    2: (0.0429, 0.2909, 0.0398, 0.1529, 0.2801, 0.1205, 0.0498, 0.0232),
    4: (0.08, 0.2084, 0.077, 0.151, 0.2044, 0.1341, 0.0862, 0.0588),
}


def stats_of(*sizes, **options):
    return data.TaskStats(dict(zip("abcdefgh", sizes, strict=False)), **options)


def prepared(sampler, stats):
    sampler.prepare(stats)
    return sampler


def results(stats, sampler, rounds, log="accuracy"):
    """Feeds results, one dict from task to value after the other."""
    for values in rounds:
        for task, value in values.items():
            index = stats.tasks.index(task)
            stats.add(f"{task}_{log}", value)
            stats.trained[index] += 1
            sampler.observe(index, stats)


@pytest.mark.oracle
@pytest.mark.parametrize("temperature", GLUE_TABLE)
def test_temperature_table_of_glue(temperature):
    found = data.Temperature(temperature).probabilities(0, stats_of(*GLUE))
    np.testing.assert_allclose(found, GLUE_TABLE[temperature], atol=5e-5)
    if temperature == 1:
        np.testing.assert_allclose(found, data.Proportional().probabilities(0, stats_of(*GLUE)))


def test_cap_is_taken_before_the_power():
    # min(n, 10000)^(1/2): 100, 30, 10
    found = data.Temperature(2, cap=10_000).probabilities(0, stats_of(1_000_000, 900, 100))
    np.testing.assert_allclose(found, np.array([100, 30, 10]) / 140)
    np.testing.assert_allclose(data.Proportional(cap=300).probabilities(0, stats_of(900, 100)), [0.75, 0.25])


@pytest.mark.oracle
def test_annealing_begins_by_size():
    """Powers 1, 0.6, 0.2 in three epochs; counting epochs from 0 would begin at 1.4, which gives 0.1206 for task a."""
    stats = stats_of(1, 2, 3, steps_per_epoch=4)
    sampler = data.Annealed(epochs=3)
    for step, power in ((0, 1.0), (3, 1.0), (4, 0.6), (8, 0.2), (100, 0.2)):
        expected = np.array([1.0, 2.0**power, 3.0**power])
        np.testing.assert_allclose(sampler.probabilities(step, stats), expected / expected.sum())
    np.testing.assert_allclose(data.Annealed(epochs=1).probabilities(0, stats), [1 / 6, 2 / 6, 3 / 6])


def chi_square(sampler, sizes, steps, seeds):
    """Chi-square of the counts of all tasks, summed over seeds, and its degrees of freedom."""
    total = 0.0
    for seed in range(seeds):
        stats = stats_of(*sizes, steps_per_epoch=steps)
        expected = steps * np.asarray(sampler.probabilities(0, stats))
        counts = np.bincount(Chooser(sampler, stats, seed).block(), minlength=len(sizes))
        assert counts.sum() == steps
        total += np.sum((counts - expected) ** 2 / expected)
    return total, seeds * (len(sizes) - 1)


@pytest.mark.parametrize(
    "sampler",
    [data.Uniform(), data.Proportional(), data.Temperature(4), data.Fixed({"a": 0.7, "b": 0.2, "c": 0.1})],
    ids=lambda sampler: type(sampler).__name__,
)
def test_counts_are_as_likely_as_the_probabilities_say(sampler):
    total, freedom = chi_square(sampler, (600, 300, 100), 2000, 30)
    # Both tails: counts that are too regular would be wrong too.
    assert 0.001 < statistics.chi2.sf(total, freedom) < 0.999


def test_chi_square_can_fail():
    class Liar(data.Uniform):
        calls = 0

        def probabilities(self, step, stats):
            self.calls += 1
            return [1 / 3] * 3 if self.calls % 2 else [0.36, 0.32, 0.32]

    total, freedom = chi_square(Liar(), (1, 1, 1), 2000, 30)
    assert statistics.chi2.sf(total, freedom) < 0.001


@pytest.mark.parametrize("sampler", [data.Proportional(), data.Annealed(epochs=2)], ids=["fixed", "by step"])
def test_long_epochs_come_in_blocks_that_draw_the_same(sampler, monkeypatch):
    def draws(at_once):
        monkeypatch.setattr(chooser_module, "AT_ONCE", at_once)
        stats = stats_of(600, 300, 100, steps_per_epoch=50)
        chooser, epochs, sizes = Chooser(sampler, stats, seed=0), [], []
        for _ in range(2):
            drawn = []
            while len(drawn) < 50:
                block = chooser.block().tolist()
                sizes.append(len(block))
                drawn += block
            epochs.append((drawn, [values.tolist() for values in chooser.take_record()]))
        assert chooser.take_record() is None and stats.counts.sum() == 100
        return epochs, sizes

    (whole, one), (parts, many) = draws(10**6), draws(3 * 7)
    assert (one, many) == ([50, 50], [*[7] * 7, 1] * 2)
    for (drawn, record), (same, other) in zip(whole, parts, strict=True):
        assert drawn == same and record[0] == other[0]
        np.testing.assert_allclose(record[1], other[1], rtol=1e-12)


def test_a_long_epoch_of_many_tasks_takes_no_table_of_it():
    stats = stats_of(*[10] * 128, steps_per_epoch=10**6)
    chooser = Chooser(data.Uniform(), stats, seed=0)
    tracemalloc.start()
    try:
        assert 1 <= len(chooser.block()) < 10**6
        assert tracemalloc.get_traced_memory()[1] < 2**23  # the whole table has 2**30 bytes
    finally:
        tracemalloc.stop()


def test_counts_follow_probabilities_that_change():
    stats = stats_of(900, 90, 10, steps_per_epoch=4000)
    chooser = Chooser(data.Annealed(epochs=3), stats, seed=0)
    for epoch in range(3):
        expected = 4000 * chooser.probabilities()
        counts = np.bincount(chooser.block(), minlength=3)
        assert statistics.chi2.sf(np.sum((counts - expected) ** 2 / expected), 2) > 0.001, epoch
    assert stats.counts.sum() == 12_000


def test_task_of_probability_zero_is_never_drawn():
    for p in ([0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]):
        chooser = Chooser(data.Fixed(dict(zip("abc", p, strict=True))), stats_of(1, 1, 1, steps_per_epoch=5000), 0)
        counts = np.bincount(chooser.block(), minlength=3)
        assert ((counts > 0) == (np.array(p) > 0)).all()


def test_round_robin_takes_turns_across_epochs():
    chooser = Chooser(data.RoundRobin(), stats_of(1, 1, 1, steps_per_epoch=4), 0)
    assert [*chooser.block(), *chooser.block()] == [0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.oracle
def test_a5c_by_hand():
    stats = stats_of(1, 1)
    sampler = prepared(data.A5C({"a": 0.8, "b": 0.5}, window=2, temperature=0.25), stats)
    results(stats, sampler, [{"a": 0.1, "b": 0.1}])
    assert sampler.probabilities(0, stats).tolist() == [0.5, 0.5]  # not two results each yet
    results(stats, sampler, [{"a": 0.5, "b": 0.3}, {"a": 0.7, "b": 0.4}])
    # means of the last two: 0.6 and 0.35; m: 0.25 and 0.3; exp(1) and exp(1.2)
    expected = np.array([np.exp(1.0), np.exp(1.2)])
    np.testing.assert_allclose(sampler.probabilities(0, stats), expected / expected.sum())
    floored = data.A5C({"a": 0.8, "b": 0.5}, window=2, temperature=0.001, minimum=0.1)
    np.testing.assert_allclose(floored.probabilities(0, stats), [0.1, 0.9], atol=1e-6)


def test_logs_that_should_be_small_turn_round():
    stats = stats_of(1, 1)
    sampler = prepared(data.A5C({"a": 0.5, "b": 1.0}, monitor="{task}_loss", window=1, temperature=1.0), stats)
    results(stats, sampler, [{"a": 1.0, "b": 1.0}], log="loss")
    # a is at twice its target, 1 - 0.5 / 1 = 0.5 away; b is there
    np.testing.assert_allclose(sampler.probabilities(0, stats)[0], np.exp(0.5) / (np.exp(0.5) + 1))


@pytest.mark.oracle
def test_ua4c_by_hand():
    stats = stats_of(1, 1)
    sampler = prepared(data.UA4C({"a": 1.0, "b": 1.0}, discount=0.5, exploration=2.0), stats)
    assert sampler.probabilities(0, stats).tolist() == [1.0, 0.0]
    stats.counts[0] = 1  # drawn, and the result is not in yet
    assert sampler.probabilities(1, stats).tolist() == [0.0, 1.0]
    results(stats, sampler, [{"a": 0.6}, {"b": 0.9}, {"a": 0.8}])
    # payments 0.4, 0.1, 0.2; a: X = 0.4 / 4 + 0.2 = 0.3, n = 1.25; b: X = 0.05, n = 0.5; sum n = 1.75
    x = np.array([0.3 / 1.25, 0.05 / 0.5])
    bounds = x + 2 * np.sqrt(x * (1 - x) * np.log(1.75) / np.array([1.25, 0.5]))
    np.testing.assert_allclose(sampler.bounds(), bounds)
    assert sampler.probabilities(3, stats).tolist() == np.eye(2)[np.argmax(bounds)].tolist()
    results(stats, sampler, [{"a": 1.5}] * 2)  # past the target: pays nothing, and no less
    assert sampler.bounds()[0] > 0


@pytest.mark.oracle
def test_ea4c_reward_by_hand():
    stats = stats_of(1, 1, 1)
    sampler = prepared(data.EA4C({"a": 0.5, "b": 1.0, "c": 0.8}, window=2, weight=0.25, worst=2), stats)
    results(stats, sampler, [{"a": 0.6, "b": 0.2, "c": 0.4}, {"a": 0.6, "b": 0.4, "c": 0.4}])
    # over targets: 1.2, 0.3, 0.5; the two worst: 0.3 and 0.5
    assert sampler.reward(1, stats) == pytest.approx(0.25 * 0.7 + 0.75 * 0.4)
    assert sampler.reward(0, stats) == pytest.approx(0.25 * -0.2 + 0.75 * 0.4)


def test_ea4c_learns_which_task_pays():
    """Training task b always pays more: it lags behind, whatever is trained."""
    stats = stats_of(1, 1, 1)
    targets = {"a": 1.0, "b": 1.0, "c": 1.0}
    sampler = prepared(data.EA4C(targets, window=1, weight=1.0, learning_rate=0.01), stats)
    results(stats, sampler, [{"a": 0.9, "b": 0.3, "c": 0.8}])
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(1500):
        p = sampler.probabilities(0, stats)
        task = int(rng.choice(3, p=p))
        stats.trained[task] += 1
        sampler.observe(task, stats)
        shares.append(p[1])
    assert np.mean(shares[:20]) < 0.4 and np.mean(shares[-100:]) > 0.6


@pytest.mark.oracle
def test_gradients_of_the_meta_policy_are_those_of_its_loss():
    rng = np.random.default_rng(0)
    policy = MetaPolicy(inputs=3, actions=2, units=4, learning_rate=0.1, horizon=5, seed=1)
    policy.weights = {name: np.asarray(w + rng.normal(size=w.shape) / 2) for name, w in policy.weights.items()}
    seen, actions, returns = list(rng.normal(size=(5, 3))), [0, 1, 1, 0, 1], rng.normal(size=5)
    start = tuple(rng.normal(size=(2, 4)))

    def forward():
        hidden, cell = start
        values, logs = [], []
        w = policy.weights
        for x in seen:
            gates = np.concatenate([x, hidden]) @ w["gates"] + w["gates_bias"]
            enter, keep, leave = (1 / (1 + np.exp(-g)) for g in np.split(gates[:12], 3))
            cell = keep * cell + enter * np.tanh(gates[12:])
            hidden = leave * np.tanh(cell)
            logits = hidden @ w["policy"] + w["policy_bias"]
            logs.append(logits - np.log(np.exp(logits).sum()))
            values.append(hidden @ w["value"] + w["value_bias"])
        return np.array(values), np.array(logs)

    advantages = returns - forward()[0]  # constants of the policy's part

    def loss():
        values, logs = forward()
        chosen = logs[np.arange(5), actions]
        entropy = -np.sum(np.exp(logs) * logs)
        return -advantages @ chosen + 0.5 * np.sum((returns - values) ** 2) - 0.01 * entropy

    value, gradients = policy.gradients(seen, actions, returns, start)
    assert value == pytest.approx(loss())
    for name, gradient in gradients.items():
        weights = policy.weights[name]
        for place in list(np.ndindex(weights.shape))[::3] or [()]:
            kept = weights[place].copy()
            sides = []
            for step in (1e-6, -1e-6):
                weights[place] = kept + step
                sides.append(loss())
            weights[place] = kept
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-6, abs=1e-6), (name, place)


@pytest.mark.oracle
def test_dynamic_task_prioritization_by_hand():
    stats = stats_of(1, 1)
    sampler = prepared(data.DynamicTaskPrioritization(gamma=2.0, ema=0.5), stats)
    results(stats, sampler, [{"a": 0.4}])
    assert sampler.probabilities(0, stats).tolist() == [0.5, 0.5]
    results(stats, sampler, [{"a": 0.6, "b": 0.8}])
    focal = np.array([-(0.5**2) * np.log(0.5), -(0.2**2) * np.log(0.8)])  # averages 0.5 and 0.8
    np.testing.assert_allclose(sampler.probabilities(0, stats), focal / focal.sum())
    results(stats, sampler, [{"a": 1.0, "b": 1.0}] * 200)
    np.testing.assert_allclose(sampler.probabilities(0, stats).sum(), 1.0)  # all solved


@pytest.mark.oracle
def test_loss_ratio_by_hand():
    stats = stats_of(1, 1)
    sampler = prepared(data.LossRatio(power=2.0, window=2), stats)
    results(stats, sampler, [{"a": 4.0, "b": 100.0}, {"a": 1.0, "b": 60.0}, {"a": 3.0, "b": 40.0}], log="loss")
    np.testing.assert_allclose(sampler.probabilities(0, stats), [0.5, 0.5])  # 2 / 4 and 50 / 100
    results(stats, sampler, [{"a": 1.0}] * 2, log="loss")
    np.testing.assert_allclose(sampler.probabilities(0, stats), np.array([1, 4]) / 5)  # (1 / 4)^2 and (1 / 2)^2


LIVE = [
    data.A5C({"a": 0.9, "b": 0.8}, window=2),
    data.UA4C({"a": 0.9, "b": 0.8}),
    data.EA4C({"a": 0.9, "b": 0.8}, horizon=7),
    data.DynamicTaskPrioritization(),
    data.LossRatio(monitor="{task}_accuracy"),
    data.Curriculum(["a", "b"], sampler=data.UA4C({"a": 0.9, "b": 0.8})),
]


@pytest.mark.parametrize("sampler", LIVE, ids=lambda sampler: type(sampler).__name__)
def test_state_of_a_live_sampler_can_be_set_back(sampler):
    """What follows is the same from a state that went through JSON."""
    stats = stats_of(10, 20, steps_per_epoch=10)
    chooser = Chooser(prepared(sampler, stats), stats, seed=5)

    def go_on(steps, rng):
        drawn = []
        for _ in range(steps):
            task = int(chooser.next())
            drawn.append(task)
            stats.add(f"{'ab'[task]}_accuracy", rng.uniform(0.2, 0.7))
            chooser.observe(task)
        return drawn, chooser.probabilities().tolist()

    go_on(33, np.random.default_rng(0))
    state = json.loads(json.dumps(chooser.get_state()))
    first = go_on(40, np.random.default_rng(1))
    chooser.set_state(state)
    assert go_on(40, np.random.default_rng(1)) == first


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: data.Temperature(0.5), "`temperature` should be at least 1"),
        (lambda: data.Temperature(2, cap=0), "`cap` should be above 0"),
        (lambda: data.Annealed(0), "`epochs` should be an integer"),
        (lambda: data.A5C({"a": 0.0}), "target of task 'a' should be above 0"),
        (lambda: data.A5C({"a": 1.0}, monitor="accuracy"), "`monitor` should be a string with"),
        (lambda: data.A5C({"a": 1.0}, monitor="{task}_what"), "`directions` should say"),
        (lambda: data.A5C({"a": 1.0}, window=0), "`window` should be an integer"),
        (lambda: data.A5C({"a": 1.0}, temperature=0), "`temperature` should be above 0"),
        (lambda: prepared(data.A5C({"a": 1.0}), stats_of(1, 1)), "`targets` should have a number for each"),
        (lambda: prepared(data.LossRatio(minimum=0.6), stats_of(1, 1)), "`minimum` should be at most 1 / 2"),
        (lambda: data.LossRatio(minimum=-0.1), "`minimum` should be at least 0"),
        (lambda: data.LossRatio(power=-1), "`power` should be at least 0"),
        (lambda: data.UA4C({"a": 1.0}, discount=0), "`discount` should be in"),
        (lambda: data.UA4C({"a": 1.0}, exploration=-1), "`exploration` should be at least 0"),
        (lambda: data.EA4C({"a": 1.0}, weight=2), "`weight` should be from 0 to 1"),
        (lambda: data.EA4C({"a": 1.0}, worst=2), "`worst` should be from 1"),
        (lambda: data.DynamicTaskPrioritization(gamma=-1), "`gamma` should be at least 0"),
        (lambda: data.DynamicTaskPrioritization(ema=0), "`ema` should be in"),
        (lambda: prepared(data.Fixed({"a": 1.0}), stats_of(1, 1)), "should be of the tasks"),
    ],
)
def test_errors(make, words):
    with pytest.raises(ValueError, match=words):
        make()
