"""Reads XLSX files with whole spreadsheet programs: each converts to an XML of its own, which keeps types."""
import re
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def run(command, timeout):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    return (done.stdout + done.stderr).strip()


def add(values, value, times, blank):
    """Adds a value so many times. Blanks wait until something follows them: both ends of a sheet have a million."""
    if value == blank:
        values[1] += times
    else:
        values[0] += [blank] * values[1] + [value] * times
        values[1] = 0


# --- LibreOffice: flat ODS -----------------------------------------------------------------------
def local(element):
    return element.tag.rsplit("}", 1)[-1]


def attribute(element, name):
    return next((value for key, value in element.attrib.items() if key.rsplit("}", 1)[-1] == name), None)


def paragraph(element):
    text = element.text or ""
    for child in element:
        kind = local(child)
        if kind == "s":
            text += " " * int(attribute(child, "c") or 1)
        elif kind == "tab":
            text += "\t"
        elif kind == "line-break":
            text += "\n"
        else:
            text += paragraph(child)
        text += child.tail or ""
    return text


def seconds(duration):
    hours, minutes, rest = re.fullmatch(r"PT(\d+)H(\d+)M([\d.]+)S", duration).groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def fods_cell(element):
    kind = attribute(element, "value-type")
    formula = attribute(element, "formula")
    if formula in ("of:=TRUE()", "of:=FALSE()"):  # how it takes in a boolean
        return formula == "of:=TRUE()"
    if kind in ("float", "percentage", "currency"):
        return float(attribute(element, "value"))
    if kind == "boolean":
        return attribute(element, "boolean-value") == "true"
    if kind == "date":
        return {"date": attribute(element, "date-value")}
    if kind == "time":
        return {"duration": seconds(attribute(element, "time-value"))}
    if kind == "string":
        return "\n".join(paragraph(child) for child in element if local(child) == "p")
    return None


def fods(path):
    """The program's version and its sheets."""
    version, sheets = "", []
    for _, element in ElementTree.iterparse(path):
        kind = local(element)
        if kind == "generator":
            version = re.sub(r"^LibreOffice/([\d.]+).*", r"\1", element.text)
        elif kind == "table":
            rows = [[], 0]
            for line in element.iter():
                if local(line) != "table-row":
                    continue
                row = [[], 0]
                for cell in line:
                    add(row, fods_cell(cell), int(attribute(cell, "number-columns-repeated") or 1), None)
                add(rows, row[0], int(attribute(line, "number-rows-repeated") or 1), [])
            sheets.append({"name": attribute(element, "name"), "rows": rows[0]})
            element.clear()
    return version, sheets


def libreoffice(file, timeout):
    with tempfile.TemporaryDirectory() as folder:
        said = run(["soffice", f"-env:UserInstallation=file://{folder}/profile", "--headless", "--convert-to", "fods",
                    "--outdir", folder, file], timeout)
        made = Path(folder, Path(file).stem + ".fods")
        if not made.exists():
            return {"error": said or "no file was made"}
        version, sheets = fods(made)
        return {"version": version, "sheets": sheets}


# --- Gnumeric: its own XML, with serial numbers for dates ---------------------------------------
GNUMERIC = "{http://www.gnumeric.org/v10.dtd}"


def gnumeric_cell(kind, text):
    if kind == "20":
        return text == "TRUE"
    if kind in ("30", "40"):
        return float(text)
    return {"other": text} if kind == "50" else text or ""


def gnumeric(file, timeout):
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.gnumeric")
        said = run(["ssconvert", "--export-type=Gnumeric_XmlIO:sax:0", file, str(made)], timeout)
        if not made.exists():
            return {"error": said or "no file was made"}
        answer, sheets = {"version": ""}, []
        for _, element in ElementTree.iterparse(made):
            if element.tag == GNUMERIC + "Version":
                answer["version"] = element.get("Full")
            elif element.tag == GNUMERIC + "Sheet":
                cells = {(int(cell.get("Row")), int(cell.get("Col"))): gnumeric_cell(cell.get("ValueType"), cell.text)
                         for cell in element.iter(GNUMERIC + "Cell")}
                rows = [[] for _ in range(max((row for row, _ in cells), default=-1) + 1)]
                for (row, column), value in sorted(cells.items()):
                    rows[row] += [None] * (column - len(rows[row])) + [value]
                sheets.append({"name": element.findtext(GNUMERIC + "Name"), "rows": rows})
                element.clear()
        return {**answer, "sheets": sheets}
