#!/usr/bin/env bash
# SheetJS (npm xlsx 0.18.5) reads a quarter of 2,000 whole seconds one millisecond early with cellDates.
#
# A spreadsheet keeps a moment as a number of days. The script writes seconds in a row, each as the double that is
# nearest to it, with 17 digits: no program can write a more exact number. SheetJS multiplies by the
# milliseconds of a day. The product often lies a hair below a whole number, and a JavaScript Date cuts off what
# is behind the point. So 18:50:00 becomes 18:49:59.999, and a comparison or a grouping by minute goes wrong.
# The text of the same cell still says 18:50:00.
#
# The surprise is that the best number is read wrongly and a worse one rightly: with ten decimals, rounded up and
# one unit added, all 2,000 are right. SheetJS does not read its own files rightly either. openpyxl 3.1.5 rounds
# and reads all of them rightly.
#
# Needs node, npm and python3.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export TZ=UTC

echo '{"private": true}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts xlsx@0.18.5
python3 -m venv env
env/bin/pip --quiet --disable-pip-version-check install openpyxl==3.1.5

cat >write.py <<'PYTHON'
"""Writes two columns with the same 2,000 seconds: the nearest double, and ten decimals a little too high."""
import zipfile
from decimal import ROUND_CEILING, Decimal

DAY = 45351  # 2024-02-29
UNIT = Decimal("1e-10")
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def row(number):
    seconds = DAY * 86400 + 18 * 3600 + 50 * 60 + number - 1
    nearest = format(seconds / 86400, ".17g")
    high = (Decimal(seconds) / 86400).quantize(UNIT, ROUND_CEILING) + UNIT
    cells = (f'<c r="{column}{number}" s="1"><v>{value}</v></c>' for column, value in (("A", nearest), ("B", high)))
    return f'<row r="{number}">{"".join(cells)}</row>'


parts = {
    "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{KIND}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{KIND}.styles+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{KIND}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}">'
    '<sheets><sheet name="Moments" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{SHEET}">'
    '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/></numFmts>'
    '<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>'
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="2"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
    "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{SHEET}">'
    f'<sheetData>{"".join(map(row, range(1, 2001)))}</sheetData></worksheet>',
}
with zipfile.ZipFile("moments.xlsx", "w") as archive:
    for name, text in parts.items():
        archive.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>\n' + text)
PYTHON
python3 write.py

cat >read.py <<'PYTHON'
import datetime
import sys

import openpyxl

first = datetime.datetime(2024, 2, 29, 18, 50)
wrong = [0, 0]
for number, row in enumerate(openpyxl.load_workbook("moments.xlsx").active.iter_rows(values_only=True)):
    for column, value in enumerate(row):
        wrong[column] += value != first + datetime.timedelta(seconds=number)
print(f"openpyxl {openpyxl.__version__}: nearest doubles wrong: {wrong[0]} of 2000; ten decimals wrong: {wrong[1]} of 2000")
sys.exit("The behaviour has changed." if wrong != [0, 0] else 0)
PYTHON
env/bin/python read.py

cat >read.js <<'JAVASCRIPT'
const XLSX = require("xlsx");
const first = Date.UTC(2024, 1, 29, 18, 50, 0);

function count(sheet, column) {
    const found = { right: 0, early: 0, other: 0 };
    for (let i = 0; i < 2000; i++) {
        const difference = sheet[column + (i + 1)].v.getTime() - (first + 1000 * i);
        found[difference === 0 ? "right" : difference === -1 ? "early" : "other"]++;
    }
    return found;
}

const sheet = XLSX.readFile("moments.xlsx", { cellDates: true }).Sheets.Moments;
const nearest = count(sheet, "A");
const decimals = count(sheet, "B");
const cell = sheet.A1;

const dates = Array.from({ length: 2000 }, (_, i) => [new Date(first + 1000 * i)]);
const book = { SheetNames: ["S"], Sheets: { S: XLSX.utils.aoa_to_sheet(dates) } };
const own = count(XLSX.read(XLSX.write(book, { type: "buffer", bookType: "xlsx" }), { cellDates: true }).Sheets.S, "A");

console.log(`SheetJS ${XLSX.version}, node ${process.versions.node}`);
console.log("    nearest doubles:", nearest);
console.log("    ten decimals, a little too high:", decimals);
console.log("    its own file:", own);
console.log(`    cell A1 shows ${cell.w} and holds ${cell.v.toISOString()}`);

const as_seen =
    nearest.early === 481 && nearest.right === 1519 &&
    decimals.right === 2000 &&
    own.early === 481 && own.right === 1519 &&
    cell.w === "2024-02-29 18:50:00" && cell.v.toISOString() === "2024-02-29T18:49:59.999Z";
if (!as_seen) {
    console.error("The behaviour has changed.");
    process.exit(1);
}
JAVASCRIPT
node read.js
