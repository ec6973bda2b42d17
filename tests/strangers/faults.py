"""Faults that readers have themselves. known.toml says which reader has which.

Each is a function from the truth to what a reader with that fault gives, so that a reader is held to
its faults as closely as to what it does right.
"""
import copy
import datetime
import re
import zipfile

from compare import Fails

# The others only say whether they can read the file.
GIVE_NO_CELLS = {"java", "commons-compress", "stream-unzip", "openxml-audit", "unzip", "zip", "zipdetails", "bsdtar"}


class Readers:
    def __contains__(self, name):
        return name not in GIVE_NO_CELLS


GIVE_CELLS = Readers()
FAULTS = {}


def fault(function):
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


def apply(names, truth, facts):
    """The truth as a reader with these faults gives it."""
    sheets = copy.deepcopy(truth)
    for name in names:
        for index, sheet in enumerate(sheets):
            sheet["rows"] = FAULTS[name](sheet["rows"], facts, index)
    return sheets


def applies(name, listed, truth, facts):
    """Whether the fault changes anything in this file."""
    names = [entry["fault"] for entry in listed]
    try:
        return apply(names, truth, facts) != apply([other for other in names if other != name], truth, facts)
    except Fails:
        return True


def check(known, readers):
    for entry in known:
        for key, choice in (("fault", FAULTS), ("reader", readers)):
            if entry[key] not in choice:
                raise SystemExit(f"known.toml: no such {key}: {entry[key]}")


class Facts:
    """What a fault needs to know about the file."""

    def __init__(self, file):
        self.file, self.sheets, self.lines = file, {}, {}

    def xml(self, sheet):
        try:
            with zipfile.ZipFile(self.file) as package:
                return package.read(f"xl/worksheets/sheet{sheet + 1}.xml").decode()
        except (zipfile.BadZipFile, KeyError):
            return ""  # the readers say what is wrong

    def rows(self, sheet):
        """The rows that the sheet has an element for."""
        if sheet not in self.lines:
            xml = self.xml(sheet)
            self.lines[sheet] = {int(number) - 1 for number in re.findall(r'<row\b[^>]*?\br="(\d+)"', xml)}
        return self.lines[sheet]

    def rows_with_cells(self, sheet):
        found = re.findall(r'<row\b[^>]*?\br="(\d+)"[^>]*>(?=\s*<c\b)', self.xml(sheet))
        return {int(number) - 1 for number in found}

    def inline(self, sheet):
        """The cells, as (row, column), whose text is in the sheet itself."""
        if sheet not in self.sheets:
            xml = self.xml(sheet)
            cells = set()
            for attributes in re.findall(r"<c\b([^>]*\bt=\"inlineStr\"[^>]*)>", xml):
                if place := re.search(r'\br="([A-Z]+)(\d+)"', attributes):
                    column = 0
                    for letter in place[1]:
                        column = column * 26 + ord(letter) - 64
                    cells.add((int(place[2]) - 1, column - 1))
            self.sheets[sheet] = cells
        return self.sheets[sheet]


def each(rows, change):
    return [[change(cell) for cell in row] for row in rows]


def kind(cell):
    return next(iter(cell)) if isinstance(cell, dict) else None


def exactly(value):
    return {"exactly": value}


def with_place(rows, change):
    return [[change(cell, (r, c)) for c, cell in enumerate(row)] for r, row in enumerate(rows)]


def escaped(cell):
    """A text as the sheet has it: `_x0007_` for a control character, and `_x005F_` for such a `_`."""
    if not isinstance(cell, str):
        return cell
    cell = re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", cell)
    return re.sub(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]", lambda found: f"_x{ord(found[0]):04X}_", cell)


@fault
def keeps_escapes(rows, facts, sheet):
    return each(rows, escaped)


@fault
def keeps_escapes_in_inline_text(rows, facts, sheet):
    return with_place(rows, lambda cell, place: escaped(cell) if place in facts.inline(sheet) else cell)


@fault
def decodes_entities_in_inline_text_twice(rows, facts, sheet):
    names = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

    def decoded(cell, place):
        if not isinstance(cell, str) or place not in facts.inline(sheet):
            return cell
        return re.sub(r"&(amp|lt|gt|quot|apos);", lambda found: names[found[1]], cell)

    return with_place(rows, decoded)


@fault
def loses_inline_text(rows, facts, sheet):
    return with_place(rows, lambda cell, place: None if place in facts.inline(sheet) else cell)


# JavaScript's blanks.
BLANKS = "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"


@fault
def trims_text(rows, facts, sheet):
    return each(rows, lambda cell: (cell.strip(BLANKS) or None) if isinstance(cell, str) else cell)


@fault
def trims_text_but_keeps_blanks(rows, facts, sheet):
    return each(rows, lambda cell: (cell.strip(BLANKS) or cell) if isinstance(cell, str) else cell)


@fault
def gives_booleans_as_text(rows, facts, sheet):
    return each(rows, lambda cell: exactly(str(cell).upper()) if isinstance(cell, bool) else cell)


def figure(cell):
    if kind(cell) == "decimal":
        return float(cell["decimal"])
    return cell if isinstance(cell, (int, float)) and not isinstance(cell, bool) else None


@fault
def shows_long_numbers_with_six_digits(rows, facts, sheet):
    def short(cell):
        value = figure(cell)
        if kind(cell) is not None or value is None:
            return cell
        return {"six digits": value} if abs(value) >= 1e11 and float(f"{value:.5E}") != value else cell

    return each(rows, short)


@fault
def shows_second_60_as_0(rows, facts, sheet):
    """The moments that round up to a whole minute, and yet stay in their own."""

    def early(cell):
        if kind(cell) == "moment" and re.search(r":59\.[5-9]", cell["moment"]):
            return exactly(cell["moment"].replace("T", " ")[:17] + "00")
        return cell

    return each(rows, early)


@fault
def duration_without_days(rows, facts, sheet):
    return each(rows, lambda cell: {"duration": cell["duration"] % 86400} if kind(cell) == "duration" else cell)


@fault
def rounds_to_seconds(rows, facts, sheet):
    def rounded(cell):
        if kind(cell) != "moment":
            return cell
        moment = datetime.datetime.fromisoformat(cell["moment"])
        if moment.microsecond >= 500000:
            moment += datetime.timedelta(seconds=1)
        return {"moment": moment.isoformat(timespec="seconds")}

    return each(rows, rounded)


@fault
def rounds_999_ms_to_a_second(rows, facts, sheet):
    def rounded(cell):
        if kind(cell) == "moment" and cell["moment"].endswith(".999"):
            moment = datetime.datetime.fromisoformat(cell["moment"]) + datetime.timedelta(milliseconds=1)
            return {"moment": moment.isoformat(timespec="seconds")}
        return cell

    return each(rows, rounded)


@fault
def cuts_to_hundredths(rows, facts, sheet):
    def cut(cell):
        if kind(cell) == "moment" and re.search(r"\.\d{3}$", cell["moment"]):
            return {"moment": cell["moment"][:-1]}
        return cell

    return each(rows, cut)


@fault
def drops_rows_without_element(rows, facts, sheet):
    return [row for r, row in enumerate(rows) if r in facts.rows(sheet)]


@fault
def drops_rows_without_cells(rows, facts, sheet):
    return [row for r, row in enumerate(rows) if r in facts.rows_with_cells(sheet)]


@fault
def marks_shared_text_with_tags_as_html(rows, facts, sheet):
    def marked(cell, place):
        if isinstance(cell, str) and place not in facts.inline(sheet) and re.search(r"<([biu]|sup|sub)>", cell):
            return f"<html>{cell}</html>"
        return cell

    return with_place(rows, marked)


@fault
def breaks_characters_beyond_16_bits(rows, facts, sheet):
    """Each half of the pair comes as three bytes that are no UTF-8."""
    return each(rows, lambda cell: re.sub(r"[\U00010000-\U0010ffff]", "\ufffd" * 6, cell) if isinstance(cell, str) else cell)


@fault
def shows_six_decimals(rows, facts, sheet):
    """Of a number that the sheet has with an exponent."""

    def short(cell):
        value = figure(cell)
        if kind(cell) is None and isinstance(value, float) and 0 < abs(value) < 1e-5:
            return float(f"{value:f}")
        return cell

    return each(rows, short)


@fault
def one_millisecond_late_before_1970(rows, facts, sheet):
    """JavaScript cuts off towards 1970, so a moment written a little late, for all who cut off the
    other way, comes a millisecond late."""

    def late(cell):
        if kind(cell) == "moment" and cell["moment"] < "1970" and not re.search(r"T00:00:00(\.0*)?$", cell["moment"]):
            moment = datetime.datetime.fromisoformat(cell["moment"]) + datetime.timedelta(milliseconds=1)
            return {"moment": moment.isoformat(timespec="milliseconds")}
        return cell

    return each(rows, late)
