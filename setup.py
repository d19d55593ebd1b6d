"""What setup.cfg cannot say: links of README.md that lead somewhere from the package index, too."""

import configparser
import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
LINK = re.compile(r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)]+)\)")


def absolute(text: str, source: str | None) -> str:
    """Markdown whose relative links are made absolute.

    Args:
        text: String. Markdown, with links relative to the repository's root.
        source: String. Where the repository is kept, without a slash at the end. `None` leaves links as they are.
    """
    if not source:
        return text
    return LINK.sub(lambda link: f"{link[1]}{link[2]}{source}/{'raw' if link[1] else 'blob'}/main/{link[3]})", text)


def source() -> str | None:
    """The repository's address in setup.cfg, or `None`."""
    config = configparser.ConfigParser()
    config.read(HERE / "setup.cfg")
    found = re.search(r"^Source *= *(\S+?)/?$", config["metadata"].get("project_urls", ""), re.MULTILINE)
    return found and found[1]


if __name__ == "__main__":
    setup(long_description=absolute((HERE / "README.md").read_text("utf-8"), source()))
