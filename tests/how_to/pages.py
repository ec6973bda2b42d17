"""What the pages of docs/src/how-to say to do.

A part is a `##` section. A line that is a path in backquotes and a colon stands before the text of that file; a
fence of `sh` is run. What stands above the first section, and in a section called "Install", belongs to all parts
of its page. A section without files is no part.
"""

import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs/src/how-to"
PATH = re.compile(r"^`(/[^`]+)`:$")
FENCE = re.compile(r"^```(\w*)$")


class Part:
    """The steps of one section, in their order: ("file", path, text) or ("run", "", text)."""

    def __init__(self, page, title):
        self.page, self.title, self.steps = page, title, []

    @property
    def name(self):
        return f"{self.page}: {self.title}"

    def file(self, path):
        """The text of a file, as it is after the last step."""
        return next((text for kind, at, text in reversed(self.steps) if kind == "file" and at == path), None)


def parts(page):
    """The parts of a page, those of everybody before each."""
    common, found, part, path = Part(page, "Install"), [], None, None
    part = common
    lines = iter((FOLDER / f"{page}.md").read_text().splitlines())
    for line in lines:
        if line.startswith("## "):
            title = line[3:].strip()
            part = common if title == "Install" else Part(page, title)
            if part is not common:
                found.append(part)
        elif match := PATH.match(line):
            path = match[1]
        elif match := FENCE.match(line):
            text = ""
            for inner in lines:
                if inner == "```":
                    break
                text += inner + "\n"
            else:
                raise SystemExit(f"{page}.md: a fence without an end")
            if path:
                part.steps.append(("file", path, text))
            elif match[1] == "sh":
                part.steps.append(("run", "", text))
            path = None
        elif line.strip() and path:
            raise SystemExit(f"{page}.md: no text follows {path}")
    found = [part for part in found if any(kind == "file" for kind, _, _ in part.steps)]
    for part in found:
        part.steps[:0] = common.steps
    return found


def packages(page):
    """What `apt-get install` in a page names."""
    text = (FOLDER / f"{page}.md").read_text()
    return [word for line in re.findall(r"^apt-get install (.*)$", text, re.M) for word in line.split()]


def differences(page="proxies"):
    """The table "What differs": for each part, what a client sees that is not as bgfiles says it."""
    text = (FOLDER / f"{page}.md").read_text().split("## What differs")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: {x.strip() for x in row[1].split(";")} - {"–"} for row in rows[1:]}
