"""The spaces as plain functions of `hp`: what they hold, when it counts, and what they refuse."""

import itertools

import keras
import keras_tuner
import pytest

import keras_mtl
from keras_mtl.models.branched_sharing import _check_branches
from keras_mtl.tuning import SharingChoice, TrainingChoice, sharing_space, training_space, weighting_space
from keras_mtl.tuning._families import FAMILIES
from keras_mtl.tuning.estimates import draw_trial
from keras_mtl.tuning.weighting_space import PARAMETERS


def space_of(function, *args, **options):
    hp = keras_tuner.HyperParameters()
    function(hp, *args, **options)
    return hp


def at(values, function, *args, **options):
    """What a space function returns where `hp` has these values."""
    hp = space_of(function, *args, **options)
    hp.values.update(values)
    hp.ensure_active_values()
    return function(hp, *args, **options)


class TestSharing:
    def test_every_option_is_declared_whatever_the_values(self):
        """One call knows the whole space, so no tuner meets a parameter in the middle of a trial."""
        hp = space_of(sharing_space, 3, "abc", families=list(FAMILIES), head_depths=(0, 2))
        names = [p.name for p in hp.space]
        assert len(set(names)) == len(names)
        for name in FAMILIES:
            at({"family": name}, sharing_space, 3, "abc", families=list(FAMILIES), head_depths=(0, 2))
            again = keras_tuner.HyperParameters.from_config(hp.get_config())
            again.values["family"] = name
            again.ensure_active_values()
            sharing_space(again, 3, "abc", families=list(FAMILIES), head_depths=(0, 2))
            assert [p.name for p in again.space] == names
            active = {p.name.split("/")[0] for p in again.space if "/" in p.name and again.is_active(p)}
            assert active == {name}

    @pytest.mark.parametrize("name", FAMILIES)
    def test_every_family_builds_at_random_points(self, name):
        space = space_of(sharing_space, 2, "ab", families=[name], head_depths=(0, 1), head_widths=[4])
        for seed in range(3):
            choice = sharing_space(
                draw_trial(space, seed), 2, "ab", families=[name], head_depths=(0, 1), head_widths=[4]
            )
            stages = [keras.layers.Dense(4, name=stage) for stage in ("low", "high")]
            model = choice.build(keras.Input((3,)), stages, {task: keras.layers.Dense(1, name="out") for task in "ab"})
            assert model.tasks == ("a", "b") and choice.family == name
            hidden = [v for v in model.trainable_variables if "hidden_1" in v.path]
            assert len(hidden) == 4 * choice.head_depth

    def test_depths(self):
        choices = {
            at({"hard_sharing/shared_depth": d}, sharing_space, 3, "ab", depths=(1, 3)).options["shared_depth"]
            for d in (1, 2, 3)
        }
        assert choices == {1, 2, 3}
        (parameter,) = space_of(sharing_space, 3, "ab", depths=(1, 3)).space
        assert (parameter.min_value, parameter.max_value, parameter.default) == (1, 3, 3)
        (parameter, *_) = space_of(sharing_space, 3, "ab", families="mmoe").space
        assert parameter.max_value == 2  # one stage is left for the experts

    def test_fixed_options_are_not_searched(self):
        hp = keras_tuner.HyperParameters()
        choice = sharing_space(hp, 2, "ab", families="mmoe", fixed={"mmoe": {"experts": 3, "shared_depth": 1}})
        assert choice.options["experts"] == 3 and choice.options["shared_depth"] == 1
        assert "mmoe/experts" not in hp and "mmoe/gate_dropout" in hp

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"depths": (0, 4)}, r"should not go beyond the number of stages, 3.*\(0, 4\)"),
            ({"depths": (2, 1)}, "`depths`.*the least and the most"),
            ({"depths": (0, 1.5)}, "`depths`.*integers"),
            ({"families": ["hard_sharing", "tensor"]}, r"`families` should name some of.*\['tensor'\]"),
            ({"families": []}, "`families`"),
            ({"families": "mmoe", "depths": (3, 3)}, "'mmoe' at least one of the 3 stages"),
            ({"heads": ["a"]}, "at least two tasks"),
            ({"heads": ["a", "b c"]}, "'b c'"),
            ({"head_depths": (0, 1), "head_widths": [0]}, "`head_widths`"),
            ({"fixed": {"ple": {}}}, r"`fixed`.*\['ple'\]"),
        ],
    )
    def test_refuses(self, options, words):
        with pytest.raises(ValueError, match=words):
            space_of(sharing_space, 3, **{"heads": ["a", "b"], **options})


def trees(tasks, count):
    """Every chain of partitions that only split, by brute force over all partitions."""

    def partitions(items):
        if not items:
            yield []
            return
        first, *rest = items
        for partition in partitions(rest):
            yield [[first], *partition]
            for index, group in enumerate(partition):
                yield [*partition[:index], [first, *group], *partition[index + 1 :]]

    every = [frozenset(frozenset(group) for group in partition) for partition in partitions(list(tasks))]

    def splits(above, below):
        return all(any(group <= other for other in above) for group in below)

    chains = itertools.product(every, repeat=count)
    return {chain for chain in chains if all(splits(a, b) for a, b in itertools.pairwise(chain))}


@pytest.mark.parametrize(("tasks", "count"), [("ab", 3), ("abc", 2), ("abcd", 2)])
def test_branches_are_valid_trees_and_all_of_them(tasks, count):
    hp = space_of(sharing_space, count, tasks, families="branched_sharing")
    found = set()
    for values in itertools.product(*(list(p.values) for p in hp.space)):
        names = dict(zip([p.name for p in hp.space], values, strict=True))
        branches = at(names, sharing_space, count, tasks, families="branched_sharing").options["branches"]
        _check_branches(branches, tuple(tasks), count)
        found.add(tuple(frozenset(frozenset(group) for group in groups) for groups in branches))
    assert found == trees(tasks, count)


class TestWeighting:
    @pytest.mark.parametrize("name", keras_mtl.weighting.names())
    def test_every_method_is_made_with_its_parameters(self, name):
        space = space_of(weighting_space, "ab", methods=[name])
        hp = draw_trial(space, 1)
        weighting = weighting_space(hp, "ab", methods=[name])["weighting"]
        assert type(weighting) is type(keras_mtl.weighting.get(name))
        for parameter in PARAMETERS.get(name, {}):
            value = hp.get(f"{name}/{parameter}")
            assert getattr(weighting, parameter) == (None if value == "none" else value)

    def test_static_weights_have_mean_one_and_keep_their_ratios(self):
        found = at({"static_weight/b": 10.0, "static_weight/c": 0.1}, weighting_space, "abc", static=(0.01, 100.0))
        weights = found["loss_weights"]
        assert sum(weights.values()) == pytest.approx(3.0)
        assert weights["b"] / weights["a"] == pytest.approx(10.0)
        assert weights["c"] / weights["a"] == pytest.approx(0.1)

    def test_gradients_count_for_methods_that_see_a_gramian(self):
        options = {"methods": ["equal", "mgda", "graddrop"], "gradients": ["features", "parameters"]}
        for method, expected in (("equal", "parameters"), ("mgda", "features"), ("graddrop", "parameters")):
            assert at({"weighting": method, "gradients": "features"}, weighting_space, "ab", **options)[
                "gradients"
            ] == (expected)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"methods": ["equal", "magic"]}, r"`methods`.*\['magic'\]"),
            ({"gradients": ["everywhere"]}, "`gradients`"),
            ({"static": (0.0, 1.0)}, "`static` should be a pair of positive"),
            ({"static": 2.0}, "`static`"),
        ],
    )
    def test_refuses(self, options, words):
        with pytest.raises(ValueError, match=words):
            space_of(weighting_space, "ab", **options)


class TestTraining:
    def test_parts_have_rates_of_their_own(self):
        choice = at(
            {"learning_rate": 0.01, "learning_rate/units": 100.0},
            training_space,
            parts={"units": (".*/units/.*", 1.0, 1000.0)},
        )
        optimizer = choice.make_optimizer()
        units = keras.Variable(0.0, name="w")
        assert float(optimizer._optimizer_map(units).learning_rate) == pytest.approx(0.01)
        rates = sorted(float(one.learning_rate) for one in optimizer.optimizers)
        assert rates == pytest.approx([0.01, 1.0])

    @pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("cosine", 0.0), ("exponential", 0.01)])
    def test_schedules_end_where_they_say(self, schedule, last):
        choice = TrainingChoice(learning_rate=0.1, schedule=schedule, steps=50)
        rate = choice.make_optimizer().learning_rate
        if schedule != "constant":
            rate = choice.make_optimizer()._learning_rate(50)
        assert float(rate) == pytest.approx(0.1 * last, abs=1e-7)

    def test_regularization_reaches_layers_within_layers_and_spares_those_that_have_their_own(self):
        stage = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(2, kernel_regularizer="l1")]
        )
        fresh = keras.Sequential.from_config(TrainingChoice(l2=0.5).regularize(stage.get_config()))
        kernels = [layer.kernel_regularizer.get_config() for layer in fresh.layers]
        assert kernels[0] == {"l1": 0.0, "l2": 0.5} and kernels[1] == {"l1": pytest.approx(0.01)}

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"learning_rate": (1e-2, 1e-4)}, "`learning_rate`.*more than 0"),
            ({"dropout": (0.0, 1.0)}, "`dropout`.*below 1"),
            ({"l2": (0.0, 1e-3)}, "`l2`.*more than 0"),
            ({"schedules": ["linear"]}, "`schedules`"),
            ({"schedules": ["cosine"]}, "`steps`.*whole trial"),
            ({"parts": {"units": ".*/units/.*"}}, r"parts\['units'\]"),
        ],
    )
    def test_refuses(self, options, words):
        with pytest.raises(ValueError, match=words):
            space_of(training_space, **options)


def test_a_choice_can_be_read():
    assert sharing_space(keras_tuner.HyperParameters(), 2, "ab") == SharingChoice("hard_sharing", {"shared_depth": 2})


def test_numpys_integers_are_integers_and_booleans_are_none():
    import keras_tuner
    import numpy as np

    hp = keras_tuner.HyperParameters()
    options = {"depths": (np.int64(1), np.int64(2)), "head_depths": (1, 1), "head_widths": np.array([4, 8])}
    choice = keras_mtl.tuning.sharing_space(hp, np.int64(2), ["a", "b"], **options)
    assert choice.options == {"shared_depth": 2} and type(choice.head_width) is int
    with pytest.raises(ValueError, match="`head_widths` should be positive integers"):
        keras_mtl.tuning.sharing_space(hp, 2, ["a", "b"], head_depths=(1, 1), head_widths=[True])
