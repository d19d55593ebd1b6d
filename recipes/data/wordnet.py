"""WordNet 3.0: 117,659 senses with their words, a gloss and one of 45 domains.

Debian's package wordnet-base carries the files (G. Miller, Princeton University).
"""

import re
from pathlib import Path

FOLDER = Path("/usr/share/wordnet")
# Numbers of the files of lexicographers that the nouns are from (lexnames(5)), of which the larger ones serve here.
DOMAINS = {
    4: "act",
    5: "animal",
    6: "artifact",
    7: "attribute",
    10: "communication",
    15: "location",
    18: "person",
    20: "plant",
    27: "substance",
}


def senses(folder=FOLDER):
    """Yields `(words, domain number, gloss)` of the nouns, without the gloss's examples."""
    path = folder / "data.noun"
    if not path.exists():
        raise FileNotFoundError(f"This recipe reads {path}: apt-get install wordnet-base")
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("  "):  # the licence
                continue
            head, _, gloss = line.partition("|")
            fields = head.split()
            words = [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
            yield words, int(fields[1]), re.split(r'; "', gloss.strip())[0]
