"""Asks an export the questions of docs/parquet.md with DuckDB.

Usage: parquet.py DIRECTORY DOCUMENT

DIRECTORY holds the export under the name `fleet`. Prints one JSON object: the answers to all questions in the document's
order, each a list of rows; the tables' columns with their types; and what the tables hold at all.
"""

import json
import os
import re
import sys

import duckdb


def plain(value):
    """A value as JSON has it."""
    return value if value is None or isinstance(value, (int, float, str, bool)) else str(value)


def main():
    directory, document = sys.argv[1:]
    with open(document, encoding="utf-8") as file:
        questions = re.findall(r"```sql\n(.*?)```", file.read(), re.S)
    os.chdir(directory)
    database = duckdb.connect()
    # The tables are larger than memory in the long form.
    database.execute("SET memory_limit = '2GB'")

    def ask(question):
        return [[plain(value) for value in row] for row in database.execute(question).fetchall()]

    tables = ("samples", "stacks")
    print(json.dumps({
        "answers": [ask(question) for question in questions],
        "columns": {t: ask(f"DESCRIBE SELECT * FROM 'fleet/{t}.parquet'") for t in tables},
        "rows": {t: ask(f"SELECT count(*), count(DISTINCT stack_id) FROM 'fleet/{t}.parquet'")[0] for t in tables},
        "joined": ask("SELECT count(*) FROM 'fleet/samples.parquet' JOIN 'fleet/stacks.parquet' USING (stack_id)")[0][0],
        "dumps": ask("SELECT count(DISTINCT dump), count(DISTINCT pid), min(kind), max(kind) FROM 'fleet/samples.parquet'")[0],
        "blocks": ask("SELECT sum(alloc_objects), sum(alloc_space), sum(inuse_objects), sum(inuse_space)"
                      " FROM 'fleet/samples.parquet'")[0],
        # The formula of the document, against the column.
        "worst": ask("""
            SELECT max(abs(inuse_samples * size * size * (1 - p) / (p * p) / inuse_space_variance - 1))
            FROM (SELECT *, 1 - exp(-size / period) AS p FROM 'fleet/samples.parquet')
            WHERE inuse_samples >= 4 AND size <= 65536""")[0][0],
    }))


main()
