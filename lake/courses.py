"""What the lake knows of courses: enrolments per course and day, as last counted."""

from __future__ import annotations

from datetime import date

from pyiceberg.exceptions import NoSuchTableError

from contracts.errors import BadInput
from lake.iceberg import answering, probe
from lake.views import Lake


def read_course_days(lake: Lake, course_id: str, first: date, last: date) -> list[tuple[date, int, int, int]]:
    """(day, enrolled, departed, members), earliest first.

    Days on which nobody enrolled or left have no row; the newest row before `first` is there too, for its members.
    Raises SystemMissing if the catalog or HDFS does not answer.
    """
    probe(str(lake.catalog.properties["warehouse"]))
    try:
        with answering(), lake.cursor() as connection:
            paths, _ = lake.listed("course_days", None, None)
            if not paths:
                return []
            return connection.execute(
                "SELECT day, enrolled, departed, members FROM read_parquet($paths) WHERE course_id = $course"
                " AND day <= $last QUALIFY day >= $first OR row_number() OVER (PARTITION BY day >= $first ORDER BY day DESC) = 1"
                " ORDER BY day",
                {"paths": paths, "course": course_id, "first": first, "last": last},
            ).fetchall()
    except (NoSuchTableError, BadInput) as error:
        if isinstance(error, BadInput) and error.code != "not_found":
            raise
        return []  # a lake into which nothing has been taken yet
