"""`python -m lake.sql 'select …'`: one query over the lake's current snapshots or a settlement's, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import duckdb

from contracts.errors import LakeboardError
from lake.addresses import add_arguments, from_arguments
from lake.analyst import connect


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 with the rows on standard output, 2 if the query is wrong."""
    parser = argparse.ArgumentParser(prog="lake.sql", description="Ask the lake in SQL; its tables are views")
    parser.add_argument("query")
    add_arguments(parser)
    parser.add_argument("--settlement", help="id: the tables as they were when it was published")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        relation = connect(from_arguments(args), args.settlement).sql(args.query)
        columns, rows = relation.columns, relation.fetchall()
    except LakeboardError as error:
        print(f"{error.code}: {error.detail}", file=sys.stderr)
        return error.exit_code
    except duckdb.Error as error:
        print(f"bad_query: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], default=str))
        return 0
    print("\t".join(columns))
    for row in rows:
        print("\t".join("" if value is None else str(value) for value in row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
