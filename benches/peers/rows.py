"""The rows of login_events out of PostgreSQL, by a server-side cursor."""

import os

import psycopg

COLUMNS = "id,user_id,username,ip,user_agent,succeeded,country,amount,score,created_at".split(",")


def rows():
    with psycopg.connect(os.environ["DSN"]) as connection, connection.cursor(name="rows") as cursor:
        cursor.itersize = 5000
        cursor.execute("SELECT * FROM login_events ORDER BY id")
        yield from cursor
