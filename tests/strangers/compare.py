"""Compares what a reader gave with the truth, cell by cell."""
import datetime
import re

DAY = 86400
# Excel's day 0. The serial numbers before March 1900 are one lower: Excel has a 29th of February in 1900.
ZERO = datetime.datetime(1899, 12, 30)
CLOSE = 0.0005 + 1e-7


class Fails(Exception):
    """Says that a reader cannot read the file, with this in its message."""


def seconds(moment):
    """Seconds since day 0 of a date or moment in ISO 8601; None for anything else."""
    match = re.fullmatch(r"(\d+[-/]\d\d[-/]\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d(?:\.\d+)?))?)?Z?", moment)
    if not match:
        return None
    try:
        day = datetime.datetime.fromisoformat(match[1].replace("/", "-"))
    except ValueError:
        return None
    return (day - ZERO).days * DAY + int(match[2] or 0) * 3600 + int(match[3] or 0) * 60 + float(match[4] or 0)


def clock(text):
    """Seconds of hours, minutes and seconds; None for anything else."""
    match = re.fullmatch(r"(-?)(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    if not match:
        return None
    total = int(match[2]) * 3600 + int(match[3]) * 60 + float(match[4])
    return -total if match[1] else total


def number(text):
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        return None


def close(wanted, got):
    return got is not None and abs(wanted - got) <= CLOSE


def shown(wanted, text, parse):
    """A text of a time shows the second that was meant, cut off or rounded; or its fraction."""
    got = parse(text)
    if got is None:
        return False
    return close(wanted, got) or ("." not in text and got in (int(wanted // 1), int((wanted + 0.5) // 1)))


def serial(wanted):
    return wanted - DAY if wanted < 61 * DAY else wanted


def same(truth, got, text=False):
    """Whether a cell is right. `text`: this reader, or its column, gives texts of every kind."""
    if truth is None:
        return got is None
    if isinstance(truth, str):
        return got == truth or (truth == "" and got is None)
    if isinstance(truth, bool):
        return got is truth or (text and isinstance(got, str) and got.upper() in (("TRUE", "1") if truth else ("FALSE", "0")))
    if isinstance(got, bool) or got is None:
        return False
    texts = text and isinstance(got, str)
    figure = got if isinstance(got, (int, float)) else number(got) if texts else None
    if isinstance(truth, (int, float)):
        return figure == truth
    (kind, value), = truth.items()
    if kind == "decimal":
        return figure == float(value)
    if kind in ("date", "moment"):
        wanted = seconds(value)
        if figure is not None:
            return close(serial(wanted), figure * DAY)
        if texts:
            return shown(wanted, got, seconds)
        return isinstance(got, dict) and close(wanted, seconds(got.get("date", "")))
    if kind in ("time", "duration"):
        wanted = clock(value) if kind == "time" else value
        if figure is not None:
            return close(wanted, figure * DAY)
        if texts:
            return shown(wanted, got, clock)
        if isinstance(got, str):
            return False
        if "time" in got:
            return close(wanted, clock(got["time"]))
        if "duration" in got:
            return close(wanted, got["duration"])
        # A moment of day 0, which some put on the 31st: day 1 is the 1st of January in Excel.
        moment = seconds(got.get("date", ""))
        return close(wanted, moment) or (moment is not None and close(wanted, moment - DAY))
    # What only known faults give.
    if kind == "exactly":
        return got == value
    if kind == "six digits":
        return figure is not None and abs(figure - value) <= abs(value) * 5.1e-6
    raise ValueError(f"the truth has a cell of an unknown kind: {truth}")


def letters(column):
    name = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name


def differences(truth, answer, limit=None):
    """What is wrong in an answer, as lines of text."""
    found = []
    sheets = answer.get("sheets") or []
    if len(sheets) != len(truth):
        return [f"expected {len(truth)} sheets, got {len(sheets)}"]
    for index, (wanted, got) in enumerate(zip(truth, sheets)):
        name = wanted["name"]
        if got["name"] != name:
            found.append(f"sheet {index + 1}: expected the name {name!r}, got {got['name']!r}")
        text = got.get("text", answer.get("text", False))
        columns = text if isinstance(text, list) else None
        for r in range(max(len(wanted["rows"]), len(got["rows"]))):
            expected = wanted["rows"][r] if r < len(wanted["rows"]) else []
            row = got["rows"][r] if r < len(got["rows"]) else []
            if row == expected and columns is None:
                continue
            for c in range(max(len(expected), len(row))):
                want = expected[c] if c < len(expected) else None
                have = row[c] if c < len(row) else None
                if want is have or same(want, have, c in columns if columns is not None else text):
                    continue
                found.append(f"sheet {name!r} row {r + 1} column {letters(c)}: expected {want!r}, got {have!r}")
                if limit and len(found) >= limit:
                    return found
    return found
