import argparse
import sys

import keras
import numpy as np
import pytest

from recipes import common


def test_delta_m_by_hand():
    baseline = {"accuracy": [0.8, 0.8], "error": [2.0, 4.0]}  # means 0.8 and 3
    scores = {"accuracy": [0.84, 0.76], "error": [2.7, 3.0]}  # gains 5 and -5, 10 and 0 percent
    np.testing.assert_allclose(common.delta_m(scores, baseline, lower_is_better={"error"}), [7.5, -2.5])


def test_mean_and_spread():
    assert common.mean_and_spread([1.0, 3.0]) == "2.0 ± 1.4"
    assert common.mean_and_spread([1.0, 3.0], digits=2, signed=True) == "+2.00 ± 1.41"
    assert common.mean_and_spread([5.0]) == "5.0"  # one seed has no spread
    assert common.mean_and_spread([1e-6, 3e-6], ".2g") == "2e-06 ± 1.4e-06"
    assert common.mean_and_spread([np.nan, np.nan]) == ""


@pytest.mark.parametrize(("shift", "comparisons", "expected"), [(0.0, 1, False), (2.2, 1, False), (2.4, 1, True)])
def test_welch_at_five_percent(shift, comparisons, expected):
    # Both have variance 1 over 3 seeds: a standard error of sqrt(2 / 3) = 0.816, and t(0.975, 4) = 2.776: 2.267.
    seeds = np.array([-1.0, 0.0, 1.0])
    assert common.tell_apart(seeds + shift, seeds, comparisons) is expected
    assert not common.tell_apart(seeds + shift, seeds, 100)


def test_pairs_are_told_apart_by_their_differences():
    seeds = np.array([10.0, 20.0, 30.0])
    shifted = seeds + np.array([1.0, 1.1, 0.9])  # a standard error of 0.0577
    assert common.tell_apart(shifted, seeds, paired=True) and not common.tell_apart(shifted, seeds)


def test_what_does_not_vary_is_not_told_apart():
    assert not common.tell_apart([1.0] * 5, [2.0] * 5)
    assert not common.tell_apart([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], paired=True)


@pytest.mark.parametrize(("text", "expected"), [("3", [0, 1, 2]), ("3,4,9", [3, 4, 9]), ("10:13", [10, 11, 12])])
def test_seeds_are_a_number_a_list_or_a_range(text, expected):
    assert common.running.seeds_of(text) == expected


@pytest.mark.parametrize("text", ["0", "3,3", "5:5"])
def test_seeds_that_are_none_or_twice_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="should be a number, a list or first:end"):
        common.running.seeds_of(text)


def options_of(monkeypatch, tmp_path, *arguments, **settings):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["a", *arguments])
    return common.command_line("a.py", "A recipe.", models=("one", "two"), epochs=(8, 1), **settings)


def test_command_line(monkeypatch, tmp_path, capsys):
    options = options_of(monkeypatch, tmp_path, "--models", "two", "--seeds", "7,9", known=(3, "of them"))
    assert (options.models, options.seeds, options.epochs, options.known) == (["two"], [7, 9], 8, 3)
    quick = options_of(monkeypatch, tmp_path, "--quick", quick_models=["one"], seeds="4:9")
    assert (quick.models, quick.seeds, quick.epochs) == (["one"], [4], 1)
    assert quick.folder.name == "a-quick" and options.folder.name == "a"
    assert options_of(monkeypatch, tmp_path, "--models", "all", default=["one"]).models == ["one", "two"]
    with pytest.raises(SystemExit):
        options_of(monkeypatch, tmp_path, "--models", "three")
    assert "--models takes some of: one,two. Received: three" in capsys.readouterr().err


def test_options_are_flags_choices_and_lists():
    parser = argparse.ArgumentParser()
    given = {"quiet": False, "kind": (("a", "b"), "which"), "batch_size": 8, "tasks": [2, 8], "nets": {"x": 1, "y": 2}}
    common.running.add_options(parser, given)
    usual = {"quiet": False, "kind": "a", "batch_size": 8, "tasks": [2, 8], "nets": ["x", "y"]}
    assert vars(parser.parse_args([])) == usual
    chosen = parser.parse_args(["--quiet", "--kind", "b", "--batch-size", "4", "--tasks", "3", "--nets", "y"])
    assert vars(chosen) == {"quiet": True, "kind": "b", "batch_size": 4, "tasks": [3], "nets": ["y"]}
    for wrong in ("--kind c", "--nets z", "--tasks many"):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong.split())


def a_study(options, seen, **more):
    def run(name, seed, callbacks):
        seen.append((name, seed, float(keras.random.uniform(()))))
        return {"score": 1.0 + seed + (10.1 + 0.1 * seed) * (name == "two"), "curve": [seed]}

    with common.console.capture() as printed:
        how = {"reference": "one", "lower": True, "paired": True, "logs": False, **more}
        results = common.study(run, options, ["score"], **how)
    return results, printed.get()


def test_a_study_runs_every_model_with_every_seed(monkeypatch, tmp_path):
    seen = []
    options = options_of(monkeypatch, tmp_path, "--seeds", "0:5")
    results, printed = a_study(options, seen, along={"curve": "a curve"})
    assert [job[:2] for job in seen] == [(name, seed) for seed in range(5) for name in ("one", "two")]
    assert seen[0][2] == seen[1][2] != seen[2][2]  # a seed draws the same for each model
    assert results["two"]["curve"] == [[0], [1], [2], [3], [4]]
    # 1 to 5: mean 3, standard deviation 1.58; the other's 1.1 times as much and 10.
    assert "3.0 ± 1.6" in printed and "13.3 ± 1.7 *" in printed
    assert "two, beside one: better in nothing; worse in score (+10.3)." in printed
    assert "-343.3" in printed  # delta_m of an error of 13.3 beside 3
    assert all((options.folder / name).stat().st_size > 5000 for name in ("results.png", "curves.png"))


FEW = "Fewer than 5 seeds: nothing is stated."


@pytest.mark.parametrize(("arguments", "said"), [(["--seeds", "2"], FEW), (["--quick"], "")])
def test_few_seeds_and_quick_runs_state_nothing(monkeypatch, tmp_path, arguments, said):
    _, printed = a_study(options_of(monkeypatch, tmp_path, *arguments), [])
    assert said in printed and "*" not in printed and "better" not in printed
    assert said or "a quick run, which shows nothing" in " ".join(printed.split())


def test_output_folder_drops_old_logs_and_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = common.running.output_folder("a")
    (folder / "logs").mkdir()
    (folder / "logs" / "old").touch()
    (folder / "kept.png").touch()
    assert [path.name for path in common.running.output_folder("a").iterdir()] == ["kept.png"]


def test_runs_are_timed_in_turns():
    seconds, turns = iter(np.cumsum([0, 1] * 12)), []  # every run takes a second

    def measure(name):
        return common.clocked(lambda: turns.append(name), lambda: float(next(seconds)), steps=4)

    found = common.in_turns({name: measure(name) for name in "ab"}, rounds=5)
    assert {name: times.tolist() for name, times in found.items()} == {"a": [250] * 5, "b": [250] * 5}
    assert turns == ["a", "b"] * 6  # the first ones do not count


def test_steps_until_a_curve_is_high_enough():
    assert common.steps_until([0.1, 0.9, 0.8], 0.9, 50) == 100
    assert common.steps_until([0.1, 0.2], 0.9, 50) == np.inf


def test_models_that_were_not_asked_for_have_no_table(monkeypatch, tmp_path):
    with common.console.capture() as printed:
        common.report({}, options_of(monkeypatch, tmp_path), ["score"], reference="one")
    assert printed.get() == ""


def test_results_of_groups():
    results = {(1, "a"): 10, (2, "a"): 20, (1, "b"): 30}
    assert common.by_group(results, {2: "two", 1: "one"}) == {"two": {"a": 20}, "one": {"a": 10, "b": 30}}
    assert common.by_group(results) == {"": results}


def test_curves_are_means_of_the_seeds_that_go_on(monkeypatch, tmp_path):
    figures, new_figure = [], common.new_figure
    monkeypatch.setattr(common.pictures, "new_figure", lambda *size: figures.append(new_figure(*size)) or figures[-1])
    results = {"one": {"loss": [[4.0, 2.0, 1.0], [2.0]]}}  # the second seed ended early
    common.curves({"part": results}, {"loss": "a loss"}, tmp_path / "a.png", every=10)
    (axis,) = figures[0].axes
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[10, 3], [20, 2], [30, 1]])
    assert axis.get_title() == "part: a loss"


def test_a_model_that_starts_again_learns_what_a_fresh_one_does():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.1), loss="mse", run_eagerly=True)
    weights, data = model.get_weights(), (np.eye(2), np.array([[1.0], [3.0]]))
    learned = []
    for _ in range(2):
        model.fit(*data, epochs=3, verbose=0)
        learned.append(model.get_weights())
        common.start_again(model, weights)
    np.testing.assert_array_equal(learned[0][0], learned[1][0])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.1) and int(model.optimizer.iterations) == 0
