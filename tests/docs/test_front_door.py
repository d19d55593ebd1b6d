"""What README.md and the gallery claim of the package."""

import configparser
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import keras_mtl

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
RECIPES = ROOT / "docs" / "guide" / "recipes"
CARD = re.compile(
    r"^::::\{grid-item-card\} .*\n:link: (\S+)\n(?::img-top: (\S+)\n)?`((?:studies/)?\w+)\.py(?: --data \w+)?` · (.*)\n"
    r":::\{card-footer\}\n(.*)\n:::\n::::$",
    re.MULTILINE,
)


def builders():
    """Public functions that make a model of inputs, stages and heads."""
    rooms = [m.name for m in pkgutil.iter_modules(keras_mtl.__path__) if m.ispkg and not m.name.startswith("_")]
    for room in rooms:
        module = importlib.import_module(f"keras_mtl.{room}")
        for name in getattr(module, "__all__", ()):
            made = getattr(module, name)
            if inspect.isfunction(made) and {"inputs", "heads"} <= set(inspect.signature(made).parameters):
                yield f"{room}.{name}"


def test_counts():
    ways, weightings = re.search(r"over (\d+) ways to share layers and over (\d+) ways to\s+weigh", README).groups()
    assert len([name for name in builders() if not name.startswith(("analysis", "tuning"))]) > int(ways)
    assert len(keras_mtl.weighting.names()) > int(weightings)


def test_versions():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    needs = dict(re.findall(r"^(\w+)>=([\d.]+)$", config["options"]["install_requires"], re.MULTILINE))
    python = config["options"]["python_requires"].removeprefix(">=")
    assert f"Python ≥ {python} · Keras ≥ {needs['keras']} · TensorFlow ≥ {needs['tensorflow']}" in README
    version = config["metadata"]["version"]
    assert f"version = {{{version}}}" in README and f"version: {version}" in (ROOT / "CITATION.cff").read_text()


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        path, _, place = link.partition("#")
        target = ROOT / path
        assert target.exists(), link
        if place:
            heads = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert place in {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}, link


def test_gains_of_the_readme_are_those_of_the_recipes():
    numbers = "".join(path.read_text() for path in sorted(RECIPES.glob("*.md"))).replace("−", "-")
    rows = re.findall(r"^\|.*\| \**([+−-][\d.]+)\** \| (\S+) to (\S+) \|$", README, re.MULTILINE)
    assert len(rows) == 5 and sum(gain.startswith("−") for gain, *_ in rows) == 1
    for row in rows:
        for number in row:
            digits = number.replace("−", "-").lstrip("+")
            assert re.search(rf"(?<![\d.]){re.escape(digits)}\d?(?![\d.])", numbers), number


def test_every_recipe_has_a_card_and_a_page_that_begins_with_its_answer():
    scripts = [*(ROOT / "recipes").glob("*.py"), *(ROOT / "recipes" / "studies").glob("*.py")]
    names = {str(path.relative_to(ROOT / "recipes").with_suffix("")) for path in scripts} - {"common", "studies/parent"}
    gallery = (ROOT / "docs" / "guide" / "gallery.md").read_text()
    cards = CARD.findall(gallery)
    assert len(cards) == gallery.count("{grid-item-card}")
    assert f"\n{len(cards)} questions put to data" in (ROOT / "docs" / "index.md").read_text()
    assert names == {recipe for _, _, recipe, *_ in cards}
    pages = {}
    for link, picture, recipe, question, verdict in cards:
        page, _, place = link.removeprefix("recipes/").partition(".html")
        assert page == Path(recipe).name, link
        assert f"\n**{question}** {verdict}\n" in (RECIPES / f"{page}.md").read_text(), link
        pages.setdefault(page, []).append(place)
        if page != "two_workers":  # two numbers, both of them as good as 0
            assert (ROOT / "docs" / "guide" / picture).exists(), picture
            assert re.match(rf"({page}(-\w+)?|omninet-places)$", Path(picture).stem), picture
    assert all(len(set(places)) == len(places) for places in pages.values())
    assert set(pages) == {path.stem for path in RECIPES.glob("*.md")}
    listed = re.findall(r"^recipes/(\w+)$", (RECIPES.parent / "recipes.md").read_text(), re.MULTILINE)
    assert listed == list(pages)  # in the order of the gallery
    assert max(len(path.read_text().splitlines()) for path in RECIPES.glob("*.md")) < 100, "a short page"


def test_links_of_the_readme_can_be_made_absolute():
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "setup.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.absolute(README, "https://example.org/mtl")
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", text)
    assert len(links) > 10 and all(link.startswith("https://") for _, link in links)
    assert ("!", "https://example.org/mtl/raw/main/docs/guide/images/front.png") in links
    assert ("", "https://example.org/mtl/blob/main/CITATION.cff") in links
    assert script.absolute("[a](#b) [c](https://d.org/e)", "https://x.org") == "[a](#b) [c](https://d.org/e)"


def test_six_questions_are_a_click_away():
    cards = re.findall(r"^:link: (\S+)$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    pages = {
        "guide/choosing": "Which weighting? Which architecture?",
        "guide/worse": "One task got worse",
        "guide/transfer": "Pretrained backbones",
        "guide/labels": "Missing labels",
        "guide/mixing": "Separate data sets",
        "guide/serving": "Serving one task",
    }
    assert set(pages) <= set(cards)
    assert all(f"](docs/{page}.md)" in README for page in pages)
    for page, words in pages.items():
        head = re.search(r"^# (.*)$", (ROOT / "docs" / f"{page}.md").read_text(), re.MULTILINE)[1]
        assert words in head, page


def test_notebooks_are_listed_and_read_the_recipes_data():
    folder = ROOT / "docs" / "notebooks"
    listed = set(re.findall(r"\]\((\S+)\.md\)", (folder / "index.md").read_text()))
    assert listed == {path.stem for path in folder.glob("*.md")} - {"index"} and len(listed) == 6
    pins = [
        dict(re.findall(r"^(\S+)==(\S+)", path.read_text(), re.MULTILINE))
        for path in (folder / "requirements.txt", ROOT / "recipes" / "requirements-data.txt")
    ]
    both = pins[0].keys() & pins[1].keys()
    assert both and all(pins[0][package] == pins[1][package] for package in both)
