"""The dashboard: what it writes, as TensorBoard's own server gives it to the browser."""

import contextlib
import copy
import html
import io
import json
import os
import re
import shutil
import sys
import urllib.parse
import urllib.request
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_mtl
from keras_mtl.callbacks import (
    ConflictMonitor,
    GradualUnfreezing,
    SharingMonitor,
    TaskAffinity,
    TaskBoard,
    TaskEarlyStopping,
)
from keras_mtl.callbacks._board_graph import graph_def
from keras_mtl.callbacks._board_overview import line_chart, verdicts
from keras_mtl.callbacks._board_text import as_it_is, sharing_card
from keras_mtl.callbacks._heat_map import heat_map
from keras_mtl.metrics._trackers import split_log

TASKS = ("a", "a_b")  # one name begins like the other


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 3)).astype("float32")
    return x, {"a": (x[:, :1] * 2).astype("float32"), "a_b": (-x[:, :1] + x[:, 1:2]).astype("float32")}


def build(builder=keras_mtl.mmoe, **options):
    model = builder(
        keras.Input((3,)),
        [layers.Dense(4, activation="tanh", name="low"), layers.Dense(4, activation="tanh", name="high")],
        {task: layers.Dense(1) for task in TASKS},
        **({"experts": 3, "shared_depth": 1} if builder is keras_mtl.mmoe else {}),
    )
    model.compile(keras.optimizers.SGD(0.05), loss="mse", metrics={"a": ["mae"]}, **options)
    return model


def fit(model, data, folder, beside=True, epochs=3):
    x, y = data
    monitor, gates = ConflictMonitor(x, y, every=2), SharingMonitor(x)
    stock = [keras.callbacks.TensorBoard(folder)] if beside else []
    callbacks = [monitor, gates, *stock, TaskBoard(folder, conflict_monitor=monitor, x=x)]
    return model.fit(x, y, epochs=epochs, batch_size=8, validation_data=(x, y), verbose=0, callbacks=callbacks).history


class Server:
    """TensorBoard on loopback, asked as the browser asks it."""

    def __init__(self, folder):
        from tensorboard import default, program

        board = program.TensorBoard(plugins=default.get_plugins())
        arguments = {"logdir": str(folder), "host": "127.0.0.1", "port": "0", "load_fast": "false"}
        board.configure(argv=[None, *(f"--{name}={value}" for name, value in arguments.items()), "--reload_interval=0"])
        self.url = board.launch()

    def get(self, route, **query):
        with urllib.request.urlopen(f"{self.url}data/plugin/{route}?{urllib.parse.urlencode(query)}") as answer:
            return answer.read()

    def json(self, route, **query):
        return json.loads(self.get(route, **query))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    keras.utils.set_random_seed(0)
    model = build(weighting="uncertainty", delta_m={"a": {"mae": 2.0}, "a_b": {"loss": 3.0}})
    return model, fit(model, data, folder), folder


@pytest.fixture(scope="module")
def server(trained):
    return Server(trained[2])


def series(server, chart):
    """The chart's series, found as its card finds them: every tag of every run that a pattern matches."""
    found = {}
    for pattern in chart["multiline"]["tag"]:
        for run, tags in server.json("scalars/tags").items():
            for tag in tags:
                if re.search(pattern, tag):
                    answer = server.json("custom_scalars/scalars", run=run, tag=pattern)
                    found[run, tag] = {step: value for _, step, value in answer["tag_to_events"][tag]}
    return found


def test_every_chart_has_its_series(server, trained):
    _, logs, _ = trained
    layout = server.json("custom_scalars/layout")
    charts = {chart["title"]: chart for category in layout["category"] for chart in category["chart"]}
    expected = {
        "task losses": {(task, "task/loss"): f"{task}_loss" for task in TASKS},
        "task losses, validation": {(task, "task/val_loss"): f"val_{task}_loss" for task in TASKS},
        "task weights": {(task, "task/weight"): f"{task}_weight" for task in TASKS},
        "gradient norms": {(task, "task/grad_norm"): f"{task}_grad_norm" for task in TASKS},
        "share of the trunk's update": {(task, "task/grad_share"): f"{task}_grad_share" for task in TASKS},
        "gate utilization": {(task, "task/gate_utilization"): f"{task}_gate_utilization" for task in TASKS},
        "mae": {("a", "task/mae"): "a_mae"},
        "mae, validation": {("a", "task/val_mae"): "val_a_mae"},
        "gradient cosine, mean of all pairs": {("train", "epoch_grad_cosine"): "grad_cosine"},
        "gradient cosine of each pair": {("a and a_b", "pair/cosine"): "grad_cosine_a_a_b"},
        "conflict rate": {("train", "epoch_conflict_rate"): "conflict_rate"},
        "dead experts": {("train", "epoch_dead_experts"): "dead_experts"},
        "delta_m": {("train", "epoch_delta_m"): "delta_m", ("validation", "epoch_delta_m"): "val_delta_m"},
        "a mae: training and validation": {
            ("train", "epoch_a_mae"): "a_mae",
            ("validation", "epoch_a_mae"): "val_a_mae",
        },
    }
    for task in TASKS:
        pair = {
            ("train", f"epoch_{task}_loss"): f"{task}_loss",
            ("validation", f"epoch_{task}_loss"): f"val_{task}_loss",
        }
        expected[f"{task} loss: training and validation"] = pair
    relative = [f"task losses, relative to the first epoch{end}" for end in ("", ", validation")]
    assert set(charts) == {*expected, *relative}
    for title, of_chart in expected.items():
        values = {key: dict(enumerate(logs[log])) for key, log in of_chart.items()}
        found = series(server, charts[title])
        assert set(found) == set(values), title
        for key, by_step in values.items():
            assert found[key] == pytest.approx(by_step, rel=1e-5), (title, key)
    for title, log in zip(relative, ("a_b_loss", "val_a_b_loss"), strict=True):
        by_step = {step: value / logs[log][0] for step, value in enumerate(logs[log])}
        values = {run: found for (run, _), found in series(server, charts[title]).items()}
        assert set(values) == set(TASKS) and values["a_b"] == pytest.approx(by_step, rel=1e-5)


def test_heat_maps(server):
    tags = server.json("images/tags")["tasks"]
    gradients = ("cosine", "cosine by stage", "magnitude similarity by stage", "conflict rate by stage")
    expected = {f"gradients/{name}" for name in (*gradients, "share of the update by stage")}
    from_the_first = expected | {"sharing/gate", "1 at a glance/1 is a task starving"}
    lines = {f"1 at a glance/{name}" for name in ("2 losses", "3 share of the update", "4 weights")}
    assert set(tags) == from_the_first | lines and min(tags) == "1 at a glance/1 is a task starving"
    for tag in tags:
        entries = server.json("images/images", run="tasks", tag=tag, sample=0)
        assert [entry["step"] for entry in entries] == ([0, 1, 2] if tag in from_the_first else [1, 2])
        picture = Image.open(io.BytesIO(server.get(f"images/individualImage?{entries[-1]['query']}&x=")))
        assert picture.format == "PNG" and min(picture.size) > 50


def test_text_cards(server, trained):
    cards = {tag: server.json("text/text", run="tasks", tag=tag)[0]["text"] for tag in ("compile", "sharing")}
    assert "Uncertainty" in cards["compile"] and "SGD, learning rate 0.05" in cards["compile"]
    assert "mean_squared_error, static weight 1, metrics mae" in cards["compile"] and "mae 2" in cards["compile"]
    model = trained[0]
    for layer in model.sharing.layers:
        assert f"<td>{layer.name}</td>" in cards["sharing"]
    assert "<td>a_b</td>" in cards["sharing"] and "<td>all tasks</td>" in cards["sharing"]


def test_histograms_of_weighting_state(server, trained):
    assert list(server.json("histograms/tags")["tasks"]) == ["weighting/log_var"]
    *_, (_, step, buckets) = server.json("histograms/histograms", run="tasks", tag="weighting/log_var")
    log_var = np.array(trained[0].weighting.variables[0])
    assert step == 2 and sum(count for *_, count in buckets) == 2
    assert buckets[0][0] == pytest.approx(log_var.min()) and buckets[-1][1] == pytest.approx(log_var.max())


def test_graph(server, trained):
    assert server.json("graphs/info")["tasks"]["run_graph"]
    text = server.get("graphs/graph", run="tasks", conceptual="false").decode()
    names = re.findall(r'name: "([^"]+)"', text)
    assert names == [node.name for node in graph_def(trained[0]).node]
    assert {name.split("/")[0] for name in names} == {trained[0].layers[0].name, "shared", "a", "a_b"}


def test_graph_has_every_edge():
    model = build(keras_mtl.cross_stitch)
    graph = graph_def(model)
    names = {node.name for node in graph.node}
    assert len(names) == len(graph.node) and all(source in names for node in graph.node for source in node.input)
    # Two columns of two stages of one layer each with a unit after each, a head each, and the input.
    assert len(graph.node) == 2 * (2 + 2) + 2 + 1
    units = [node for node in graph.node if node.op == "CrossStitch"]
    assert all({source.split("/")[0] for source in unit.input} == set(TASKS) for unit in units)
    assert sum(node.attr["parameters"].i for node in graph.node) == model.count_params()


def test_graph_of_a_trunk_that_each_task_calls_with_an_input_of_its_own():
    """A layer that is called for each task is drawn for each, and its parameters count once."""
    model = keras_mtl.own_inputs(build(keras_mtl.hard_sharing))
    graph = graph_def(model)
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names) and all(source in names for node in graph.node for source in node.input)
    # For each of two tasks its input, two stages of one layer each, and its head.
    assert len(names) == 2 * (1 + 2 + 1)
    assert sum(not node.input for node in graph.node) == 2
    assert sum(node.attr["parameters"].i for node in graph.node) == model.count_params()


def test_without_the_stock_callback_no_chart_is_empty(data, tmp_path):
    logs = fit(build(), data, tmp_path, beside=False, epochs=1)
    server = Server(tmp_path)
    layout = server.json("custom_scalars/layout")
    for category in layout["category"]:
        for chart in category["chart"]:
            assert series(server, chart), chart["title"]
    tags = server.json("scalars/tags")
    grouped = {log: split_log(log, TASKS) or ("all tasks", log) for log in logs}
    for run, prefix in (("train", False), ("validation", True)):  # in the scalars tab, what is before "/" is a group
        mine = [of_task for log, of_task in grouped.items() if log.startswith("val_") == prefix]
        of_run = {f"{group}/{name.removeprefix('val_')}" for group, name in mine}
        assert set(tags[run]) == of_run
    assert {tag.split("/")[0] for tag in tags["train"]} == {"a", "a_b", "all tasks"}


def test_units_and_equal_weighting_without_monitors(data, tmp_path):
    """The least: no conflicts, no gates, no validation."""
    x, y = data
    build(keras_mtl.cross_stitch).fit(x, y, verbose=0, callbacks=[TaskBoard(tmp_path)])
    server = Server(tmp_path)
    titles = [
        chart["title"] for category in server.json("custom_scalars/layout")["category"] for chart in category["chart"]
    ]
    assert titles == ["task losses, relative to the first epoch", "task losses", "task weights", "mae"]
    pictures = {"1 at a glance/1 is a task starving", "sharing/units/low", "sharing/units/high"}
    assert set(server.json("images/tags")["tasks"]) == pictures


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [0, 1, 2, 3]), (2, [0, 2, 3]), (3, [0, 3]), (100, [0, 3]), (0, [])]
)
def test_the_last_epoch_has_pictures(every, expected, data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    x, y = data
    model = build(keras_mtl.hard_sharing, run_eagerly=True)
    model.fit(x, y, epochs=4, batch_size=32, verbose=0, callbacks=[TaskBoard(tmp_path, images_every=every)])
    events = EventAccumulator(str(tmp_path / "tasks")).Reload()
    tag = "1 at a glance/1 is a task starving"
    assert [event.step for event in events.Tensors(tag)] == expected if every else tag not in events.Tags()["tensors"]


def test_a_log_belongs_to_the_task_with_the_longest_name():
    assert split_log("val_a_b_loss", TASKS) == ("a_b", "val_loss")
    assert split_log("a_mae", TASKS) == ("a", "mae")
    assert split_log("loss", TASKS) is None and split_log("val_loss", TASKS) is None


def test_colors_of_a_heat_map():
    small = heat_map(["r"], ["c", "d", "e"], [[1.0, -1.0, np.nan]]).reshape(-1, 3).tolist()
    assert [33, 102, 172] in small and [178, 24, 43] in small and [225, 225, 225] in small
    large = heat_map(["r"] * 2, ["c"] * 50, np.linspace(-4, 4, 100).reshape(2, 50))
    assert large[0, 0].tolist() == [178, 24, 43] and large[-1, -1].tolist() == [33, 102, 172]


def test_conflict_is_red():
    red, blue = heat_map(["r"], ["c"], [[1.0]], much_is_bad=True)[-20, -20], heat_map(["r"], ["c"], [[1.0]])[-20, -20]
    assert red[0] > 150 > red[2] and blue[2] > 150 > blue[0]


def test_who_starves_by_hand():
    def epoch(*losses):
        shares = {"a_grad_share": 0.02, "b_grad_share": 0.08, "c_grad_share": 0.90}
        return {**{f"{task}_loss": loss for task, loss in zip("abc", losses, strict=True)}, **shares}

    # A fifth of an equal part is 6.7 %; four fifths of the first losses are 0.56, 0.56 and 800.
    found = verdicts("abc", [epoch(0.7, 0.7, 1000.0), epoch(0.69, 0.69, 10.0)])
    assert {task: said for task, (said, *_) in found.items()} == {"a": "starves", "b": "hardly fell", "c": "learns"}
    assert found["c"][1:] == (0.90, 0.01)
    assert verdicts("abc", [epoch(0.7, 0.7, 1000.0), epoch(0.5, 0.7, 10.0)])["a"][0] == "learns"  # it needs no more
    assert verdicts("ab", [{"a_loss": 1.0, "b_loss": 1.0}, {"a_loss": 1.0, "b_loss": np.nan}]) == {
        "a": ("hardly fell", None, 1.0),  # nobody has looked at the gradients
        "b": ("?", None, None),
    }
    assert verdicts("a", [{"a_loss": 1.0}])["a"][0] == "?"  # the first epoch says nothing


def test_lines_show_every_value_on_a_log_axis():
    """An outlier of ten million beside ones, and a task that has no value yet."""
    series = {"a": np.array([1.0, 1e7, 1.0]), "b": np.array([np.nan, 10.0, 100.0])}
    pixels = line_chart("title", series, {"a": "#ff0000", "b": "#0000ff"}, log=True)
    red = np.argwhere((pixels == [255, 0, 0]).all(-1))
    red = red[red[:, 1] < 295]  # the line, without the name at its end
    assert red[:, 0].min() < 60 and red[:, 0].max() > 240  # from the highest tick to the lowest
    blue = np.argwhere((pixels == [0, 0, 255]).all(-1))
    assert blue[:, 1].min() > 170  # from the second of three epochs on


def test_the_monitor_comes_first(data, tmp_path):
    x, y = data
    monitor = ConflictMonitor(x, y)
    with pytest.raises(ValueError, match="should come before"):
        build().fit(x, y, verbose=0, callbacks=[TaskBoard(tmp_path, conflict_monitor=monitor), monitor])


def test_refuses_bad_arguments(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="writable"):
        TaskBoard(tmp_path / "file" / "logs")
    if os.path.isdir("/proc/self/fd"):  # a folder that is there, and that not even root may write to
        with pytest.raises(ValueError, match=r"`log_dir` should be writable.*/proc/self/fd"):
            TaskBoard("/proc/self/fd")
    with pytest.raises(ValueError, match="`conflict_monitor`"):
        TaskBoard(tmp_path, conflict_monitor="conflicts")
    with pytest.raises(ValueError, match="`images_every`"):
        TaskBoard(tmp_path, images_every=-1)


class Trouble(keras.callbacks.Callback):
    """Something happens to the dashboard's folder, before training begins or in the second epoch."""

    def __init__(self, happens, epoch):
        super().__init__()
        self.happens, self.epoch = happens, epoch

    def on_train_begin(self, logs=None):
        self.on_epoch_begin(-1)

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.happens()


def taken_away(folder):
    shutil.rmtree(folder)
    folder.write_text("a file")


def full(folder):
    resource = pytest.importorskip("resource")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))


@contextlib.contextmanager
def limit_lifted_after():
    """Before the test is over, since pytest may write what it says to a file."""
    try:
        yield
    finally:
        if "resource" in sys.modules:
            resource = sys.modules["resource"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize(("happens", "epoch"), [(taken_away, -1), (full, -1), (full, 1)])
def test_a_dashboard_that_cannot_be_written_ends_no_training(happens, epoch, data, tmp_path):
    x, y = data
    folder = tmp_path / "logs"
    model = build(keras_mtl.hard_sharing, run_eagerly=True)
    with limit_lifted_after(), warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "The dashboard")
        board = TaskBoard(folder)
        callbacks = [Trouble(lambda: happens(folder), epoch), board]
        history = model.fit(x, y, epochs=4, batch_size=16, verbose=0, callbacks=callbacks).history
    assert len(history["loss"]) == 4
    (only,) = [str(each.message) for each in caught if "dashboard" in str(each.message)]
    assert only.startswith(f"The dashboard in {str(folder)!r} could not be written")
    assert "training goes on" in only and "{{" not in only


def test_used_callbacks_are_copied_with_their_results_and_without_their_model(data, tmp_path):
    x, y = data
    monitor = ConflictMonitor(x, y, every=1)
    used = [monitor, SharingMonitor(x), TaskAffinity(x, y, batch_size=16, every=1), TaskEarlyStopping(monitor="loss")]
    used += [TaskBoard(tmp_path, conflict_monitor=monitor, images_every=0)]
    build(run_eagerly=True).fit(x, y, epochs=1, batch_size=32, verbose=0, callbacks=used)
    copies = copy.deepcopy(used)
    assert copies[-1].conflict_monitor is copies[0] is not monitor and copies[0].model is None
    for one, other in zip(copies[:3], used[:3], strict=True):
        assert len(one.history) == len(other.history) > 0 and one.history is not other.history
    build(run_eagerly=True).fit(x, y, epochs=1, batch_size=32, verbose=0, callbacks=copies)
    assert copies[0].history[0]["step"] == used[0].history[0]["step"]
    unfreezing = GradualUnfreezing()
    build(run_eagerly=True).fit(x, y, epochs=1, batch_size=32, verbose=0, callbacks=[unfreezing])
    again = copy.deepcopy(unfreezing)
    build(run_eagerly=True).fit(x, y, epochs=1, batch_size=32, verbose=0, callbacks=[again])
    assert again.every == unfreezing.every


def test_text_cards_show_names_as_they_are():
    """Read by TensorBoard's own converter."""
    from tensorboard.plugin_util import markdown_to_safe_html

    names = ["<img src=x onerror=alert(1)>", "a|b", "`code`", "[click](http://x)", "**bold**", "_it_", "a\\_b", "&lt;"]
    text = "| name | value |\n|---|---|\n" + "\n".join(f"| {as_it_is(name)} | 1 |" for name in names)
    shown = markdown_to_safe_html(text)
    assert [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", shown)] == [
        x for n in names for x in (n, "1")
    ]
    assert as_it_is("two\nlines") == "two lines"
    model = keras_mtl.hard_sharing(
        keras.Input((3,)), [layers.Dense(2, name="<img>|x")], {"a": layers.Dense(1), "b": layers.Dense(1)}
    )
    cells = re.findall(r"<td>(.*?)</td>", markdown_to_safe_html(sharing_card(model)))
    assert len(cells) == 4 * 4 and html.unescape(cells[0]) == "shared_<img>|x" and "<" not in cells[0]
