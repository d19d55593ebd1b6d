"""QM9: 130,831 small organic molecules with 12 computed properties each.

The package qm9pack carries the tables (R. Ramakrishnan et al., Scientific Data 1, 2014; CC0). The package is not
imported. Of the tables, SMILES, composition and properties are kept, the geometries are not.
"""

import collections
import csv

import numpy as np

from .arrays import parts_of
from .files import CACHE, cached, package_file

# Property: the column of the tables, and its unit. Their standard deviations go from 0.02 (HOMO) to 280 (R2).
TASKS = {
    "mu": ("Dipole_debye", "debye"),
    "alpha": ("Polarizability_bohr3", "bohr³"),
    "homo": ("HOMO_au", "hartree"),
    "lumo": ("LUMO_au", "hartree"),
    "gap": ("HOMO_LUMO_gap_au", "hartree"),
    "r2": ("R2_bohr2", "bohr²"),
    "zpve": ("ZPVE_au", "hartree"),
    "u0": ("InternalEnergy_0K_au", "hartree"),
    "u": ("InternalEnergy_298K_au", "hartree"),
    "h": ("Enthalphy_298K_au", "hartree"),
    "g": ("GibbsFreeEnergy_298K_au", "hartree"),
    "cv": ("Heatcapacity_Cv_cal_mol_K", "cal/(mol K)"),
}
ATOMS = ("H", "C", "N", "O", "F")


def read_tables(paths):
    """Reads CSV files one after the other.

    Returns:
        Dict of arrays: "smiles" of strings, "atoms" of shape (n, 5), how many H, C, N, O and F, and "properties" of
        shape (n, 12).
    """
    smiles, atoms, properties = [], [], []
    for path in paths:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                smiles.append(row["SMILES"])
                atoms.append([int(count) for count in row["Stoichiometry"].strip("[]").split(",")])
                properties.append([float(row[column]) for column, _ in TASKS.values()])
    return {"smiles": np.array(smiles), "atoms": np.array(atoms, "uint8"), "properties": np.array(properties)}


def load(cache=CACHE):
    """The molecules, read once (10 seconds or so) and then kept in `cache`. Returns what `read_tables` does."""
    tables = [("qm9pack", "data", f"qm9_part{part}.csv") for part in (1, 2, 3)]
    return cached(cache, "qm9", lambda: read_tables([package_file(*table) for table in tables]))


def pieces(text, longest):
    """All pieces of a text of 1 to `longest` characters, repeated as often as they are there."""
    return [text[i : i + size] for size in range(1, longest + 1) for i in range(len(text) - size + 1)]


def count_pieces(smiles, known, longest):
    """How often each known piece is in each text: array of shape (texts, pieces)."""
    places = {piece: place for place, piece in enumerate(known)}
    counts = np.zeros((len(smiles), len(known)), "float32")
    for row, text in enumerate(smiles):
        for piece in pieces(text, longest):
            if piece in places:
                counts[row, places[piece]] += 1
    return counts


def qm9(rows=None, width=400, longest=3, seed=0, arrays=None):
    """Molecules of every split, as counts of pieces of their SMILES.

    Args:
        rows: Dict from split ("train", "validation", "test") to number of molecules, drawn at random.
        width: Integer. How many pieces count: the most frequent ones of the training molecules.
        longest: Integer. Length of the longest pieces.
        seed: Integer. Which molecules. Defaults to 0.
        arrays: What `load` returns. Defaults to that.

    Returns:
        Dict from split to `(inputs, labels)`. Inputs are of shape (n, 5 + width): numbers of atoms and of pieces,
        divided by their largest in training. Labels are a dict from property to an array of shape (n, 1), in its unit.
    """
    arrays = load() if arrays is None else arrays
    rows = rows or {"train": 20_000, "validation": 3_000, "test": 10_000}
    order = np.random.default_rng(seed).permutation(len(arrays["smiles"]))
    if sum(rows.values()) > len(order):
        raise ValueError(f"`rows` should be at most {len(order):,} molecules together. Received: {rows}")
    parts = parts_of(order, rows)
    frequency = collections.Counter()
    for text in arrays["smiles"][parts["train"]]:
        frequency.update(set(pieces(text, longest)))
    # Of pieces that are as frequent, the first in the alphabet: sets have another order in every process.
    known = sorted(sorted(frequency, key=lambda piece: (-frequency[piece], piece))[:width])
    inputs = {
        split: np.concatenate(
            [arrays["atoms"][chosen].astype("float32"), count_pieces(arrays["smiles"][chosen], known, longest)], axis=1
        )
        for split, chosen in parts.items()
    }
    largest = np.maximum(inputs["train"].max(axis=0), 1)
    return {
        split: (
            inputs[split] / largest,
            {task: arrays["properties"][chosen, i, None] for i, task in enumerate(TASKS)},
        )
        for split, chosen in parts.items()
    }


def standardized(splits):
    """What `qm9` returns with each property at mean 0 and variance 1 in training."""
    scales = {task: (y.mean(), y.std()) for task, y in splits["train"][1].items()}
    return {
        split: (x, {task: ((y[task] - mean) / std).astype("float32") for task, (mean, std) in scales.items()})
        for split, (x, y) in splits.items()
    }
