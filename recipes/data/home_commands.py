"""Spoken commands for a home, with intent, domain and slots, made from the grammars of Home Assistant.

The package home-assistant-intents (Apache-2.0) has templates such as `<turn> on [<the>] {area} fan[s]` for 42 intents.
A command is a template with its choices drawn. Numbers, colors and the like are in the file; names of rooms, devices
and songs are not, so a few stand here.
"""

import itertools
import json
import re
from typing import NamedTuple

import numpy as np

from .files import package_file

OWN_WORDS = {
    "area": "kitchen|bedroom|living room|bathroom|garage|office|hallway|garden|basement|dining room|nursery|attic",
    "floor": "ground|first|second|upper|lower",
    "name": "bedside lamp|coffee machine|ceiling light|front door|heater|desk lamp|back door|washing machine|tv|"
    "radio|roller blind|dishwasher|anna|groceries|robot|movie night",
    "message": "dinner is ready|the bus is here|time to go|lunch is on the table",
    "search_query": "bohemian rhapsody|the beatles|jazz for the evening|abbey road|morning news",
    "zone": "work|school|home|the gym",
    "timer_name": "pizza|tea|laundry|egg|homework",
    "timer_command": "turn off the lights|open the garage|play some music|lock the door",
    "shopping_list_item": "milk|bread|apples|olive oil|eggs|rice|toothpaste",
    "todo_list_item": "call mom|pay the rent|water the plants|milk|book a table|fix the bike",
}
# Where the grammar names no domain, the intent does.
DOMAINS = {
    "Timer": "timer",
    "List": "todo",
    "Media": "media_player",
    "Volume": "media_player",
    "Climate": "climate",
    "Vacuum": "vacuum",
    "Lawn": "lawn_mower",
    "Weather": "weather",
    "Light": "light",
    "Fan": "fan",
    "Current": "clock",
}
NOT_LABELLED = -1
TOKEN = re.compile(r"[\[\]()|;]|<[^>]*>|\{[^}]*\}|[^\[\]()|;<{]+")


class Command(NamedTuple):
    """Words, a tag for each (`O`, `B-<slot>`, `I-<slot>`), an intent, and a domain or None."""

    words: list
    tags: list
    intent: str
    domain: str | None


class Grammar:
    """Draws texts from templates: `[optional]`, `(one|of)`, `(in any;order)`, `<rule>`, `{list:slot}`."""

    def __init__(self, rules, lists, rng):
        self.rules, self.lists, self.rng = rules, lists, rng

    def draw(self, template):
        """A text in which characters 1, 2 and 3 mark slots: `1 <slot> 2 <what fills it> 3`."""
        tokens = TOKEN.findall(template)
        text, rest = self._choices(tokens, 0, None)
        if rest != len(tokens):
            raise ValueError(f"{template!r} closes a bracket that it does not open")
        return text

    def _choices(self, tokens, at, closing):
        """Draws up to the closing bracket: the text, and where it goes on."""
        parts, separator = [""], "|"
        while at < len(tokens) and tokens[at] != closing:
            token = tokens[at]
            at += 1
            if token in "|;":
                parts.append("")
                separator = token
            elif token in "[(":
                text, at = self._choices(tokens, at, "]" if token == "[" else ")")
                parts[-1] += text if token == "(" or self.rng.random() < 0.5 else ""
                at += 1
            elif token[0] == "<":
                parts[-1] += self.draw(self.rules[token[1:-1]])
            elif token[0] == "{":
                name, _, slot = token[1:-1].partition(":")
                parts[-1] += f"\x01{slot or name}\x02{self._value(name)}\x03"
            else:
                parts[-1] += token
        if separator == ";":
            return " ".join(parts[i] for i in self.rng.permutation(len(parts))), at
        return parts[self.rng.integers(len(parts))], at

    def _value(self, name):
        entry = self.lists.get(name, {})
        if "range" in entry:
            limits = entry["range"]
            return str(self.rng.choice(np.arange(limits["from"], limits["to"] + 1, limits.get("step", 1))))
        if "values" in entry:
            values = entry["values"]
            value = values[self.rng.integers(len(values))]
            return self.draw(value["in"] if isinstance(value, dict) else value)
        return str(self.rng.choice(OWN_WORDS[name].split("|")))


def tagged(text):
    """Words and tags of a drawn text."""
    words, tags = [], []
    for slot, value, between in re.findall("\x01(.*?)\x02(.*?)\x03|([^\x01]+)", text):
        found = re.findall(r"[\w.]+|[^\w\s]", (value or between).lower())
        words += found
        tags += [f"B-{slot}", *[f"I-{slot}"] * (len(found) - 1)][: len(found)] if slot else ["O"] * len(found)
    return words, tags


def domain_of(intent, entry):
    """The domain that a template is about, or None if it may be one of several."""
    domain = entry.get("slots", {}).get("domain") or entry.get("requires_context", {}).get("domain")
    domain = domain[0] if isinstance(domain, list) and len(domain) == 1 else domain
    if isinstance(domain, str):
        return domain
    return None if domain else next((named for part, named in DOMAINS.items() if part in intent), None)


def commands(count, seed=0, longest=12, file=None):
    """Different commands, their intents in turn.

    Args:
        count: Integer. How many.
        seed: Integer. Which are drawn. Defaults to 0.
        longest: Integer. Longer ones, in words, are left out. Defaults to 12.
        file: Dict. The grammars. Defaults to the English ones of the package.

    Returns:
        List of `Command`.
    """
    if file is None:
        path = package_file("home_assistant_intents", "data", "en.json")
        file = json.loads(path.read_text(encoding="utf-8"))
    rng = np.random.default_rng(seed)
    grammar = Grammar(file["expansion_rules"], file["lists"], rng)
    found = {}
    for intent in itertools.islice(itertools.cycle(sorted(file["intents"])), 20 * count):
        if len(found) == count:
            break
        entries = file["intents"][intent]["data"]
        entry = entries[rng.integers(len(entries))]
        words, tags = tagged(grammar.draw(entry["sentences"][rng.integers(len(entry["sentences"]))]))
        if 0 < len(words) <= longest:
            found.setdefault(" ".join(words), Command(words, tags, intent, domain_of(intent, entry)))
    if len(found) < count:
        raise ValueError(f"The grammars gave {len(found)} different commands, not {count}")
    return [list(found.values())[i] for i in rng.permutation(count)]
