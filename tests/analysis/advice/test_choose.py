"""Candidates by what was seen: each rule on numbers that were made up for it."""

import types

import keras
import numpy as np
import pytest
from keras import layers

from keras_mtl.analysis.advice._candidates import choose_candidates
from keras_mtl.analysis.advice._problem import Problem
from keras_mtl.analysis.advice._watch import Watched, learned_tasks, still_learning
from keras_mtl.metrics._affinity import Affinity


def make_problem(tasks, stages=2, **compile):
    x = np.zeros((10, 3), "float32")
    y = {task: np.zeros((10, 1), "float32") for task in tasks}
    return Problem(
        keras.Input((3,)),
        [layers.Dense(4, name=f"s{i}") for i in range(stages)],
        {task: layers.Dense(1) for task in tasks},
        train=(x, y),
        validation=(x, y),
        test=(x, y),
        compile={"loss": "mse", **compile},
        metrics=dict.fromkeys(tasks, "loss"),
        directions=None,
        batch_size=5,
        standardize=False,
    )


def make_watched(tasks, cosine=0.5, rate=0.0, shares=None, affinity=None, stages=2, positive=True, similarity=None):
    count = len(tasks)
    pairs = np.full((count, count), cosine)
    return Watched(
        {
            "tasks": list(tasks),
            "layers": [f"shared_s{i}" for i in range(stages)],
            "stage_of_layer": list(range(stages)),
            "cosine": [pairs.tolist()] * stages,
            "total_cosine": pairs.tolist(),
            "conflict_rate": np.full((count, count), rate).tolist(),
            "grad_norm": [1.0] * count,
            "grad_share": shares or [1 / count] * count,
            "affinity": Affinity(tasks, np.zeros((count, count)) if affinity is None else affinity).to_dict(),
            "losses_are_positive": positive,
            "measurements": 10,
        },
        None if similarity is None else {"similarity": Affinity(tasks, similarity).to_dict()},
    )


def names(problem, watched):
    return [candidate.name for candidate in choose_candidates(problem, watched)]


def test_tasks_that_agree_need_depths_alone():
    problem = make_problem("ab", stages=3)
    chosen = choose_candidates(problem, make_watched("ab", stages=3))
    assert [candidate.name for candidate in chosen] == [
        "nothing shared",
        "all shared",
        "1 of 3 stages shared",
        "2 of 3 stages shared",
    ]
    assert all(candidate.reason and candidate.weighting == "equal" for candidate in chosen)
    assert "+0.50" in chosen[2].reason


def test_many_stages_give_three_depths():
    watched = make_watched("ab", stages=9)
    depths = [
        c.options["shared_depth"] for c in choose_candidates(make_problem("ab", stages=9), watched) if "of 9" in c.name
    ]
    assert depths == [1, 4, 8]


def test_a_starved_task_gets_a_weighting_that_sees_no_scales():
    chosen = choose_candidates(make_problem("ab"), make_watched("ab", shares=[0.99, 0.01]))
    weighted = {candidate.name: candidate.weighting for candidate in chosen}
    assert weighted["all shared, scale_invariant"] == "scale_invariant"
    assert weighted["1 of 2 stages shared"] == "scale_invariant"
    assert weighted["nothing shared"] == weighted["all shared"] == "equal"
    assert "'b' 1 %" in next(c.reason for c in chosen if c.name == "all shared, scale_invariant")
    negative = choose_candidates(make_problem("ab"), make_watched("ab", shares=[0.99, 0.01], positive=False))
    assert "all shared, imtl_l" in [candidate.name for candidate in negative]


def test_conflict_brings_mixtures_and_a_method_on_gradients():
    found = names(make_problem("ab"), make_watched("ab", cosine=-0.2, rate=0.8))
    assert {"cross-stitch", "CGC", "all shared, upgrad"} <= set(found)
    both = names(make_problem("ab"), make_watched("ab", cosine=-0.2, rate=0.8, shares=[0.99, 0.01]))
    assert "all shared, imtl_g" in both


def test_a_weighting_of_the_user_stays():
    found = choose_candidates(
        make_problem("ab", weighting="uncertainty"), make_watched("ab", cosine=-0.2, rate=0.8, shares=[1, 0])
    )
    assert {candidate.weighting for candidate in found} == {"equal"}
    assert not [candidate for candidate in found if "all shared," in candidate.name]
    options = make_problem("ab", weighting="uncertainty").compile_arguments(found[1])
    assert options["weighting"] == "uncertainty"


def test_groups_come_from_affinity():
    affinity = np.full((4, 4), 1e-4)
    affinity[:2, :2] = affinity[2:, 2:] = 1e-2
    chosen = {c.name: c for c in choose_candidates(make_problem("abcd"), make_watched("abcd", affinity=affinity))}
    assert chosen["groups a+b | c+d"].options["branches"] == [[["a", "b"], ["c", "d"]]] * 2
    tree = chosen["groups a+b | c+d after stage 1"].options["branches"]
    assert tree == [[["a", "b", "c", "d"]], [["a", "b"], ["c", "d"]]]
    assert "1 %" in chosen["groups a+b | c+d"].reason


def test_groups_come_from_features_of_columns():
    similarity = np.full((4, 4), 0.2)
    similarity[:2, :2] = similarity[2:, 2:] = 0.6
    watched = make_watched("abcd", affinity=np.full((4, 4), -1e-3), similarity=similarity)
    chosen = {c.name: c for c in choose_candidates(make_problem("abcd"), watched)}
    assert "groups a+b | c+d" in chosen
    assert "0.6 within" in chosen["groups a+b | c+d"].reason and "0.33 in all" in chosen["groups a+b | c+d"].reason


def test_a_task_whose_features_are_its_own_is_left_alone():
    similarity = np.array([[1, 0.6, 0.1], [0.6, 1, 0.1], [0.1, 0.1, 1]])
    assert "groups a+b | c" in names(make_problem("abc", 1), make_watched("abc", stages=1, similarity=similarity))


def test_a_task_that_helps_nobody_is_left_alone():
    affinity = np.full((3, 3), 1e-2)
    affinity[2], affinity[:, 2] = -1e-3, -1e-3
    assert "groups a+b | c" in names(make_problem("abc", 1), make_watched("abc", affinity=affinity, stages=1))


def test_equal_affinities_make_no_groups():
    found = names(make_problem("abc"), make_watched("abc", affinity=np.full((3, 3), 1e-2)))
    assert not [name for name in found if name.startswith("groups")]


def test_mixtures_are_tried_where_sharing_loses_though_gradients_agree():
    problem, watched = make_problem("ab"), make_watched("ab", cosine=0.5)
    assert not {"cross-stitch", "CGC"} & {c.name for c in choose_candidates(problem, watched, gain=-0.9)}
    chosen = {c.name: c for c in choose_candidates(problem, watched, gain=-6.91)}
    assert {"cross-stitch", "CGC"} <= set(chosen) and "6.9 % behind single-task" in chosen["CGC"].reason


@pytest.mark.parametrize(("last", "said"), [(0.90, True), (0.99, False)])
def test_a_training_that_is_not_over_is_told(last, said):
    """Epochs are validated every second time; the last before the fifth that counts is the eighth of ten."""
    losses = {1: 5.0, 3: 3.0, 5: 2.0, 7: 1.0, 9: last}
    values = [{"a_loss": losses[e], "b_loss": losses[e]} if e in losses else {} for e in range(10)]
    columns = types.SimpleNamespace(epochs=10, values=values)
    found = still_learning(make_problem("ab"), columns)
    assert [finding.kind for finding in found] == ["still learning"] * said
    if said:
        assert found[0].numbers["gain"] == pytest.approx(10.0) and "still gained 10 %" in found[0].text
    assert still_learning(make_problem("ab"), types.SimpleNamespace(epochs=1, values=values[-1:])) == []


def test_findings_have_numbers():
    watched = make_watched("ab", cosine=-0.2, rate=0.8, shares=[0.95, 0.05], affinity=[[0, 0.02], [-0.01, 0]])
    seen = {finding.kind: finding for finding in watched.findings()}
    assert seen["starved"].tasks == ("b",) and "'a' 95 %" in seen["starved"].text
    assert "80 %" in seen["conflict"].text and "-0.20" in seen["conflict"].text
    assert "+2 %" in seen["affinity"].text and "-1 %" in seen["affinity"].text


class Model:
    """Predicts task "a" from its inputs, and "b" whatever they are."""

    tasks = ("a", "b", "extra")

    def evaluate(self, x, y, **options):
        known = x[:, :1]
        return {"a_loss": np.mean((y["a"] - known) ** 2), "b_accuracy": np.mean(y["b"] == np.round(y["b"].mean()))}


def test_tasks_of_which_nothing_is_learned():
    """Other examples' inputs serve them as well; what does not count is not asked about."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    data = (x, {"a": x[:, :1], "b": rng.integers(0, 2, (120, 1)), "extra": np.zeros(120)})
    problem = types.SimpleNamespace(
        validation=data, arrays=lambda given: given, metrics={"a": "loss", "b": "accuracy"}, directions=None
    )
    problem.known = lambda y, task: ~np.isnan(y[task][:, 0])
    assert learned_tasks(problem, Model()) == ["extra", "a"]
    few = {**data[1], "b": np.where(np.arange(120)[:, None] < 99, data[1]["b"], np.nan)}
    problem.validation = (x, few)
    assert set(learned_tasks(problem, Model())) == {"a", "b", "extra"}  # labels of "b" are too few to tell
    problem.validation = (x[:99], {task: labels[:99] for task, labels in data[1].items()})
    assert learned_tasks(problem, Model()) == ["a", "b", "extra"]
    watched = make_watched("ab")
    assert not watched.unlearned
    # Alone it is learned of "a", shared of "b": both count.
    content = {**watched.content, "learned": ["a"]}
    assert not Watched(content, {"learned": ["b"]}).unlearned
    noise = Watched(content, {"learned": ["a"]})
    assert noise.unlearned == ["b"] and noise.findings()[0].tasks == ("b",)
    nothing = noise.findings(["b"])[0]  # of all that counts: then all of it does
    assert nothing.kind == "nothing learned" and not nothing.tasks and "More epochs" in nothing.text


@pytest.mark.parametrize(("cosine", "kind"), [(0.5, "agreement"), (0.02, "orthogonal")])
def test_findings_on_agreement(cosine, kind):
    assert kind in {finding.kind for finding in make_watched("ab", cosine=cosine).findings()}
