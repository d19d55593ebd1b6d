"""Grouping: the authors' published numbers, three exact methods against each other, scale, bad input."""

import itertools
import json
import pathlib
import time

import numpy as np
import pytest

from keras_mtl.analysis import Affinity, Grouping, Network, group_tasks
from keras_mtl.analysis.grouping import _integer as integer

GOLDENS = pathlib.Path(__file__).parent / "goldens"
BUDGETS = np.arange(1, 5.5, 0.5)
EXACT = ("exhaustive", "branch_and_bound", "integer")


@pytest.fixture(scope="module")
def standley():
    """The networks of Standley et al., setting 1: validation, test, and after a fifth of the training."""
    content = json.loads((GOLDENS / "standley_setting1.json").read_text())
    tasks = content["tasks"]

    def read(rows):
        full = [Network({t: v for t, v in zip(tasks, row, strict=True) if v is not None}) for row in rows[1:]]
        return full + [Network({t: v}, cost=0.5) for t, v in zip(tasks, rows[0], strict=True)]

    return {name: read(content[name]) for name in ("validation", "test", "early")}


@pytest.fixture(scope="module")
def taskonomy5():
    return json.loads((GOLDENS / "tag_taskonomy5.json").read_text())["affinity"]


def total(grouping, networks, reassign=False):
    return round(sum(grouping.evaluate(networks, reassign).values()), 5)


def planted(count, groups, noise, seed=0):
    """Affinities of about .5 within planted groups, about 0 between them."""
    home = np.arange(count) % groups
    noise = noise * np.random.default_rng(seed).normal(size=(count, count))
    return Affinity([f"t{k}" for k in range(count)], 0.5 * (home[:, None] == home) + noise), home


def finds(grouping, home):
    """Whether the groups are the planted ones."""
    return sorted(sorted(int(t[1:]) for t in g) for g in grouping.groups) == sorted(
        np.flatnonzero(home == h).tolist() for h in set(home.tolist())
    )


@pytest.mark.oracle
@pytest.mark.parametrize("method", ["branch_and_bound", "integer"])
def test_standley_optimal(standley, method):
    """Test-set totals of the authors' program, at budgets 1, 1.5, ..., 5."""
    published = [0.50278, 0.46132, 0.45224, 0.44612, 0.44235, 0.43932, 0.43555, 0.43555, 0.43481]
    groupings = [group_tasks(standley["validation"], b, method=method) for b in BUDGETS]
    assert [total(g, standley["test"]) for g in groupings] == published
    groups = [sorted("".join(group) for group in g.groups) for g in groupings[:3]]
    assert groups == [["sdnke"], ["dnke", "s"], ["nke", "sdn"]]
    assert groupings[1].cost == 1.5 and groupings[2].cost == 2.0


@pytest.mark.oracle
def test_standley_early_stopping(standley):
    published = [0.50278, 0.48732, 0.46727, 0.46063, 0.45722, 0.45058, 0.45058, 0.44742, 0.44742]
    found = [group_tasks(standley["early"], b, method="early_stopping") for b in BUDGETS]
    assert [total(g, standley["test"], reassign=True) for g in found] == published


@pytest.mark.oracle
def test_standley_higher_order(standley):
    published = [0.50278, 0.46132, 0.45474, 0.4505, 0.44875, 0.44489, 0.44112]
    found = [group_tasks(standley["validation"], b, method="higher_order") for b in BUDGETS]
    totals = [total(g, standley["test"]) for g in found]
    assert totals[:7] == published
    # At budgets 4.5 and 5 two choices are equally good by the approximation; the authors' program takes one of them.
    assert totals[7] in (0.44552, 0.44532) and totals[8] in (0.44196, 0.44176)


def test_higher_order_reads_no_larger_network(standley):
    small = [network for network in standley["validation"] if len(network.tasks) <= 2]
    for budget in (1, 2, 3.5):
        of_all = group_tasks(standley["validation"], budget, method="higher_order")
        assert group_tasks(small, budget, method="higher_order").objective == pytest.approx(of_all.objective)
    five = group_tasks(small, 1, method="higher_order")
    pairs = {n.tasks: n.losses for n in small if len(n.tasks) == 2}
    by_hand = np.mean([next(v["d"] for p, v in pairs.items() if set(p) == {"d", mate}) for mate in "snke"])
    assert five.scores["d"] == pytest.approx(by_hand)


@pytest.mark.oracle
@pytest.mark.parametrize("method", EXACT)
def test_tag_on_published_affinities(taskonomy5, method):
    """Two networks, whichever way the table is read: the published one does not say."""
    as_read = Affinity.from_dict(taskonomy5)
    turned = Affinity(as_read.tasks, as_read.values.T)
    for affinity in (as_read, turned):
        grouping = group_tasks(affinity, 2, method=method)
        assert {frozenset(g) for g in grouping.groups} == {
            frozenset({"key_l", "edge2d_l"}),
            frozenset({"ss_l", "depth_l", "norm_l"}),
        }
    # As read, table[task][other] is what `other` does for `task`: sources are columns.
    assert group_tasks(turned, 2, method=method).objective == pytest.approx(0.3217, abs=5e-5)


def test_tag_score_by_hand():
    affinity = Affinity("abc", [[9, 0.2, 0.3], [0.4, 9, 0.1], [0.6, 0.5, 9]])
    one = group_tasks(affinity, 1)
    assert one.groups == (("a", "b", "c"),)
    assert one.scores == pytest.approx({"a": 0.5, "b": 0.35, "c": 0.2})
    assert one.objective == pytest.approx(0.35)
    three = group_tasks(affinity, 3)  # each task with its best mate, whoever else is served there
    assert three.scores == pytest.approx({"a": 0.6, "b": 0.5, "c": 0.3})


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_exact_methods_agree(seed, overlap):
    affinity = Affinity("abcde", np.random.default_rng(seed).normal(0.1, 0.3, (5, 5)))
    for budget in (1, 2, 3):
        found = [group_tasks(affinity, budget, method=method, overlap=overlap) for method in EXACT]
        assert np.ptp([g.objective for g in found]) < 1e-6 and all(g.exact for g in found)
        if not overlap:
            assert all(sum(map(len, g.groups)) == 5 for g in found)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("count", [2, 5, 20])
def test_one_network_that_is_best_for_every_task(count, overlap):
    """Nothing is above its losses to scale the others by."""
    affinity = Affinity([f"t{k}" for k in range(count)], np.full((count, count), 0.25))
    for method in EXACT if count < 15 else ("integer",):
        found = group_tasks(affinity, count, alone=-1.0, overlap=overlap, method=method)
        assert found.objective == pytest.approx(0.25) and min(map(len, found.groups)) > 1
        networks = [Network({"a": 0.1, "b": 0.1}), Network({"a": 0.2}), Network({"b": 0.3})]
        assert group_tasks(networks, 2, overlap=overlap, method=method).groups == (("a", "b"),)


def test_costs_count():
    """Brute force, written differently: all pairs of networks that the budget pays for."""
    rng = np.random.default_rng(0)
    sets = [c for r in (1, 2, 3, 4) for c in itertools.combinations("abcd", r)]
    networks = [Network({t: rng.random() for t in s}, cost=float(rng.choice([0.5, 1, 2]))) for s in sets]
    for budget in (2, 2.5):
        best = min(
            sum(min(n.losses.get(t, np.inf) for n in chosen) for t in "abcd")
            for r in range(1, 6)
            for chosen in itertools.combinations(networks, r)
            if sum(n.cost for n in chosen) <= budget
        )
        for method in EXACT:
            found = group_tasks(networks, budget, method=method)
            assert found.objective == pytest.approx(best, abs=1e-6) and found.cost <= budget


def test_a_task_that_all_harm_is_alone():
    affinity = Affinity("abc", [[0, 0.5, -0.4], [0.5, 0, -0.4], [-0.1, -0.1, 0]])
    assert group_tasks(affinity, 2).groups == (("a", "b"), ("c",))
    together = group_tasks(affinity, 2, alone=-1e6)
    assert together.groups == (("a", "b"), ("a", "c")) or together.groups == (("a", "b"), ("b", "c"))
    assert together.scores == pytest.approx({"a": 0.5, "b": 0.5, "c": -0.4})


def test_helpers_need_not_be_solved():
    networks = [Network({"a": 0.3, "b": 0.9}), Network({"a": 0.4}), Network({"c": 0.1})]
    found = group_tasks(networks, 2, tasks=["a", "c"])
    assert found.groups == (("a", "b"), ("c",)) and found.tasks == ("a", "c")


def test_programs_in_parts_are_as_exact(monkeypatch):
    """Column by column, and at once."""

    affinity = Affinity("abcdefgh", np.random.default_rng(1).normal(0.1, 0.3, (8, 8)))
    for overlap in (True, False):
        for budget in (2, 3):
            at_once = group_tasks(affinity, budget, overlap=overlap).objective
            monkeypatch.setattr(integer, "ENTRIES_AT_ONCE", 0)
            assert group_tasks(affinity, budget, overlap=overlap).objective == pytest.approx(at_once, abs=1e-6)
            monkeypatch.undo()


def test_search_finds_what_listing_all_groups_finds(monkeypatch):
    for affinity in (
        Affinity("abcdefghi", np.random.default_rng(2).normal(0.1, 0.3, (9, 9))),
        planted(9, 3, 0.1)[0],
    ):
        for overlap in (True, False):
            best = group_tasks(affinity, 2, overlap=overlap)
            monkeypatch.setitem(group_tasks.__globals__, "ALL_GROUPS_UP_TO", 0)
            found = group_tasks(affinity, 2, overlap=overlap)
            monkeypatch.undo()
            assert best.exact and not found.exact
            assert found.objective == pytest.approx(best.objective, abs=1e-6)


def test_forty_tasks():
    affinity, home = planted(40, 8, 0.1)
    start = time.process_time()
    grouping = group_tasks(affinity, 8, overlap=False)
    assert time.process_time() - start < 60
    assert finds(grouping, home)


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("budget", [4, 8])
def test_forty_tasks_without_structure(budget, overlap):
    affinity = Affinity([f"t{k}" for k in range(40)], np.random.default_rng(1).normal(0.1, 0.3, (40, 40)))
    start = time.process_time()
    grouping = group_tasks(affinity, budget, overlap=overlap)
    assert time.process_time() - start < 60
    assert grouping.objective > group_tasks(affinity.symmetric(), budget, method="clustering").objective


def test_a_thousand_tasks():
    affinity, home = planted(1000, 25, 0.1)
    start = time.process_time()
    grouping = group_tasks(affinity.symmetric(), 25, method="clustering")
    assert time.process_time() - start < 60
    assert finds(grouping, home)


def test_bad_input():
    affinity, _ = planted(4, 2, 0.1)
    with pytest.raises(ValueError, match="one of"):
        group_tasks(affinity, 2, method="genetic")
    with pytest.raises(ValueError, match=r"of task 't1' on task 't2', .* the other way"):
        group_tasks(affinity, 2, method="clustering")
    broken = Affinity(affinity.tasks, np.where(np.eye(4)[::-1] > 0, np.nan, affinity.values))
    with pytest.raises(ValueError, match=r"finite. Received: nan of task 't0' on task 't3' \(4 such"):
        group_tasks(broken, 2)
    assert len(group_tasks(broken.filled(-1.0), 2).groups) == 2
    with pytest.raises(ValueError, match=r"cheapest costs 1\. Received: budget=0.5"):
        group_tasks(affinity, 0.5)
    with pytest.raises(ValueError, match=r"no affinities of task \['x'\]"):
        group_tasks(affinity, 2, tasks=["t0", "x"])
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        group_tasks(np.zeros((2, 3)), 1)
    with pytest.raises(ValueError, match="two different names"):
        Affinity(["a", "a"], np.zeros((2, 2)))
    with pytest.raises(ValueError, match="at most 14 tasks"):
        group_tasks(planted(15, 3, 0.1)[0], 2, method="branch_and_bound")
    with pytest.raises(ValueError, match="list of `Network`"):
        group_tasks(affinity, 2, method="higher_order")


def test_bad_networks():
    networks = [Network({"a": 0.1}), Network({"b": 0.2})]
    with pytest.raises(ValueError, match=r"no candidate with task \['c'\]"):
        group_tasks(networks, 2, tasks=["a", "b", "c"])
    with pytest.raises(ValueError, match="every task"):
        group_tasks(networks, 1)
    with pytest.raises(ValueError, match="cheapest costs 1"):
        group_tasks(networks, 0.9)
    with pytest.raises(ValueError, match=r"none of \('a', 'b'\)"):
        group_tasks(networks, 2, method="higher_order")
    with pytest.raises(ValueError, match="task 'a' should be finite"):
        Network({"a": float("nan")})
    with pytest.raises(ValueError, match="above 0"):
        Network({"a": 0.1}, cost=0)
    with pytest.raises(ValueError, match="at most 1,000,000"):
        group_tasks([Network({"a": k / 99, "b": k / 77}) for k in range(99)], 9, method="exhaustive")


def test_grouping_object(tmp_path):
    grouping = Grouping([["a", "b"], ["b", "c"]], serves={"a": 0, "b": 1, "c": 1}, costs=[1, 0.5])
    assert grouping.served(1) == ("b", "c") and grouping.cost == 1.5
    grouping.save(tmp_path / "g.json")
    assert Grouping.load(tmp_path / "g.json").to_dict() == grouping.to_dict()
    random = grouping.shuffled(0)
    assert sorted(random.tasks) == ["a", "b", "c"] and [len(g) for g in random.groups] == [2, 2]
    assert len({grouping.shuffled(seed).groups for seed in range(20)}) > 3
    assert "b, c" in str(grouping) and "Cost 1.5 of 1.5" in str(grouping)
    with pytest.raises(ValueError, match="'a' should be served"):
        Grouping([["a"], ["b"]], serves={"a": 1, "b": 1})
    with pytest.raises(ValueError, match="cost 1"):
        grouping.evaluate([Network({"a": 0.1})])


def test_affinity_object(tmp_path):
    affinity = Affinity("ab", [[0, 1], [3, np.nan]])
    affinity.save(tmp_path / "a.json")
    again = Affinity.load(tmp_path / "a.json")
    np.testing.assert_array_equal(again.values, affinity.values)
    assert again.symmetric().of("a", "b") == 2 and not again.is_symmetric and "row helps column" in str(again)
    with pytest.raises(ValueError, match="row: "):
        Affinity.from_dict({"a": {"b": 1.0}, "c": {"a": 1.0}})
