"""Looks for links within the built site that lead nowhere: python docs/check_links.py docs/_build."""

import html.parser
import re
import sys
import urllib.parse
from pathlib import Path


class _Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.links = set(), []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.names.add(found.get("id"))
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


def broken(site):
    """Pairs of page and link, of links to files or places that are not there."""
    pages = {}
    for path in sorted(path for path in site.rglob("*.html") if "_modules" not in path.parts):
        pages[path] = _Page()
        pages[path].feed(path.read_text("utf-8"))
    found = []
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link) or "_modules/" in link:  # sources: Sphinx' own pages, by Sphinx' own names
                continue
            file, _, place = link.partition("#")
            file = urllib.parse.unquote(file.split("?")[0])
            target = (path.parent / file).resolve() if file else path
            known = pages.get(target)
            if not target.exists() or (known and place and urllib.parse.unquote(place) not in known.names):
                found.append((str(path.relative_to(site)), link))
    return found


if __name__ == "__main__":
    wrong = broken(Path(sys.argv[1]).resolve())
    print("\n".join(f"{page}: {link}" for page, link in wrong) or "no broken links")
    sys.exit(bool(wrong))
