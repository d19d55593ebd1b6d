"""Which pages of the guide speak of a public object, for the API reference."""

import importlib
import pkgutil
import re

import keras_mtl

NOT_FIRST_READING = ("gallery", "holding-up", "index", "recipes")


def public_names():
    """Names of all public objects, each with the words that pages use for it."""
    found = {}
    for module in pkgutil.iter_modules(keras_mtl.__path__):
        if module.ispkg:
            for name in getattr(importlib.import_module(f"keras_mtl.{module.name}"), "__all__", ()):
                found[name] = {name}
    for word in keras_mtl.weighting.names():
        found[type(keras_mtl.weighting.get(word)).__name__].add(word)
    return found


def guide_links(folder, most=3):
    """Dict from the name of a public object to links, as reST, to the pages that speak of it most."""
    pages = {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.md"))}
    links = {}
    for name, words in public_names().items():
        pattern = re.compile("|".join(rf"[`.\"']{re.escape(word)}[`(\"']" for word in sorted(words)))
        counts = {page: len(pattern.findall(text)) for page, text in pages.items() if page not in NOT_FIRST_READING}
        best = sorted((page for page, count in counts.items() if count), key=lambda page: -counts[page])[:most]
        links[name] = [f":doc:`/guide/{page}`" for page in best]
    return links
