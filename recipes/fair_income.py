"""Income and work of 300,000 people, decided alike for women and men? Penalties, an adversary and a bound.

About an hour on two cores, two minutes with --quick; the data come with a package (see requirements-data.txt) and take
half a minute to read the first time.

One trunk learns three tasks of Census-Income: who earns over $50,000, who has been to college, who worked all 52 weeks.
Sex is no input, yet other columns tell it, and the decisions on income and work differ by it, partly because the labels
do (2.6 % of the women have the high income, 10.2 % of the men). The model is trained without and with each remedy of
`keras_mtl.fairness`. Every model decides about as many rows positive as are: the threshold is the quantile of its
scores on validation rows at the base rate of the task. So no gap is closed by deciding everything negative.

    DP    |P(decided positive | men) - P(decided positive | women)|: demographic parity
    FPR   the same among those whose label is negative; FNR: among positives, equal opportunity
    ARFG  mean over the tasks of the equalized odds gap (the larger of FPR and FNR) over that of single-task models
    ARE   the same of the error rate

What it can show: what each remedy does to each gap, and what it costs, here. What it cannot: which gap should be
closed. Strengths, bound and epochs are those of a first trial with other seeds; the test rows chose nothing.

    python recipes/fair_income.py [--quick] [--models "none,parity 2"] [--rows 60000] [--seeds 5]
"""

from common import SINGLE, area_under_roc, command_line, console, may_state, report, summarize, trained

import numpy as np
from census_income import build, train
from data import census_income as census

import keras_mtl
from keras_mtl import fairness

TASKS = ("income", "education", "full_year")
UNEQUAL = ("income", "full_year")  # there is next to no gap in education
SEX = "sex"  # 0: women, 1: men
NONE = "none"


def remedy(kind, tasks=("income",), **how):
    """What makes a penalty for each task: every model needs its own, since multipliers and adversaries are state."""
    return lambda: {task: kind(SEX, from_logits=True, **how) for task in tasks}


def bound(value, tasks=("income",)):
    """Demographic parity of probabilities, to within a bound."""
    return remedy(fairness.ParityPenalty, tasks, bound=value, multiplier_rate=0.5)


MODELS = {
    SINGLE: dict,
    NONE: dict,
    "parity 2": remedy(fairness.ParityPenalty, strength=2.0),
    "covariance 8": remedy(fairness.CovariancePenalty, strength=8.0),
    "MMD 5": remedy(fairness.MMDPenalty, strength=5.0, among="negatives"),
    "adversary 0.5": remedy(fairness.Adversary, strength=0.5, sees_label=True),
    "adversary 1": remedy(fairness.Adversary, strength=1.0, sees_label=True),
    "bound 0.02": bound(0.02),
    "both: parity 2": remedy(fairness.ParityPenalty, UNEQUAL, strength=2.0),
    "both: MMD 5": remedy(fairness.MMDPenalty, UNEQUAL, strength=5.0, among="negatives"),
    "both: adversary 1": remedy(fairness.Adversary, UNEQUAL, strength=1.0, sees_label=True),
    "both: bounds": lambda: bound(0.02)() | bound(0.03, ("full_year",))(),
}
# Model, what is looked at, at most this share of what it is without, for at most this many points of AUC.
EXPECTED = (("parity 2", "DP", 0.3, 4.0), ("MMD 5", "FPR", 0.4, 2.0), ("adversary 1", "FPR", 0.65, 1.0))


def test(model, data):
    """AUC, error and gaps of every task, in percent. The threshold is found on validation rows."""
    scores = {split: model.predict(data[split][0], batch_size=8192, verbose=0) for split in ("validation", "test")}
    labels, found = data["test"][1], {}
    for task in TASKS:
        threshold = np.quantile(scores["validation"][task], 1 - data["train"][1][task].mean())
        rates = fairness.group_rates(labels[task], scores["test"][task], labels[SEX], threshold)
        found[f"{task} AUC"] = 100 * area_under_roc(labels[task], scores["test"][task])
        for name, gap in (("DP", "demographic_parity"), ("FPR", "false_positive"), ("FNR", "equal_opportunity")):
            found[f"{task} {name}"] = 100 * rates[f"{gap}_gap"]
        found[f"{task} odds"] = 100 * rates["equalized_odds_gap"]
        found[f"{task} error"] = 100 * np.mean((scores["test"][task] > threshold) != (labels[task] > 0.5))
    return found


def against_single(results):
    """Adds ARFG and ARE to every model: over the tasks, against the mean of the single-task models."""
    for found in results.values():
        for title, key, summary in (
            ("ARFG", "odds", fairness.average_relative_gap),
            ("ARE", "error", fairness.average_relative_error),
        ):
            single = {task: np.mean(results[SINGLE][f"{task} {key}"]) for task in TASKS}
            by_seed = zip(*(found[f"{task} {key}"] for task in TASKS), strict=True)
            found[title] = [summary(dict(zip(TASKS, values, strict=True)), single) for values in by_seed]


def main():
    options = command_line(
        __file__,
        __doc__,
        models=MODELS,
        quick_models=[NONE, "parity 2", "adversary 1"],
        epochs=(3, 1),
        rows=(0, "training rows, drawn at random; 0: all 199,523, or 20,000 under --quick"),
    )
    rows = options.rows or (20_000 if options.quick else None)
    with console.status("Reading the tables (half a minute the first time)"):
        data, codes = census.census_income(TASKS, rows=rows, protected=SEX)

    def run(name, seed, callbacks):
        depth = 0 if name == SINGLE else None
        model = build(keras_mtl.hard_sharing, TASKS, data["train"][0], codes, [128], shared_depth=depth)
        gaps = {task: [fairness.DemographicParityGap(SEX, from_logits=True, name="gap")] for task in TASKS}
        penalties = MODELS[name]()
        train(model, data, seed, options.epochs, callbacks, metrics=gaps, penalties=penalties)
        return test(model, data)

    results = trained(run, options)
    digits = {f"{task} AUC": 2 for task in TASKS} | {"ARFG": 2, "ARE": 3}
    how = {"title": "Test, in percent", "digits": digits, "gain": False}
    report(results, options, [f"full_year {key}" for key in ("AUC", "DP", "FPR", "FNR")], **how)
    if SINGLE in results:
        against_single(results)
        report(results, options, ("education AUC", "ARFG", "ARE"), **how)
    summarize(results, options, [f"income {key}" for key in ("AUC", "DP", "FPR", "FNR")], **how)
    for name, gap, ratio, points in EXPECTED:
        if {name, NONE} <= results.keys() and may_state(options):
            means = {model: {k: np.mean(results[model][f"income {k}"]) for k in (gap, "AUC")} for model in (name, NONE)}
            share, lost = means[name][gap] / means[NONE][gap], means[NONE]["AUC"] - means[name]["AUC"]
            word = "as expected" if share <= ratio and lost <= points else "NOT as expected"
            console.print(
                f"{name}: {gap} gap {share:.2f} of that without (expected: at most {ratio}), AUC {lost:.2f} points "
                f"lower (at most {points:g}): {word}"
            )


if __name__ == "__main__":
    main()
