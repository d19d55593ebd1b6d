"""SHAPES: its rules, read off the real validation pictures, and what module networks make of them."""

import sys

import numpy as np
import pytest

from recipes.data import shapes


def test_no_validation_query_is_a_training_query():
    images, queries, answers = shapes.load_validation()
    assert images.shape == (1024, 30, 30, 3) and images.min() == 0 and images.max() == 1
    assert len(set(queries)) == 16 and len(shapes.train_queries()) == 212
    assert not set(queries) & set(shapes.train_queries())
    assert answers.mean() == pytest.approx(0.3848, abs=1e-4)


@pytest.mark.oracle
def test_real_pictures_have_red_first_and_relations_lead_to_the_next_cell():
    """Colors can be read off the pictures: with them, every answer to a query about colors comes out."""
    images, queries, answers = shapes.load_validation()
    cells = images.reshape(-1, 3, 10, 3, 10, 3).mean((2, 4))
    colors = np.where(cells.sum(-1) > 0.02, cells.argmax(-1), -1)
    asked = [i for i, query in enumerate(queries) if not any(shape in query for shape in shapes.SHAPES)]
    assert len(asked) >= 128
    for i in asked:
        assert shapes.truth(queries[i], colors[[i]], np.zeros((1, 3, 3)))[0] == answers[i], queries[i]


def test_generated_pictures_are_like_the_rules_say():
    rng = np.random.default_rng(0)
    colors, kinds, pictures = shapes.make_scenes(50, rng)
    cells = pictures.reshape(-1, 3, 10, 3, 10, 3).mean((2, 4))
    np.testing.assert_array_equal(cells.sum(-1) > 0, colors >= 0)
    np.testing.assert_array_equal(cells.argmax(-1)[colors >= 0], colors[colors >= 0])
    np.testing.assert_array_equal(colors >= 0, kinds >= 0)
    area = {shape: shapes.coverage(shape, 3.0).sum() for shape in shapes.SHAPES}
    assert area["square"] == pytest.approx(36, rel=0.1)
    assert area["circle"] == pytest.approx(9 * np.pi, rel=0.1)
    assert area["triangle"] == pytest.approx(18, rel=0.1)
    assert shapes.coverage("triangle", 3.0)[:5].sum() < shapes.coverage("triangle", 3.0)[5:].sum()  # the tip is up


def test_as_many_yes_as_no_for_each_query():
    queries = ["(is red circle)", "(is blue (above red))", "(is red blue)"]
    _, asked, answers = shapes.make_examples(queries, scenes=200, each=16)
    by_query = {query: answers[[q == query for q in asked]].mean() for query in queries}
    assert by_query == {"(is red circle)": 0.5, "(is blue (above red))": 0.5, "(is red blue)": 0.0}


@pytest.mark.slow
def test_modules_are_right_about_questions_that_were_never_asked(recipe):
    """At least 98 % on the real validation split, with a seed that chose nothing."""
    modules = recipe("shapes_modules")
    examples = modules.shapes.make_examples(modules.shapes.train_queries(), seed=11)
    _, found = modules.train("modules", examples, {"new": modules.shapes.load_validation()}, seed=11, epochs=8)
    assert found["new"][-1] >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shapes_modules", "omninet_tasks"])
@pytest.mark.filterwarnings("ignore:Task 'find:UserWarning")
def test_quick_runs(name, recipe, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    recipe(name).main()
    assert list((tmp_path / "runs" / f"{name}-quick").glob("*.png"))
