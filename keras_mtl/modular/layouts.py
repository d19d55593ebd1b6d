"""Layouts of module networks: nested tuples, RPN tokens and queries, with types and words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl._types import Structure, Tensor

if TYPE_CHECKING:
    from keras_mtl.modular.neural_module import NeuralModule

_TOKEN = re.compile(r"[^(),\s]+\(|[(),]|[^(),\s]+")  # `is(` is one token, `is (` are two
RULES = {"leaf": "find", "unary": "transform", "binary": "and", "root": "answer"}


def query_layout(query: str, rules: Mapping[str, str] | None = None) -> tuple[Any, ...]:
    """The layout of a query such as `"(is red (above blue))"`.

    Words without arguments become `find`, words with one `transform`; the
    outermost word becomes `answer` of the one argument that it has, or of
    `and` of its two.

    Args:
        query: String, in brackets as above, or as `"is(red, above(blue))"`.
        rules: Dict with other names for `"leaf"`, `"unary"`, `"binary"` or
            `"root"`. Defaults to `None`: `find`, `transform`, `and`, `answer`.

    Returns:
        Nested tuple: `(module, word, *arguments)`, without `word` where the
        module has none.

    Raises:
        ValueError: If the brackets do not fit, or a word has more than two
            arguments.

    Example:

    >>> keras_mtl.modular.query_layout("(is red (above blue))")
    ('answer', ('and', ('find', 'red'), ('transform', 'above', ('find', 'blue'))))
    """
    rules = {**RULES, **(rules or {})}
    tokens = _TOKEN.findall(query)
    tree, rest = _tree(tokens, query)
    if rest:
        raise ValueError(f"`query` should be one expression. Received: {query!r}, with {' '.join(rest)!r} behind it")
    _, *arguments = tree if isinstance(tree, tuple) else (tree,)
    if not 1 <= len(arguments) <= 2:
        raise ValueError(f"The outermost word of a query should have one or two arguments. Received: {query!r}")
    inner = [_expression(argument, rules, query) for argument in arguments]
    return (rules["root"], inner[0] if len(inner) == 1 else (rules["binary"], *inner))


def _tree(tokens: list[str], query: str) -> tuple[Any, list[str]]:
    """Reads one expression, a word or a tuple of a word and its arguments, and what is left behind it."""
    fault = f"The brackets of a query should fit. Received: {query!r}"
    if not tokens or tokens[0] in (")", ","):
        raise ValueError(fault)
    if not tokens[0].endswith("("):
        return tokens[0], tokens[1:]
    inside, rest = [tokens[0][:-1]] if tokens[0] != "(" else [], tokens[1:]
    while rest and rest[0] != ")":
        item, rest = _tree(rest, query)
        inside.append(item)
        rest = rest[1:] if rest[:1] == [","] else rest
    if not rest or not inside or not isinstance(inside[0], str):
        raise ValueError(fault)
    return (tuple(inside) if len(inside) > 1 else inside[0]), rest[1:]


def _expression(tree: Structure, rules: Mapping[str, str], query: str) -> tuple[Any, ...]:
    if isinstance(tree, str):
        return (rules["leaf"], tree)
    word, *arguments = tree
    inner = [_expression(argument, rules, query) for argument in arguments]
    if len(inner) == 1:
        return (rules["unary"], word, *inner)
    if len(inner) == 2:
        return (rules["binary"], *inner)
    raise ValueError(f"Words should have at most two arguments. Received: {len(inner)} of '{word}' in {query!r}")


def read_layout(layout: Structure, modules: Mapping[str, NeuralModule]) -> tuple[Any, ...]:
    """A layout as a nested tuple, whatever it came as, with its types checked.

    Args:
        layout: Nested tuple; list of RPN tokens, such as `"find[red]"`, or
            `"_Find"`, without words; or query.
        modules: Dict from name to module.

    Returns:
        Nested tuple.

    Raises:
        ValueError: If it names an unknown module, or a module takes something
            else than what its arguments give.
    """
    if isinstance(layout, str):
        layout = query_layout(layout)
    elif isinstance(layout, list):
        layout = _from_rpn(layout, modules)
    root = _check(layout, layout, modules)
    if root != "answer":
        raise ValueError(
            f"The outermost module of layout {as_text(layout)} should give an answer. Received: module '{layout[0]}', "
            f"which gives an {root}"
        )
    return layout


def _from_rpn(tokens: Sequence[str], modules: Mapping[str, NeuralModule]) -> tuple[Any, ...]:
    stack = []
    for place, token in enumerate(tokens):
        name, _, word = token.partition("[")
        name = name if name in modules else name.removeprefix("_").lower()
        _known(name, tokens, modules)
        count = len(modules[name].takes)
        if count > len(stack):
            raise ValueError(
                f"Module '{name}' at place {place} of {tokens} should take {count} arguments. Received: {len(stack)}"
            )
        arguments = stack[len(stack) - count :]
        stack = [*stack[: len(stack) - count], (name, *([word.removesuffix("]")] if word else []), *arguments)]
    if len(stack) != 1:
        raise ValueError(f"RPN tokens should make one layout. Received: {tokens}, which make {len(stack)}")
    return stack[0]


def _known(name: str, layout: object, modules: Mapping[str, NeuralModule]) -> Tensor:
    if name not in modules:
        raise ValueError(f"Layouts should be made of the modules {list(modules)}. Received: '{name}' in {layout}")


def _check(node: Structure, layout: Structure, modules: Mapping[str, NeuralModule]) -> str:
    """The type that a part of a layout gives."""
    if not isinstance(node, tuple) or not node or not isinstance(node[0], str):
        raise ValueError(
            "A layout should be a nested tuple (module, word, *arguments), without word where there is none. "
            f"Received: {node!r} in {layout!r}"
        )
    name, arguments = node[0], _arguments(node)
    _known(name, as_text(layout), modules)
    module = modules[name]
    if _word(node) is not None and not module.takes_word:
        raise ValueError(f"Module '{name}' takes no word. Received: '{_word(node)}' in layout {as_text(layout)}")
    if len(arguments) != len(module.takes):
        raise ValueError(
            f"Module '{name}' in layout {as_text(layout)} should have {len(module.takes)} arguments. "
            f"Received: {len(arguments)}"
        )
    for place, (argument, wanted) in enumerate(zip(arguments, module.takes, strict=True), start=1):
        given = _check(argument, layout, modules)
        if given != wanted:
            raise ValueError(
                f"Module '{name}' in layout {as_text(layout)} should take an {wanted} as argument {place}. "
                f"Received: module '{argument[0]}', which gives an {given}"
            )
    return module.gives


def _word(node: tuple[Any, ...]) -> str | None:
    return node[1] if len(node) > 1 and isinstance(node[1], str) else None


def _arguments(node: tuple[Any, ...]) -> tuple[Any, ...]:
    return node[1:] if _word(node) is None else node[2:]


def as_text(node: Structure) -> str:
    """A layout in one line, such as `answer(and(find[red], find))`."""
    if not isinstance(node, tuple) or not node:
        return repr(node)
    word = "" if _word(node) is None else f"[{_word(node)}]"
    inner = ", ".join(map(as_text, _arguments(node)))
    return f"{node[0]}{word}({inner})" if inner else f"{node[0]}{word}"


def signature(layout: tuple[Any, ...]) -> str:
    """What layouts have in common that differ in words: the modules in RPN, joined by dots."""
    return ".".join([*(signature(argument) for argument in _arguments(layout)), layout[0]])


def nodes(layout: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The parts of a layout in RPN."""
    return [*(node for argument in _arguments(layout) for node in nodes(argument)), layout]


def words(layout: tuple[Any, ...], modules: Mapping[str, NeuralModule]) -> list[str | None]:
    """The words of a layout in RPN: one, or `None`, for each module that takes one."""
    return [_word(node) for node in nodes(layout) if modules[node[0]].takes_word]
