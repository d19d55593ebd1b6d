"""Measures, tables of their means over seeds, and what the seeds tell apart.

Results are a dict from the name of a model, or a tuple of group and model, to a dict from score to a list over seeds.
"""

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata, ttest_ind, ttest_rel

import keras_mtl

console = Console()
ENOUGH_SEEDS = 5  # with fewer, nothing is stated
COSTS = ("parameters", "seconds")


def label(name):
    """A model's name as text: of a group and a model, both."""
    return ", ".join(map(str, name)) if isinstance(name, tuple) else name


def titled(scores):
    """Dict from score to its title, of such a dict or of a collection of scores."""
    return scores if isinstance(scores, dict) else {score: score for score in scores}


def by_group(results, groups=None):
    """Results of each group by its title; all of them under no title where there are no groups."""
    if not groups:
        return {"": results}
    return {
        words: {name: found for (of_group, name), found in results.items() if of_group == group}
        for group, words in groups.items()
    }


def print_table(title, header, rows):
    """A table, its first column to the left."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, column in enumerate(header):
        table.add_column(column, justify="right" if place else "left", no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def over_seeds(options):
    """What a table is of."""
    count = len(options.seeds)
    if options.quick:
        return "a quick run, which shows nothing but that it runs"
    return f"mean ± standard deviation over {count} seeds" if count > 1 else "one seed"


def may_state(options):
    """Whether there are seeds enough for a verdict; says so where there are not."""
    if not options.quick and len(options.seeds) < ENOUGH_SEEDS:
        console.print(f"Fewer than {ENOUGH_SEEDS} seeds: nothing is stated.")
    return not options.quick and len(options.seeds) >= ENOUGH_SEEDS


def report(
    results,
    options,
    scores,
    *,
    title="",
    reference=None,
    lower=(),
    digits=1,
    paired=False,
    comparisons=None,
    gain=True,
    verdict=True,
):
    """Prints means over seeds, and which models the seeds tell apart from a reference.

    Args:
        results: Of one group.
        options: As of `command_line`.
        scores: Dict from score to its title, or a collection of scores.
        title: String.
        reference: Name of the model that the others are compared with. Defaults to `None`: nothing is compared.
        lower: Scores of which less is better; `True` for all. Defaults to none.
        digits: Integer of decimals or string of a format, such as `.2g`, or dict from score to one.
        paired: Boolean. Whether seeds draw what all models have in common, such as the data: then a paired t-test.
            Defaults to `False`: Welch's.
        comparisons: Integer. How many tests share the 5 %. Defaults to all of the table.
        gain: Boolean. Whether delta_m over the reference is shown.
        verdict: Boolean. Whether anything is tested.
    """
    if not results:
        return  # none of these models was asked for
    scores = titled(scores)
    lower = scores if lower is True else lower
    others = [name for name in results if name != reference] if reference in results else []
    comparisons = comparisons or len(others) * len(scores)
    apart = {}
    if others and verdict and may_state(options):
        how = {"comparisons": comparisons, "paired": paired}
        pairs = [(name, score) for name in others for score in scores]
        apart = {(n, s): tell_apart(results[n][s], results[reference][s], **how) for n, s in pairs}
    costs = [cost for cost in COSTS if cost in next(iter(results.values()))]
    header = ["model", *costs, *scores.values(), *(["delta_m, %"] if others and gain else [])]
    rows = []
    for name, found in results.items():
        cells = [f"{np.mean(found[cost]):,.0f}" for cost in costs]
        for score in scores:
            mark = " *" if apart.get((name, score)) else ""
            cells.append(mean_and_spread(found[score], digits_of(score, digits)) + mark)
        if others and gain:
            own, of_reference = ({score: model[score] for score in scores} for model in (found, results[reference]))
            relative = all(np.mean(values) for values in of_reference.values())  # to 0, nothing is
            cells.append(mean_and_spread(delta_m(own, of_reference, lower), signed=True) if relative else "")
        rows.append([label(name), *cells])
    if len(scores) > 6:  # more scores than fit beside each other: a column for each model
        header, *rows = map(list, zip(header, *rows, strict=True))
    print_table(f"{title}, {over_seeds(options)}", header, rows)
    if apart:
        _say(results, scores, reference, apart, lower, digits)
        kind = "paired t-tests" if paired else "Welch's t-tests"
        console.print(
            f"*: significantly different from {reference} by {kind} at 5 %, shared out over {comparisons} comparisons."
        )


def _say(results, scores, reference, apart, lower, digits):
    """Prints what each model is better and worse in than the reference."""
    for name in dict.fromkeys(name for name, _ in apart):
        found = {True: [], False: []}
        for score, words in scores.items():
            if apart[name, score]:
                difference = np.mean(results[name][score]) - np.mean(results[reference][score])
                told = f"{words} ({difference:+{digits_of(score, digits)}})"
                found[bool((difference < 0) == (score in lower))].append(told)
        better, worse = (", ".join(found[kind]) or "nothing" for kind in (True, False))
        console.print(f"{label(name)}, beside {reference}: better in {better}; worse in {worse}.", soft_wrap=True)


def tell_apart(scores, others, comparisons=1, paired=False):
    """Whether two means over seeds differ by Welch's test at 5 %, or by a paired one, shared out over comparisons.

    Paired is for seeds that draw the data too: what a split makes easy for one model it makes easy for the other. Where
    nothing varies, a test has nothing to go by, and no difference is significant.
    """
    scores, others = np.asarray(scores, "float64"), np.asarray(others, "float64")
    spread = np.std(scores - others) if paired else np.hypot(scores.std(), others.std())
    if spread <= 1e-9 * np.abs(np.concatenate([scores, others])).max():
        return False
    test = ttest_rel(scores, others) if paired else ttest_ind(scores, others, equal_var=False)
    return bool(test.pvalue < 0.05 / comparisons)


def mean_and_spread(values, digits=1, signed=False):
    """Text such as `95.1 ± 0.2`: mean and standard deviation over seeds; none where there are no numbers."""
    values = np.asarray(values, "float64")
    if np.isnan(values).all():
        return ""
    form = digits_of(None, digits)
    mean = f"{values.mean():{'+' if signed else ''}{form}}"
    return f"{mean} ± {values.std(ddof=1):{form}}" if len(values) > 1 else mean


def digits_of(score, digits):
    """How a score is written: a format."""
    digits = digits.get(score, 1) if isinstance(digits, dict) else digits
    return digits if isinstance(digits, str) else f".{digits}f"


def delta_m(scores, baseline, lower_is_better=()):
    """Mean over tasks of the relative gain over the baseline's mean over seeds, in percent, for each seed."""
    directions = {task: "min" if task in lower_is_better else "max" for task in scores}
    single = {task: {task: float(np.mean(baseline[task]))} for task in scores}
    of_seeds = [{t: {t: v} for t, v in zip(scores, seed, strict=True)} for seed in zip(*scores.values(), strict=True)]
    return np.array([keras_mtl.metrics.delta_m(values, single, directions) for values in of_seeds])


def steps_until(curve, enough, every):
    """Steps until a curve, which has a point for `every` steps, is high enough; infinite where it never is."""
    reached = np.flatnonzero(np.array(curve) >= enough)
    return (reached[0] + 1) * every if len(reached) else np.inf


def area_under_roc(labels, scores):
    """How likely a positive example scores higher than a negative one; ties count half."""
    positive = np.ravel(labels) > 0.5
    ranks = rankdata(np.ravel(scores))
    count = positive.sum()
    return (ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(ranks) - count))


def clocked(run, clock, steps=1):
    """A function that calls another and gives the milliseconds of one of its steps."""

    def measure():
        start = clock()
        run()
        return 1000 * (clock() - start) / steps

    return measure


def in_turns(measures, rounds):
    """What several functions measure, in turns, so that what disturbs one disturbs all.

    Args:
        measures: Dict from name to a function that gives a number.
        rounds: Integer. How often each has its turn, beside a first one, which traces and does not count.

    Returns:
        Dict from name to an array of `rounds` numbers.
    """
    found = {name: [] for name in measures}
    for _ in range(rounds + 1):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: np.array(values[1:]) for name, values in found.items()}
