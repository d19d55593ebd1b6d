"""kill -9 at random moments of training, saving, comparing and searching, 20 times: nothing half-written counts.

Each job is killed several times at moments drawn from as long as it takes, started again in the same folder each time,
and at last let through. What it leaves then is what it leaves when nobody kills it.
"""

import json
import math
import multiprocessing
import time

import keras
import numpy as np
import pytest

import keras_mtl

KILLS = 5  # of each of four jobs
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 4)).astype("float32")
Y = {"a": X[:, 0], "b": X[:, 1] * X[:, 2]}
SAVED = 40

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The use case of calling:DeprecationWarning"),  # keras-tuner, of a finished trial
]


def make_model():
    keras.utils.set_random_seed(0)
    model = keras_mtl.hard_sharing(
        keras.Input((4,)),
        [keras.layers.Dense(8, activation="tanh")],
        {task: keras.layers.Dense(1) for task in Y},
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", weighting="famo", run_eagerly=True)
    model.build_optimizer()  # Keras warns where a file has a state of it and the model has none, or the other way round
    return model


def train(folder):
    """Eight epochs with a backup after each; the weights, optimizer's and weighting's included, as a file."""
    (folder / "started").touch()
    model = make_model()
    model.fit(
        X, Y, batch_size=8, epochs=8, shuffle=False, verbose=0,
        callbacks=[keras.callbacks.BackupAndRestore(folder / "backup")],
    )  # fmt: skip
    values = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    np.savez(folder / "result.npz", *values)


def save(folder):
    """Saves over one file again and again; all weights of the i-th are i."""
    (folder / "started").touch()
    model = make_model()
    for i in range(1, SAVED + 1):
        for variable in model.trainable_variables:
            variable.assign(np.full(variable.shape, float(i), "float32"))
        model.save(folder / "m.keras")
        model.save_weights(folder / "m.weights.h5")
    (folder / "result").touch()


def compare(folder):
    """Three candidates and single tasks over two seeds."""
    from tests.analysis import test_compare

    (folder / "started").touch()
    entry = test_compare.run(folder / "runs").to_dict()
    for part in (entry["single_task"], *entry["candidates"].values()):
        del part["step_ms"], part["seconds"]
    (folder / "result.json").write_text(json.dumps(test_compare._rounded(entry), sort_keys=True))


def search(folder):
    """A random search of five trials."""
    from tests.tuning import test_killed_searches as tuning

    (folder / "started").touch()
    trials = tuning.search(tuning.make_search(str(folder)), epochs=3)
    found = [(t.trial_id, t.status, t.hyperparameters.values, t.score) for t in trials]
    (folder / "result.json").write_text(json.dumps(sorted(found, key=lambda one: one[0])))


def start(job, folder):
    """The job in a process of its own, which a server forks that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_mtl", "tensorflow", "keras_tuner", "scipy.stats", "keras_mtl.analysis"])
    folder.mkdir(exist_ok=True)
    (folder / "started").unlink(missing_ok=True)
    process = context.Process(target=job, args=(folder,))
    process.start()
    while process.is_alive() and not (folder / "started").exists():
        time.sleep(0.001)
    return process


def kill_at_random(job, tmp_path, seed, check=lambda folder: None):
    """Folders of a job that was let through at once and of one that was killed before, and how many kills hit."""
    begin = time.perf_counter()
    process = start(job, tmp_path / "whole")
    process.join()
    assert process.exitcode == 0
    duration, hits = time.perf_counter() - begin, 0
    rng = np.random.default_rng(seed)
    for _ in range(KILLS):
        process = start(job, tmp_path / "killed")
        process.join(rng.uniform(0, 0.8) * duration)
        process.kill()
        process.join()
        hits += process.exitcode != 0
        check(tmp_path / "killed")
    process = start(job, tmp_path / "killed")
    process.join()
    assert process.exitcode == 0
    check(tmp_path / "killed")
    assert hits >= 2, "most of the kills came too late to be one"
    return tmp_path / "whole", tmp_path / "killed"


def test_training_ends_where_it_would_have(tmp_path):
    def check(folder):
        for path in folder.glob("backup/*.weights.h5"):
            make_model().load_weights(path)  # of other layers, or half of it: an error

    results = [np.load(folder / "result.npz") for folder in kill_at_random(train, tmp_path, 0)]
    assert results[0].files == results[1].files
    for name in results[0].files:
        np.testing.assert_array_equal(results[1][name], results[0][name], err_msg=name)


def test_a_file_is_one_that_was_saved(tmp_path):
    def check(folder):
        if (folder / "m.keras").exists():
            of_one(keras.models.load_model(folder / "m.keras"))
        if (folder / "m.weights.h5").exists():
            model = make_model()
            model.load_weights(folder / "m.weights.h5")
            of_one(model)

    def of_one(model):
        values = {value for v in model.trainable_variables for value in v.numpy().ravel().tolist()}
        assert len(values) == 1 and values <= set(range(1, SAVED + 1)), values

    _, killed = kill_at_random(save, tmp_path, 1, check)
    assert (killed / "m.keras").exists()


def test_a_comparison_is_the_same_table(tmp_path):
    tables = [json.loads((folder / "result.json").read_text()) for folder in kill_at_random(compare, tmp_path, 2)]
    assert tables[0] == tables[1]


def test_a_search_finishes_every_trial(tmp_path):
    whole, killed = (json.loads((folder / "result.json").read_text()) for folder in kill_at_random(search, tmp_path, 3))
    assert len(whole) == len(killed) == 5
    for _, status, _, score in killed:
        assert status == "COMPLETED" and math.isfinite(score)
    assert len({json.dumps(values, sort_keys=True) for _, _, values, _ in killed}) == 5
