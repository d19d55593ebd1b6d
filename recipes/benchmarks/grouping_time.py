"""Time of grouping many tasks by affinities, in CPU seconds of one process.

Affinities are planted (0.5 within groups of five, 0 between them, noise of a tenth on both) or have no structure
(normal, mean 0.1 and standard deviation 0.3). Where groups are planted, the last column says whether they were found.
Without structure there is nothing to find; it has the objective, beside that of clustering the same tasks.

    python recipes/benchmarks/grouping_time.py [--quick]
"""

import time

from shared import options_of, print_table

import numpy as np

from keras_mtl.analysis import Affinity, group_tasks


def affinities(count, planted, seed=0):
    """Affinities of tasks t0, t1, ..., and the planted group of each."""
    home = np.arange(count) % (count // 5)
    rng = np.random.default_rng(seed)
    if planted:
        values = 0.5 * (home[:, None] == home) + 0.1 * rng.normal(size=(count, count))
    else:
        values = rng.normal(0.1, 0.3, (count, count))
    return Affinity([f"t{k}" for k in range(count)], values), home


def measure(count, planted, method, overlap, budget):
    affinity, home = affinities(count, planted)
    start = time.process_time()
    if method == "clustering":
        affinity = affinity.symmetric()
    found = group_tasks(affinity, budget, method=method, overlap=overlap)
    seconds = time.process_time() - start
    if planted:
        groups = {frozenset(int(task[1:]) for task in group) for group in found.groups}
        whole = groups == {frozenset(np.flatnonzero(home == group).tolist()) for group in set(home.tolist())}
        return seconds, "planted groups found" if whole else "planted groups not found"
    clustered = group_tasks(affinity.symmetric(), budget, method="clustering")
    by_clusters = np.mean([score(affinity, group, task) for group in clustered.groups for task in group])
    return seconds, f"objective {found.objective:.3f}, of clusters {by_clusters:.3f}"


def score(affinity, group, task):
    """What the others of a group do for a task."""
    others = [affinity.of(other, task) for other in group if other != task]
    return np.mean(others) if others else 0.0


def main():
    options = options_of(__doc__, quick=(False, "few tasks, to see that it runs"))
    few, many = (20, [100]) if options.quick else (40, [1000, 4000])
    jobs = [(few, planted, "integer", overlap, few // 5) for planted in (True, False) for overlap in (False, True)]
    jobs += [(count, True, "clustering", False, count // 5) for count in many]
    rows = []
    for count, planted, method, overlap, budget in jobs:
        seconds, found = measure(count, planted, method, overlap, budget)
        words = "planted" if planted else "no structure", method, "yes" if overlap else "no"
        rows.append([f"{count:,}", *words, str(budget), f"{seconds:.1f}", found])
    header = ["tasks", "affinities", "method", "overlap", "networks", "CPU s", "found"]
    print_table("Grouping by affinities", header, rows)


if __name__ == "__main__":
    main()
