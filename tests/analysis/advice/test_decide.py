"""Which candidate is chosen and what is said of it, on numbers that are made up and worked out by hand."""

import math
import types

import numpy as np
import pytest
from scipy import stats

from keras_mtl.analysis._statistics import confidence_interval
from keras_mtl.analysis._store import RunStore
from keras_mtl.analysis.advice import _trials as trials
from keras_mtl.analysis.advice._decide import Standing, decide, example_variance, is_overturned, outcome_of, verdict
from keras_mtl.analysis.advice._halving import _kept, make_plan, rungs_of
from keras_mtl.analysis.advice._problem import Candidate
from keras_mtl.analysis.advice._trial import Clock, Trial
from keras_mtl.analysis.advice._trials import Trials
from keras_mtl.analysis.advice.advise import _finish


class TwoTasks:
    """What is read of a `Problem`: relative gains in losses of two tasks."""

    tasks = ("a", "b")
    metrics = {"a": "loss", "b": "loss"}  # noqa: RUF012
    stages = [[], []]  # noqa: RUF012
    unlearned = frozenset()

    def gain(self, score):
        return np.mean([score[task] for task in self.tasks if task not in self.unlearned])

    def score(self, values, single):
        return {t: 100 * (single[f"{t}_loss"] - values[f"{t}_loss"]) / single[f"{t}_loss"] for t in self.tasks}


def at(name, delta, parameters, weighting="equal", resampled=(), options=None, builder="hard_sharing"):
    candidate = Candidate(name, "", builder, weighting=weighting, options=options or {})
    seeds = list(range(len(delta)))
    return Standing(candidate, 10, seeds, list(delta), {}, list(resampled), parameters, 1.0, 1.0)


def trial(a, b, resampled=()):
    pairs = [{"a_loss": x, "b_loss": y} for x, y in resampled]
    return types.SimpleNamespace(values=[{"a_loss": a, "b_loss": b}], resampled=pairs)


ALONE = {"shared_depth": 0}


def test_the_simplest_within_one_standard_error():
    # Variances 4, 4 and 4: the standard error of a difference of means over 3 seeds is sqrt(2 * 4 / 3) = 1.63.
    standings = [
        at("nothing shared", [-2, 0, 2], 300, options=ALONE),
        at("all shared", [3, 5, 7], 100),
        at("CGC", [4.5, 6.5, 8.5], 400),
    ]
    chosen, best, errors = decide(standings)
    assert (chosen.candidate.name, best.candidate.name) == ("all shared", "CGC")
    assert errors["all shared"] == pytest.approx(math.sqrt(8 / 3))
    assert "simplest within one standard error" in chosen.outcome and "not significantly different" in best.outcome
    assert "points behind" in standings[0].outcome


def test_what_is_clearly_best_is_chosen_whatever_it_costs():
    standings = [at("nothing shared", [-1, 0, 1], 300, options=ALONE), at("all shared", [-31, -30, -29], 100)]
    assert decide(standings)[0].candidate.name == "nothing shared"


def test_equal_parameters_prefer_plain_weighting_and_then_the_better_one():
    standings = [
        at("nothing shared", [-9, -8, -10], 100, options=ALONE),
        at("all shared, upgrad", [4, 5, 6], 100, "upgrad"),
        at("all shared", [3.9, 4.9, 5.9], 104),
        at("1 of 2 stages shared", [4.1, 4.9, 5.8], 102),
        at("CGC", [4.2, 5.2, 6.2], 103, builder="cgc"),
    ]
    assert decide(standings)[0].candidate.name == "1 of 2 stages shared"


def test_few_validation_examples_widen_the_error():
    steady = [at("nothing shared", [0, 0], 300, options=ALONE), at("all shared", [-5, -5], 100)]
    assert decide(steady)[0].candidate.name == "nothing shared"
    unsure = [
        at("nothing shared", [0, 0], 300, resampled=[0, 0, 0, 0], options=ALONE),
        at("all shared", [-5, -5], 100, resampled=[-15, 5, -13, 3]),
    ]
    assert decide(unsure)[0].candidate.name == "all shared"
    assert example_variance([1, 2, 3], [1, 1, 1]) == pytest.approx(1.0)
    assert example_variance([], []) == 0.0


def test_examples_of_their_own_pair_the_seeds():
    """Examples that are hard for all candidates say nothing of their difference, and are counted once."""
    resampled = {"resampled": [-15, 5, -13, 3]}
    standings = [
        at("nothing shared", [-20, 0, 20], 300, resampled=[0, 0, 0, 0], options=ALONE),
        at("all shared", [-25, -4, 16], 100, **resampled),
        at("CGC", [-26, -6, 16], 400, **resampled),
    ]
    # Differences to the best -5, -4, -4 and -6, -6, -4, of variances 1/3 and 4/3, whose median is 5/6.
    chosen, _, errors = decide(standings, held_out=True)
    assert chosen.candidate.name == "nothing shared" and errors["CGC"] == pytest.approx(math.sqrt(5 / 6 / 3))
    assert decide(standings)[0].candidate.name == "all shared"
    one = [at(each.candidate.name, each.delta_m[1:2], each.parameters, resampled=each.resampled) for each in standings]
    assert decide(one, held_out=True)[2]["all shared"] > 9  # with one seed, from the resamples


def test_candidates_that_failed_are_not_chosen():
    standings = [at("nothing shared", [0, 0], 300, options=ALONE), at("all shared", [1, 1], 100), at("CGC", [], 400)]
    assert decide(standings)[0].candidate.name == "all shared"


def test_the_interval_of_the_test_by_hand():
    ours, theirs = (
        [trial(0.8, 1.0), trial(0.6, 1.1), trial(0.7, 0.9)],
        [trial(1.0, 1.0), trial(1.2, 1.0), trial(0.8, 1.0)],
    )
    result = outcome_of(TwoTasks(), ours, theirs)
    deltas = [50 * ((1 - t.values[0]["a_loss"]) + (1 - t.values[0]["b_loss"])) for t in ours]
    alone = [50 * ((1 - t.values[0]["a_loss"]) + (1 - t.values[0]["b_loss"])) for t in theirs]
    welch = stats.ttest_ind(deltas, alone, equal_var=False).confidence_interval(0.95)
    assert result.delta_m == pytest.approx(np.mean(deltas)) and result.interval == pytest.approx(tuple(welch))
    gain, low, high = result.gains["a"]
    of_a = ([100 * (1 - t.values[0]["a_loss"]) for t in each] for each in (ours, theirs))
    assert gain == pytest.approx(30.0)
    assert (low, high) == pytest.approx(tuple(stats.ttest_ind(*of_a, equal_var=False).confidence_interval(0.975)))


def test_the_choice_of_examples_widens_the_interval():
    draws = [(0.9, 1.0), (1.1, 1.0), (0.7, 1.0)]
    ours = [trial(0.8, 1.0, draws), trial(0.8, 1.0)]
    theirs = [trial(1.0, 1.0, [(1.0, 1.0)] * 3), trial(1.0, 1.0)]
    result = outcome_of(TwoTasks(), ours, theirs)
    assert result.example_variance == pytest.approx(np.var([5, -5, 15], ddof=1)) and result.examples
    half = stats.norm.ppf(0.975) * 10
    assert result.interval == pytest.approx((10 - half, 10 + half))
    assert confidence_interval([1, 1], [0, 0], more=4.0) == pytest.approx((1 - 1.96 * 2, 1 + 1.96 * 2), abs=1e-3)


def said(chosen, standings, result, against=0, problem=None):
    return " ".join(verdict(problem or TwoTasks(), chosen, standings, result, standings[against]))


def test_a_claim_that_the_test_does_not_carry_is_not_made():
    standings = [at("nothing shared", [0, 0], 300, options=ALONE), at("all shared", [1, 1], 100)]
    chosen, *_ = decide(standings)
    ours, theirs = [trial(0.90, 1.0), trial(0.98, 1.0)], [trial(1.0, 1.0), trial(1.0, 1.0)]
    text = said(chosen, standings, outcome_of(TwoTasks(), ours, theirs))
    assert text.startswith("Share everything.") and "33 % of the parameters" in text
    assert "no difference" in text and "would show it" in text and "better than" not in text
    ours = [trial(0.50, 1.2), trial(0.51, 1.21), trial(0.49, 1.2)]
    text = said(chosen, standings, outcome_of(TwoTasks(), ours, [trial(1.0, 1.0), trial(1.01, 1.0), trial(1.0, 1.01)]))
    assert "better than single-task columns" in text and "no difference" not in text
    assert "Tasks that win: a" in text and "Tasks that lose: b" in text
    text = said(chosen, standings, outcome_of(TwoTasks(), [trial(2.0, 2.0), trial(2.0, 2.01)], theirs))
    assert "worse than single-task columns" in text and text.startswith("Do not share.")


# Per seed, delta_m of what is tested: -10, -12 and -11, of variance 1; of the columns 0, 0 and 0.
WORSE = [trial(1.2, 1.0), trial(1.2, 1.04), trial(1.2, 1.02)]
COLUMNS = [trial(1.0, 1.0)] * 3


def test_a_choice_that_the_test_finds_worse_is_overturned():
    """The interval is -11 -+ t(0.975, 2 degrees) * sqrt(1 / 3), -13.48 to -8.52."""
    standings = [at("nothing shared", [0, 0, 0], 300, options=ALONE), at("all shared", [1, 1.1, 0.9], 100)]
    chosen, *_ = decide(standings)
    result = outcome_of(TwoTasks(), WORSE, COLUMNS)
    assert chosen is standings[1] and is_overturned(result)
    assert said(chosen, standings, result) == (
        "Do not share. Validation chose 'all shared', which on the test is worse than single-task columns, by -11.00 % "
        "(95 % interval -13.48 to -8.52, 3 fresh seeds): the test overturns that choice. Having decided, that number "
        "is an overestimate. Tasks that lose with 'all shared': a (-20.0 %)."
    )
    assert [each.outcome for each in standings] == [
        "chosen by the test, which overturned the choice of validation",
        "the choice of validation, overturned by the test: -11.00 % (-13.48 to -8.52)",
    ]


def test_not_to_share_is_overturned_too():
    standings = [at("nothing shared", [0, 0, 0], 300, options=ALONE), at("all shared", [-9, -9.1, -8.9], 100)]
    chosen, *_ = decide(standings)
    text = said(chosen, standings, outcome_of(TwoTasks(), WORSE, COLUMNS), 1)
    assert chosen is standings[0] and text.startswith(
        "Share everything. It has 33 % of the parameters of single-task columns (100 of 300). Validation chose "
        "'nothing shared', which on the test is worse than 'all shared', by -11.00 %"
    )
    assert standings[1].outcome == "chosen by the test, which overturned the choice of validation"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (WORSE[:1], COLUMNS[:1]),  # one seed: nothing is known of chance
        ([trial(1.2, 1.0), trial(1.0, 1.0), trial(0.98, 1.04)], COLUMNS),  # the interval contains 0
        ([trial(1.2, 0.7), trial(1.2, 0.71), trial(1.2, 0.72)], COLUMNS),  # one task loses, the other wins more
        ([trial(0.8, 1.0), trial(0.8, 1.04), trial(0.8, 1.02)], COLUMNS),  # it is better
    ],
)
def test_nothing_else_is_overturned(ours, theirs):
    standings = [at("nothing shared", [0, 0, 0], 300, options=ALONE), at("all shared", [1, 1.1, 0.9], 100)]
    chosen, *_ = decide(standings)
    before = [each.outcome for each in standings]
    result = outcome_of(TwoTasks(), ours, theirs)
    assert not is_overturned(result) and not is_overturned(None)
    assert said(chosen, standings, result).startswith("Share everything.")
    assert [each.outcome for each in standings] == before


def test_a_task_of_which_nothing_is_learned_does_not_count():
    problem = TwoTasks()
    problem.unlearned = {"b"}
    ours, theirs = [trial(a, 0.5) for a in (0.90, 0.91, 0.905)], [trial(1.0, 1.0)] * 3
    result = outcome_of(problem, ours, theirs)
    assert result.delta_m == pytest.approx(9.5) and result.gains["b"][0] == pytest.approx(50)
    standings = [at("nothing shared", [0, 0], 300, options=ALONE), at("all shared", [9, 10], 100)]
    text = said(standings[1], standings, result, problem=problem)
    assert "Tasks that win: a (+9.5 %)." in text and "b (" not in text


def test_do_not_share_is_a_verdict():
    standings = [at("nothing shared", [-1, 0, 1], 300, options=ALONE), at("all shared", [-31, -30, -29], 100)]
    chosen, *_ = decide(standings)
    assert said(chosen, standings, None, 1).startswith("Do not share.")


@pytest.mark.parametrize(("epochs", "rungs"), [(1, [1]), (3, [3]), (4, [2, 4]), (20, [10, 20])])
def test_rungs(epochs, rungs):
    assert rungs_of(epochs) == rungs


def test_a_training_has_the_same_parts_whatever_the_plan(monkeypatch):
    """The order of its data, and so its result, does not depend on how much time there was."""
    calls = []

    def train(model, candidate, seed, epochs, before, *_):
        calls.append((seed, 0 if before is None else before.epochs, epochs))
        return Trial(candidate, seed, epochs, [], {}, [], 0, 0.0, 0.0, 0.0, 1.0)

    monkeypatch.setattr(trials, "_state", lambda model: None)
    runs = Trials(types.SimpleNamespace(train=None, validation=None), RunStore(None), [5, 10, 20], math.inf)
    for name, function in {
        "_model": lambda candidate, seed, before: (None, before),
        "_train": train,
        "_keep": lambda *_: None,
        "_traced": types.SimpleNamespace(keep=lambda model: None),
    }.items():
        monkeypatch.setattr(runs, name, function)
    candidate = Candidate("all shared", "")
    for seed, rungs in ((0, [20]), (1, [5, 10, 20]), (2, [10, 20])):
        for epochs in rungs:
            assert runs.run(candidate, seed, epochs).epochs == epochs
    assert calls == [(seed, *part) for seed in range(3) for part in ((0, 5), (5, 10), (10, 20))]


def test_the_first_validation_counts_with_the_first_epoch(monkeypatch):
    """Epochs of 5, 1, 1 and 1 s; after the second 7 s of tracing and validating, after the fourth half a second."""
    now, checked = [0.0], []
    monkeypatch.setattr("keras_mtl.analysis.advice._trial.time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    clock = Clock(0.0, math.inf, lambda *seconds: checked.append(seconds))
    for epoch, (seconds, validated) in enumerate([(5.0, 0.0), (1.0, 7.0), (1.0, 0.0), (1.0, 0.5)]):
        now[0] += seconds
        if validated:
            clock.on_test_begin()
            now[0] += validated
            clock.on_test_end()
        clock.on_epoch_end(epoch)
    assert checked == [(5.0, None), (12.0, 1.0), (12.0, 1.0), (12.0, 1.0)]
    clock = Clock(now[0], math.inf, None)
    clock.on_test_begin()
    now[0] += 3.0
    clock.on_test_end()
    clock.on_epoch_end(0)
    assert (clock.first, clock.later) == (3.0, None)


def test_a_plan_fits_its_time():
    costs = types.SimpleNamespace(first_seconds=5.0, epoch_seconds=0.5)
    sizes = []
    for seconds in (60, 120, 300, 900, 3000):
        plan = make_plan(8, 20, 3, seconds, costs)
        assert plan.search_seconds + plan.final_seconds <= seconds
        sizes.append(plan.trainings)
    assert sizes == sorted(sizes)
    rich = make_plan(8, 20, 3, 1e6, costs)
    assert [(r.epochs, r.seeds, r.candidates) for r in rich.rungs] == [(10, 2, 8), (20, 3, 4)]
    assert rich.final_seconds == pytest.approx(2 * (3 * (20 * 0.5 + 0.7) + 0.5 * 4.5))
    assert make_plan(8, 20, 3, 1.0, costs).rungs == []


def test_small_candidates_that_nothing_smaller_beats_go_on():
    """Halving takes the front of parameters and gain before what is ahead with more parameters."""
    standings = {
        each.candidate.name: each
        for each in (
            at("nothing shared", [0.0], 400),
            at("all shared", [-30.0], 100),
            at("groups", [-5.0], 200),  # behind "nothing shared", which is twice as large
            at("large", [9.0], 500),
            at("larger", [5.0], 600),
            at("as small", [-40.0], 100),
        )
    }
    alive = [each.candidate for each in standings.values()]
    kept = [candidate.name for candidate in _kept(alive, standings, 4, True)]
    assert kept == ["nothing shared", "all shared", "groups", "large"]
    assert [candidate.name for candidate in _kept(alive, standings, 5, True)][-1] == "larger"


@pytest.mark.parametrize(("seconds", "pairs"), [(5, 1), (10, 2), (100, 3)])
def test_time_that_is_left_goes_to_more_seeds_of_the_test(seconds, pairs):
    """A pair takes 2 s, 4 s are spent: 4 + 2 + 2 of 10 may be, another 2 may not."""

    def each(jobs, step):
        for job in jobs:
            run.spent += 1.0
            codes.append((job.candidate.name, job.seed)) if job.as_code else None
            yield types.SimpleNamespace(failed="", seconds=1.0)

    run, codes = types.SimpleNamespace(spent=4.0, each=each, at_once=1), []
    both = Candidate("all shared", ""), Candidate("nothing shared", "")
    ours, theirs = _finish(run, *both, (1, 3), seconds, 20, None, lambda what: None)
    assert len(ours) == len(theirs) == pairs
    # The choice or, where the test overturns it, the columns: both are trained as the code that is given does.
    assert codes == [(each.name, trials.FINAL_SEED) for each in both]
