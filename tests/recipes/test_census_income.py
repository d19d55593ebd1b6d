import numpy as np
import pytest

from recipes import common
from recipes.data import census_income as census


def a_table(rows, rng):
    table = {name: rng.choice(["x", "y", "z"], rows) for name in census.COLUMNS}
    table.update({name: rng.integers(0, 100, rows).astype(str) for name in census.NUMBERS})
    table["income"] = rng.choice(["- 50000.", "50000+."], rows)
    table["marital status"] = rng.choice(["Never married", "Widowed"], rows)
    table["education"] = rng.choice(["Children", *census.COLLEGE], rows)
    return table


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    return a_table(200, rng), a_table(80, rng)


def test_there_are_42_columns_and_the_options_name_them():
    assert len(census.COLUMNS) == len(set(census.COLUMNS)) == 42
    hidden = [column for columns in census.GIVEN_AWAY_BY.values() for column in columns]
    assert {*census.NUMBERS, *census.AMOUNTS, *census.NOT_INPUTS, *hidden} <= set(census.COLUMNS)


def test_read_table_strips_spaces(tmp_path):
    (tmp_path / "file.csv").write_text(", ".join(f"cell {i} " for i in range(42)) + "\n")
    assert census.read_table(tmp_path / "file.csv")["age"].tolist() == ["cell 0"]


def test_categories_and_scales_are_those_of_the_training_table(tables):
    train, test = tables
    test["race"][:3] = "new"
    arrays = census.encode(train, test)
    assert arrays["test/codes/race"][:3].tolist() == [0, 0, 0]
    assert set(arrays["train/codes/race"]) == {1, 2, 3}
    code = dict(zip(train["race"], arrays["train/codes/race"], strict=True))
    assert [code[value] for value in test["race"][3:]] == arrays["test/codes/race"][3:].tolist()
    assert arrays["train/numbers/age"].mean() == pytest.approx(0, abs=1e-5)
    assert arrays["train/numbers/age"].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(arrays["test/labels/income"], test["income"] == "50000+.")


@pytest.mark.parametrize("task", list(census.TASKS))
def test_no_input_gives_a_label_away_and_no_code_stands_in_two_columns(tables, task):
    arrays = census.encode(*tables)
    data, codes = census.census_income([task], arrays=arrays)
    inputs, labels = data["train"]
    hidden = {*census.NOT_INPUTS, *census.GIVEN_AWAY_BY[task]}
    numbers = len({*census.NUMBERS} - hidden)
    kept = 42 - len({*census.NUMBERS, *hidden})
    assert inputs["codes"].shape == (180, kept) and data["validation"][0]["codes"].shape == (20, kept)
    assert inputs["numbers"].shape == (180, numbers) and labels[task].shape == (180, 1)
    columns = [set(column) for column in inputs["codes"].T]
    assert len(set.union(*columns)) == sum(map(len, columns)) and inputs["codes"].max() < codes


def test_a_protected_column_stands_beside_the_labels_and_is_no_input(tables):
    train, test = tables
    test["sex"][:5] = "new"
    arrays = census.encode(train, test)
    plain, _ = census.census_income(["income"], arrays=arrays)
    data, _ = census.census_income(["income"], arrays=arrays, protected="sex")
    assert data["train"][0]["codes"].shape[1] == plain["train"][0]["codes"].shape[1] - 1
    np.testing.assert_array_equal(data["test"][1]["sex"][:, 0], [-1] * 5 + ["xyz".index(s) for s in test["sex"][5:]])
    assert "sex" not in plain["test"][1]


def test_area_under_roc_counts_pairs():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, (50, 1)), rng.integers(0, 6, (50, 1)) / 5
    difference = scores[labels == 1][:, None] - scores[labels == 0]
    expected = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert common.area_under_roc(labels, scores) == pytest.approx(expected)


@pytest.mark.parametrize(("pair", "codes", "columns"), [("income", 528, 32), ("education", 506, 30)])
def test_models_have_as_many_parameters_as_single_task_ones(pair, codes, columns, recipe):
    income = recipe("census_income")
    arrays = {"codes": np.zeros((1, columns)), "numbers": np.zeros((1, 7))}  # the shapes of Census-Income
    counts = {
        name: income.build(builder, income.PAIRS[pair], arrays, codes, hidden, **options).count_params()
        for name, (builder, options, hidden) in income.MODELS.items()
    }
    width = 8 * columns + 7
    assert counts[common.SINGLE] == 2 * (8 * codes + (width + 1) * 61 + 62 * 16 + 17)
    for name, count in counts.items():
        assert abs(count / counts[common.SINGLE] - 1) < (0.03 if name == "CGC" else 0.02), (name, count)
