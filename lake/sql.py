"""`python -m lake.sql 'select …'`: one query over the lake's current snapshots, as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb

from contracts.errors import LakeboardError
from contracts.settings import with_password
from lake.views import Lake


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 with the rows on standard output, 2 if the query is wrong."""
    parser = argparse.ArgumentParser(prog="lake.sql", description="Ask the lake in SQL; its tables are views")
    parser.add_argument("query")
    for name in ("postgres-url", "warehouse"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--postgres-password-file", type=Path, help="where the URL has no password")
    parser.add_argument("--cache", required=True, type=Path, help="folder of fetched files")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    url = args.postgres_url
    if args.postgres_password_file:
        url = with_password(url, args.postgres_password_file.read_text().strip())
    try:
        relation = Lake(url, args.warehouse, args.cache).open().sql(args.query)
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
