"""The whole: a small call from data to the answer, its page, code and model, and going on after a kill."""

import html.parser
import json
import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_mtl
from keras_mtl.analysis.advice import _candidates as candidates
from keras_mtl.analysis.advice._trials import FINAL_SEED, Trials


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(180, 6)).astype("float32")
    y = {
        "price": (x[:, :1] + x[:, 1:2] + 0.1 * rng.normal(size=(180, 1))).astype("float32"),
        "sold": (x[:, :1] + x[:, 1:2] > 0).astype("int32"),
    }
    y["price"][:20] = np.nan
    return (x[:120], {t: v[:120] for t, v in y.items()}), (x[120:], {t: v[120:] for t, v in y.items()})


def advise(directory=None, **options):
    train, test = make_data()
    arguments = {
        "train": train,
        "test": test,
        "compile": {
            "optimizer": keras.optimizers.SGD(0.05, momentum=0.9),  # with a state to go on from
            "loss": {"price": "mse", "sold": keras.losses.BinaryCrossentropy()},
            "missing": {"price": "nan"},
        },
        "metrics": {"price": "mae", "sold": "auc"},
        "epochs": 2,
        "seeds": 2,
        "batch_size": 24,
        "directory": directory,
        "progress": False,
    }
    return keras_mtl.advise(
        keras.Input((6,)),
        stages=[layers.Dense(8, activation="relu", name="hidden")],
        heads={"price": layers.Dense(1), "sold": layers.Dense(1, activation="sigmoid")},
        **{**arguments, **options},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("advice")


@pytest.fixture(scope="module", autouse=True)
def _two_candidates():
    """As if gradients agreed and sharing never lost: two candidates show how the parts work in less time than five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "AGREE", -1.0)
        patch.setattr(candidates, "CONFLICT", 2.0)
        patch.setattr(candidates, "BEHIND", 1e9)
        yield


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def advice(folder, logs):
    """Asked with data sets, whose batches are not those of training."""
    parts = zip(("train", "test"), make_data(), strict=True)
    data = {name: tf.data.Dataset.from_tensor_slices(part).batch(25) for name, part in parts}
    return advise(folder, logs=logs, **data)


def test_the_answer(advice):
    assert advice.verdict.startswith(("Share", "Do not share"))
    names = [each["name"] for each in advice.candidates]
    assert {"nothing shared", "all shared"} <= set(names) and advice.name in names
    alone = next(each for each in advice.candidates if each["name"] == "nothing shared")
    assert np.mean(alone["delta_m"]) == pytest.approx(0, abs=1e-6)  # it is relative to itself
    assert all(each["reason"] and each["outcome"] for each in advice.candidates)
    assert sum(each["outcome"].startswith("chosen") for each in advice.candidates) == 1
    low, high = advice.test["interval"]
    assert low < advice.test["delta_m"] < high and set(advice.test["gains"]) == {"price", "sold"}
    assert {finding.kind for finding in advice.findings} & {"update", "starved"}
    assert advice.origin.startswith("0 runs read")


def test_gains_are_those_of_the_logs(advice, folder):
    """delta_m of a candidate, worked out from the kept runs."""
    runs = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    final = {(run["label"].split("-seed")[0], run["seed"]): run for run in runs if run["seed"] >= FINAL_SEED}
    values = {name: [run["values"][-1] for (n, _), run in sorted(final.items()) if n == name] for name, _ in final}
    other = advice.test["against"]
    single = {log: np.mean([v[log] for v in values[other]]) for log in ("price_mae", "sold_auc")}
    gains = {
        "price": [100 * (1 - v["price_mae"] / single["price_mae"]) for v in values[advice.name]],
        "sold": [100 * (v["sold_auc"] / single["sold_auc"] - 1) for v in values[advice.name]],
    }
    # In these few epochs nothing may be learned of a task, which then does not count.
    unlearned = {task for finding in advice.findings if finding.kind == "nothing learned" for task in finding.tasks}
    gains = np.mean([of_task for task, of_task in gains.items() if task not in unlearned], axis=0)
    assert advice.test["delta_m"] == pytest.approx(np.mean(gains)) and len(gains) == 2


def test_a_call_again_trains_nothing(advice, folder, monkeypatch):
    """With arrays in place of data sets, which are read once: the same."""
    monkeypatch.setattr(Trials, "_train", lambda *args: pytest.fail("something was trained"))
    again = advise(folder)
    trained = int(re.match(r"0 runs read from .*, (\d+) trained", advice.origin)[1])
    assert again.origin.startswith(f"{trained} runs read") and again.origin.endswith(" 0 trained.")
    assert (again.verdict, again.name, again.candidates) == (advice.verdict, advice.name, advice.candidates)
    x, _ = make_data()[1]
    for task, predicted in advice.model.predict(x, verbose=0).items():
        np.testing.assert_array_equal(again.model.predict(x, verbose=0)[task], predicted)


@pytest.mark.slow
def test_a_call_that_was_killed_goes_on(advice, folder, tmp_path):
    """With half of the files, the rest is trained, and the verdict is the same."""
    kept = sorted(folder.glob("*.json"), key=os.path.getmtime)
    kept = kept[: len(kept) // 2]
    for path in kept:
        (tmp_path / path.name).write_bytes(path.read_bytes())
        weights = json.loads(path.read_text())["weights"]["file"]
        (tmp_path / weights).write_bytes((folder / weights).read_bytes())
    again = advise(tmp_path)
    assert again.origin.startswith(f"{len(kept)} runs read")
    assert again.verdict == advice.verdict
    assert [each["delta_m"] for each in again.candidates] == [each["delta_m"] for each in advice.candidates]


def test_the_code_makes_the_same_model(advice):
    code = advice.code()
    namespace = {}
    exec(code, namespace)
    x, y = make_data()[0]
    model = namespace["train"](x, y)
    test_x, _ = make_data()[1]
    for task, predicted in advice.model.predict(test_x, verbose=0).items():
        np.testing.assert_allclose(model.predict(test_x, verbose=0)[task], predicted, rtol=1e-5, atol=1e-6)


def test_the_model_is_saved_and_trains_on(advice, tmp_path):
    advice.model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    (x, y), _ = make_data()
    for task, predicted in advice.model.predict(x, verbose=0).items():
        np.testing.assert_allclose(loaded.predict(x, verbose=0)[task], predicted, rtol=1e-6)
    assert np.isfinite(loaded.fit(x, y, verbose=0).history["loss"][0])


def test_tensorboard_has_the_last_training_of_both(advice, logs):
    runs = {path.name: list(path.rglob("events.out.tfevents.*")) for path in logs.iterdir()}
    assert set(runs) == {re.sub(r"[ -]", "_", name) for name in (advice.name, advice.test["against"])}
    assert all(files and sum(path.stat().st_size for path in files) > 1000 for files in runs.values())


class Page(html.parser.HTMLParser):
    """Notes tags that do not close, text, and addresses of anything outside."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links, self.tags = [], "", [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.tags[-1:] != [tag] or tag in self.open:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else(advice, tmp_path):
    advice.to_html(tmp_path / "advice.html")
    content = (tmp_path / "advice.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(content)
    assert not page.open and not page.links and "url(" not in content and "@import" not in content
    assert advice.verdict in page.text and advice.code() in page.text
    for each in advice.candidates:
        assert each["name"] in page.text and each["reason"] in page.text
    assert page.tags.count("svg") >= 3  # the test's gains, what is shared, a curve for each task


def test_json_and_text(advice, tmp_path, capsys):
    content = json.loads(advice.to_json(tmp_path / "advice.json"))
    assert content == json.loads((tmp_path / "advice.json").read_text())
    assert content["verdict"] == advice.verdict and content["chosen"] == advice.name
    advice.print()
    assert advice.verdict in capsys.readouterr().out


def narrow_data():
    """Two tasks that want different inputs, and noise in place of labels, of which one unit for both predicts less."""
    rng = np.random.default_rng(0)
    x, noise = (rng.normal(size=(600, 2)).astype("float32") for _ in range(2))
    return (
        x,
        {"a": x[:, :1] + noise[:, :1] / 2, "b": x[:, 1:] + noise[:, 1:] / 2},
        {"a": noise[:, :1], "b": noise[:, 1:]},
    )


@pytest.fixture(scope="module")
def overturned(tmp_path_factory):
    x, y, noise = narrow_data()
    train, chooses, tests = (
        (x[rows], {task: labels[rows] for task, labels in of.items()})
        for rows, of in ((slice(200), y), (slice(200, 400), noise), (slice(400, 600), y))
    )
    return keras_mtl.advise(
        keras.Input((2,)),
        [layers.Dense(1, name="narrow")],
        {task: layers.Dense(1) for task in y},
        train=train,
        validation=chooses,
        test=tests,
        compile={"optimizer": keras.optimizers.SGD(0.2), "loss": "mse"},
        metrics=dict.fromkeys(y, "loss"),
        epochs=2,
        seeds=2,
        batch_size=20,
        directory=tmp_path_factory.mktemp("overturned"),
        progress=False,
    )


def test_a_choice_that_the_test_overturns_is_not_the_advice(overturned):
    advice = overturned
    assert (advice.name, advice.overturned, advice.test["of"]) == ("nothing shared", "all shared", "all shared")
    assert advice.test["interval"][1] < 0 and advice.test["against"] == "nothing shared"
    assert advice.verdict.startswith("Do not share. Validation chose 'all shared', which on the test is worse")
    assert advice.sharing == "Do not share" and advice.tree == [[["a"], ["b"]]]
    outcomes = {each["name"]: each["outcome"] for each in advice.candidates}
    assert outcomes["nothing shared"].startswith("chosen") and "overturned by the test" in outcomes["all shared"]
    content = json.loads(advice.to_json())
    assert (content["chosen"], content["overturned"]) == ("nothing shared", "all shared")


def test_its_model_code_and_page_are_those_of_the_columns(overturned, tmp_path):
    advice = overturned
    x, y, _ = narrow_data()
    namespace = {}
    exec(advice.code(), namespace)
    model = namespace["train"](x[:200], {task: labels[:200] for task, labels in y.items()})
    assert [v.path for v in model.variables if "narrow/kernel" in v.path] == ["a/narrow/kernel", "b/narrow/kernel"]
    for task, predicted in advice.model.predict(x, verbose=0).items():
        np.testing.assert_allclose(model.predict(x, verbose=0)[task], predicted, rtol=1e-5, atol=1e-6)
    advice.to_html(tmp_path / "advice.html")
    content = (tmp_path / "advice.html").read_text(encoding="utf-8")
    assert "<h1>Do not share</h1>" in content and "Gains of all shared in percent over nothing shared" in content


def test_another_seed_draws_everything_anew(advice, monkeypatch):
    class Drawn(Exception):
        pass

    def run(trials, candidate, seed, epochs, **options):
        model = trials._seeded(seed, lambda: trials._problem.build(candidate))
        raise Drawn(trials._problem.validation[0], model.get_weights()[0])

    monkeypatch.setattr(Trials, "run", run)
    drawn = []
    for seed in (0, 0, 1):
        with pytest.raises(Drawn) as found:
            advise(seed=seed)
        drawn.append(found.value.args)
    for first, again, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)
    with pytest.raises(ValueError, match="`seed` should be"):
        advise(seed=-1)


def test_data_sets_without_an_end_are_refused():
    with pytest.raises(ValueError, match="`validation` should have an end"):
        advise(validation=tf.data.Dataset.from_tensor_slices(make_data()[1]).batch(25).repeat())


def test_too_little_time():
    with pytest.raises(ValueError, match=r"`minutes` should be enough .* about [\d.]+\. Received: minutes=0.001"):
        advise(minutes=0.001)
