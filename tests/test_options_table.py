"""Options of siblings have one name, one order, one kind of value and, unless a method says otherwise, one default."""

import itertools

import pytest

from tests.options_table import NO_DEFAULT, all_options, by_name, table

OPTIONS = all_options()
RESULTS = {"Advice", "Affinity", "Grouping", "Network", "Report", "TaskRelations", "TransferMap", "TransferPolicy"}
KERAS = {"SafeBatchNormalization"}  # Keras' own layer takes these
# A name has one kind of value in the whole package, but for these.
KINDS = {
    "learning_rate": "`training_space` takes the range that is searched",
    "verbose": "as `fit` and as `tuner.search` have it",
}
# Defaults of one name that differ within a package: papers and official codes have them so, or the use does.
DEFAULTS = {
    "analysis": {"baselines", "batch_size", "epochs", "method", "seeds"},
    "callbacks": {"every"},
    "data": {"batch_size", "monitor", "sampler", "seed", "temperature"},
    "distillation": {"from_logits"},
    "layers": {"batch_normalization", "strength"},
    "learned": {"decay", "min_temperature", "temperature"},
    "models": {"batch_normalization", "shared_depth"},
    "recommenders": {"shared_depth", "shared_experts", "task_experts"},
    "rl": {"alpha", "beta", "discount", "episodes", "max_steps"},
    "tuning": {"dropout", "l1", "l2", "learning_rate", "parts"},
    "weighting": {
        *("alpha", "beta", "beta_sigma", "form", "lam", "learning_rate", "reduction", "rescale", "rho", "temperature")
    },
}


def options():
    return [option for option in OPTIONS if option.owner not in RESULTS | KERAS]


def kind(value):
    if value is None or value is NO_DEFAULT:
        return None
    numbers = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "number" if numbers else "function" if callable(value) else type(value).__name__


def test_a_name_has_one_kind_of_value():
    kinds = {name: {kind(option.default) for option in named} for name, named in by_name(options()).items()}
    several = {name for name, found in kinds.items() if len(found - {None}) > 1}
    assert several == set(KINDS)


def order_of(package):
    """Dict from pairs of options that owners of a package have in this order to these owners."""
    pairs, by_owner = {}, {}
    for option in options():
        if option.package == package:
            by_owner.setdefault(option.owner, []).append(option)
    for owner, named in by_owner.items():
        for a, b in itertools.combinations(sorted(named, key=lambda option: option.position), 2):
            required = {option.default is NO_DEFAULT for option in (a, b)}
            if len(required) == 1:  # what is required comes first, whatever others do
                pairs.setdefault((a.name, b.name, *required), []).append(owner)
    return pairs


@pytest.mark.parametrize("package", sorted({option.package for option in OPTIONS}))
def test_siblings_have_their_options_in_one_order(package):
    pairs = order_of(package)
    turned = {(b, a, required): owners for (a, b, required), owners in pairs.items()}
    assert not {pair: (owners, turned[pair]) for pair, owners in pairs.items() if pair in turned}


@pytest.mark.parametrize("package", sorted({option.package for option in OPTIONS}))
def test_defaults_differ_where_a_method_says_so(package):
    named = by_name(option for option in options() if option.package == package and option.default is not NO_DEFAULT)
    differ = {name for name, same in named.items() if len({option.shown for option in same}) > 1 and name != "name"}
    assert differ == DEFAULTS.get(package, set())


def test_what_builders_and_weightings_share_stands_at_the_end():
    ends = {
        "models": ["copy_weights", "depends_on", "name"],
        "recommenders": ["copy_weights", "depends_on", "name"],
        "weighting": ["reduction", "normalize", "every", "smoothing", "name"],
    }
    for package, end in ends.items():
        for owner in {option.owner for option in options() if option.package == package}:
            named = [option.name for option in options() if (option.package, option.owner) == (package, owner)]
            shared = [name for name in end if name in named and "name" in named]
            assert named[len(named) - len(shared) :] == shared, owner


def test_the_table_has_every_option():
    rows = table().splitlines()
    assert {row.split("`")[1] for row in rows[2:]} == {option.name for option in OPTIONS}
    assert table(["self_weight"]).splitlines()[2:] == [
        "| `self_weight` | `0.9` | layers.NDDR, layers.CrossStitch, layers.SubspaceStitch, models.cross_stitch, "
        "models.nddr, models.sluice |"
    ]
