"""Batches, epochs and errors of mixtures."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.data import mix


def examples(count, start=0.0, width=2, x=None, y=None):
    """Examples whose first input and label are `start`, `start + 1`, ..."""
    values = start + np.arange(count, dtype="float32")[:, None] * np.ones(width, "float32")
    element = (values if x is None else {x: values}, values[:, :1] if y is None else {y: values[:, :1]})
    return tf.data.Dataset.from_tensor_slices(element)


def firsts(labels):
    return labels.numpy()[:, 0].tolist()


def test_joint_batch_of_one_input_has_rows_of_all_tasks():
    mixture = mix({"a": examples(4), "b": examples(6, start=100)}, batch_size={"a": 2, "b": 3})
    assert mixture.steps == 2 == int(mixture.cardinality())
    x, y, weight = next(iter(mixture))
    assert x.numpy()[:, 0].tolist() == [0, 1, 100, 101, 102]
    assert firsts(y["a"]) == [0, 1, 0, 0, 0] and weight["a"].numpy().tolist() == [1, 1, 0, 0, 0]
    assert firsts(y["b"]) == [0, 0, 100, 101, 102] and weight["b"].numpy().tolist() == [0, 0, 1, 1, 1]


def test_joint_batch_of_own_inputs_has_a_size_for_each():
    mixture = mix({"a": examples(4), "b": examples(6, start=100)}, batch_size={"a": 2, "b": 3}, inputs="own")
    x, y = next(iter(mixture))  # nothing is missing, so there are no weights
    assert {name: value.shape[0] for name, value in x.items()} == {"a_input": 2, "b_input": 3}
    assert firsts(y["a"]) == [0, 1] and firsts(y["b"]) == [100, 101, 102]


def test_interleaved_batch_of_own_inputs_is_empty_for_the_absent_task():
    mixture = mix({"a": examples(4), "b": examples(6, 100)}, "round_robin", batch_size=2, inputs="own", stop=2)
    (xa, ya), (xb, yb) = mixture
    assert xa["a_input"].shape == (2, 2) and xa["b_input"].shape == (0, 2) and ya["b"].shape == (0, 1)
    assert xb["a_input"].shape == (0, 2) and firsts(yb["b"]) == [100, 101] and yb["a"].shape == (0, 1)


def test_absent_task_may_have_a_row_that_weighs_nothing():
    data = {"a": examples(4, start=1), "b": examples(6, 100)}
    mixture = mix(data, "round_robin", batch_size=2, inputs="own", stop=2, absent_rows=1)
    (x, y, weight), _ = mixture
    assert x["a_input"].shape == (2, 2) and weight["a"].numpy().tolist() == [1, 1]
    assert x["b_input"].numpy().tolist() == [[0, 0]] and weight["b"].numpy().tolist() == [0]
    assert y["b"].shape == (1, 1)


def test_inputs_by_name_make_groups():
    """Tasks a and b read one picture, c a text of its own: rows of a and b stand together, those of c apart."""
    data = {
        "a": examples(4, x="picture"),
        "b": examples(4, start=100, x="picture"),
        "c": examples(4, start=200, width=3, x="text"),
    }
    x, y, weight = next(iter(mix(data, batch_size=2)))
    assert x["picture"].shape == (4, 2) and x["text"].shape == (2, 3)
    assert y["a"].shape == y["b"].shape == (4, 1) and y["c"].shape == (2, 1) and sorted(weight) == ["a", "b"]
    _, (x, y, weight), _ = mix(data, "round_robin", batch_size=2, stop=3)
    assert x["picture"].numpy()[:, 0].tolist() == [100, 101] and x["text"].shape == (0, 3)
    assert weight["a"].numpy().tolist() == [0, 0] and weight["b"].numpy().tolist() == [1, 1]


def test_one_data_set_may_have_labels_of_several_tasks():
    both = examples(4).map(lambda x, y: (x, {"a": y, "b": -y}))
    x, y, weight = next(iter(mix({"a": both, "c": examples(2, start=100)}, batch_size=2)))
    assert x.shape == (4, 2)
    assert firsts(y["b"]) == [0, -1, 0, 0] and weight["b"].numpy().tolist() == [1, 1, 0, 0]
    assert weight["c"].numpy().tolist() == [0, 0, 1, 1]


def test_sample_weights_of_a_data_set_stay_its_own():
    weighted = examples(4).map(lambda x, y: (x, y, 1 + y[0]))
    _, _, weight = next(iter(mix({"a": weighted, "b": examples(2)}, batch_size=2)))
    assert weight["a"].numpy().tolist() == [1, 2, 0, 0] and weight["b"].numpy().tolist() == [0, 0, 1, 1]


def test_examples_of_different_length_are_padded():
    words = tf.data.Dataset.from_generator(
        lambda: ((np.arange(1, n + 1), np.arange(1, n + 1)) for n in (1, 3, 2)),
        output_signature=(tf.TensorSpec((None,), tf.int64), tf.TensorSpec((None,), tf.int64)),
    )
    mixture = mix({"a": words, "b": words}, "round_robin", batch_size=2, inputs="own", stop=2)
    x, y = next(iter(mixture))
    np.testing.assert_array_equal(x["a_input"], [[1, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(y["a"], x["a_input"])
    assert x["b_input"].shape[0] == y["b"].shape[0] == 0 and x["b_input"].shape[1] > 0


def refused_widths(widths, says, **options):
    with pytest.raises(ValueError, match=says):
        mix({task: examples(4, width=width) for task, width in widths.items()}, batch_size=2, **options)


@pytest.mark.parametrize("options", [{}, {"sampler": "round_robin"}, {"stop": "once"}])
def test_fixed_widths_that_differ_are_refused_and_not_padded(options):
    says = r"The input should have one width.*\(None, 2\) for task 'a', \(None, 3\) for task 'b'.*inputs='own'"
    refused_widths({"a": 2, "b": 3}, says, **options)
    # An open axis between them does not make them one.
    some = tf.data.Dataset.from_generator(
        lambda: ((np.ones(2), np.ones(1)) for _ in range(4)),
        output_signature=(tf.TensorSpec((None,), "float32"), tf.TensorSpec((1,), "float32")),
    )
    with pytest.raises(ValueError, match=r"\(None, 2\) for task 'a', \(None, 3\) for task 'c'"):
        mix({"a": examples(4), "b": some, "c": examples(4, width=3)}, batch_size=2, **{"stop": 2, **options})


def test_fixed_widths_of_labels_and_names_that_differ_are_refused():
    named = {task: examples(4, width=width, x="row") for task, width in (("a", 2), ("b", 1))}
    with pytest.raises(ValueError, match=r"The input 'row' should have one width.*for task 'a'.*for task 'b'"):
        mix(named, batch_size=2)
    values = np.zeros((4, 2), "float32")
    wide = tf.data.Dataset.from_tensor_slices((values, {"b": values, "a": values}))
    with pytest.raises(ValueError, match=r"The label 'a' should have one width.*'a'.*'b'\. Bring them to one width$"):
        mix({"a": examples(4, y="a"), "b": wide}, batch_size=2)
    own = mix({"a": examples(4), "b": examples(4, width=3)}, batch_size=2, inputs="own")
    assert {name: x.shape for name, x in next(iter(own))[0].items()} == {"a_input": (2, 2), "b_input": (2, 3)}


def test_ready_batches_are_taken_as_they_are():
    ready = examples(5).batch(2)
    mixture = mix({"a": ready, "b": examples(3, start=100).batch(3)}, batch_size=None)
    assert mixture.steps == 3
    assert [x.numpy()[:, 0].tolist() for x, _, _ in mixture] == [
        [0, 1, 100, 101, 102],
        [2, 3, 100, 101, 102],
        [4, 100, 101, 102],
    ]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 9),  # 90 / 10
        ({"stop": "shortest"}, 3),
        ({"stop": 7}, 7),
        ({"stop": "once"}, 12),
        ({"sampler": "uniform"}, 18),  # half of the steps are a's
        ({"sampler": "round_robin", "stop": "shortest"}, 6),
        ({"sampler": "proportional"}, 12),
        ({"sampler": "proportional", "stop": "shortest"}, 12),
        ({"sampler": {"a": 0.9, "b": 0.1}}, 30),  # b takes 3 / 0.1
        ({"batch_size": {"a": 20, "b": 4}}, 8),  # 30 / 4 is more than 90 / 20
    ],
)
def test_epoch_has_its_stated_length(options, steps):
    mixture = mix({"a": examples(90), "b": examples(30)}, **{"batch_size": 10, "seed": 0, **options})
    assert mixture.steps == steps == int(mixture.cardinality()) == len(list(mixture))


def test_next_epoch_goes_on_where_the_last_one_ended():
    mixture = mix({"a": examples(6), "b": examples(2, start=100)}, batch_size=1, inputs="own", stop="shortest")
    seen = [firsts(y["a"])[0] for _ in range(3) for _, y in mixture]
    assert seen == [0, 1, 2, 3, 4, 5]  # what lies behind the shortest is not lost


def test_batches_are_full_across_the_end_of_a_data_set():
    mixture = mix({"a": examples(3), "b": examples(6)}, batch_size=2, inputs="own")
    assert [firsts(y["a"]) for _, y in mixture] == [[0, 1], [2, 0], [1, 2]]


@pytest.mark.parametrize("absent_rows", [0, 1])
@pytest.mark.parametrize("inputs", ["own", "shared"])
def test_once_has_every_example_once_and_begins_anew(inputs, absent_rows):
    data = {"a": examples(5), "b": examples(2, start=100)}
    mixture = mix(data, batch_size=2, stop="once", inputs=inputs, absent_rows=absent_rows)
    for _ in range(2):
        seen = {"a": [], "b": []}
        for _, y, *weight in mixture:
            for task in seen:
                kept = weight[0][task].numpy() > 0 if weight else slice(None)
                seen[task] += y[task].numpy()[kept, 0].tolist()
        assert seen == {"a": [0, 1, 2, 3, 4], "b": [100, 101]}


def drawn(seed, sampler="uniform"):
    mixture = mix({"a": examples(4), "b": examples(4)}, sampler, batch_size=1, inputs="own", stop=50, seed=seed)
    return [[y["a"].shape[0] for _, y in mixture] for _ in range(2)]


def test_draws_follow_from_the_seed():
    assert drawn(3) == drawn(3) != drawn(4)
    first, second = drawn(3)
    assert first != second
    keras.utils.set_random_seed(7)
    one = drawn(None)
    keras.utils.set_random_seed(7)
    assert drawn(None) == one


def test_draws_are_the_same_one_by_one_as_in_one_block():
    class Live(keras_mtl.data.Uniform):
        reads = "stats"

    assert drawn(3, Live()) == drawn(3, "uniform")


def raises(words, datasets, *arguments, **options):
    with pytest.raises(ValueError, match=words):
        mix(datasets, *arguments, **options)


def test_errors_of_arguments():
    data = {"a": examples(4), "b": examples(4)}
    raises("`datasets` should be a dict", examples(4))
    raises("data set of task 'b' should be a `tf.data.Dataset`. Received: list", {"a": examples(4), "b": [1]})
    raises("`batch` should be 'joint' or 'interleave'", data, batch="mixed")
    raises("`sampler` should be left out with joint batches", data, "uniform", batch="joint")
    raises("`sampler` should be left out with stop='once'", data, "uniform", stop="once")
    raises("`batch_size` should have a number for each of the tasks", data, batch_size={"a": 2})
    raises("`batch_size` of task 'b' should be an integer", data, batch_size={"a": 2, "b": 0})
    raises("`stop` should be 'longest'", data, stop=0)
    raises("`batch` should be left out with stop='once'", data, batch="joint", stop="once")
    raises("`absent_rows` should be 0 or 1", data, absent_rows=2)
    raises("`inputs` should be 'shared' or 'own'", data, inputs="apart")
    raises("`ahead` should be an integer of at least 1", data, "loss_ratio", ahead=0)
    raises("`seed` should be an integer", data, seed=-1)
    raises("`sampler` should be one of", data, "unifrom")
    raises(r"keras_mtl.data.A5C\(...\)", data, "a5c")
    raises("`sampler` should be a name, a dict", data, 3)


def test_errors_of_sizes_name_the_task():
    empty, endless = examples(4).take(0), examples(4).repeat()
    unknown = examples(4).filter(lambda x, y: True)
    raises("data set of task 'b' should have examples", {"a": examples(4), "b": empty})
    raises("since the data set of task 'b' is endless", {"a": examples(4), "b": endless})
    assert mix({"a": examples(4), "b": endless}, batch_size=2, stop="shortest").steps == 2
    raises("all data sets are endless", {"a": endless, "b": endless}, stop="shortest")
    raises("length of the data set of task 'a' is not known", {"a": unknown, "b": examples(4)})
    assert mix({"a": unknown, "b": examples(4)}, stop=5).steps == 5
    raises("that of task 'b' should be finite", {"a": examples(4), "b": endless}, "proportional", stop=5)
    raises("probabilities of Annealed change", {"a": examples(4)}, keras_mtl.data.Annealed(3))


def test_data_set_that_turns_out_empty_is_an_error_and_no_short_epoch():
    nothing = examples(4).filter(lambda x, y: False)
    mixture = mix({"a": examples(4), "b": nothing}, "round_robin", batch_size=2, stop=4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="data set of task b should have examples"):
        list(mixture)


def test_errors_of_elements_name_the_task():
    raises("task 'b' should have elements", {"a": examples(4), "b": examples(4).map(lambda x, y: x)})
    raises("task 'b' should be its own. Received: .'c'", {"a": examples(4), "b": examples(4, y="c")})
    raises("Inputs should have names in all .* task 'b'", {"a": examples(4, x="x"), "b": examples(4)})
    raises("should be alike.*task 'a'.*task 'b'", {"a": examples(4), "b": examples(4).map(lambda x, y: (x[0] > 0, y))})
    raises("sample weights .* task 'a' should be of its labels", {"a": examples(4).map(lambda x, y: (x, y, {"c": y}))})
    ragged = tf.data.Dataset.from_tensor_slices((tf.ragged.constant([[1], [1, 2]]), [0, 1]))
    raises("inputs .* task 'a' should be tensors of known rank", {"a": ragged})


def test_errors_of_probabilities_name_the_task():
    data = {"a": examples(40), "b": examples(40)}
    raises("Fixed should be 2 numbers.*which sum to 0.9", data, {"a": 0.5, "b": 0.4})
    raises("Fixed should be of the tasks", data, {"a": 0.5, "c": 0.5})
    raises("probability 0 for task 'b'", data, {"a": 1.0, "b": 0.0})

    class Wrong:
        def probabilities(self, step, stats):
            return [0.7, 0.7]

    mixture = mix(data, Wrong(), stop=3)
    with pytest.raises(Exception, match=r"probabilities of Wrong should be 2 numbers.*sum to 1\.4"):
        list(mixture)
    with pytest.warns(UserWarning, match="Task 'b' has a probability of 0.1; 59% of epochs of 5 steps"):
        mix(data, {"a": 0.9, "b": 0.1}, stop=5)
