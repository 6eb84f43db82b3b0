"""A statement set on Flink: the one module that touches pyflink's table API and its Java below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flink_jobs.statements import WALLS, Wall


def environment_of(options: Mapping[str, str]) -> Any:
    """A table environment with exactly these options."""
    from pyflink.common import Configuration
    from pyflink.datastream import StreamExecutionEnvironment
    from pyflink.java_gateway import get_gateway
    from pyflink.table import StreamTableEnvironment

    configuration = Configuration()
    for name, value in options.items():
        configuration.set_string(name, value)
    # Not get_execution_environment(configuration): that replaces the remote target by a cluster of its own.
    jvm = get_gateway().jvm.org.apache.flink.streaming.api.environment
    java_environment = jvm.StreamExecutionEnvironment(configuration._j_configuration)
    return StreamTableEnvironment.create(StreamExecutionEnvironment(java_environment))


def add_statements(environment: Any, texts: Sequence[str]) -> Any:
    """Run the DDL and gather the inserts into one statement set, so that they share one source."""
    from flink_jobs.build_sketches import build_sketch, heaviest_keys

    environment.create_temporary_function("build_sketch", build_sketch)
    environment.create_temporary_function("heaviest_keys", heaviest_keys)
    inserts = environment.create_statement_set()
    for text in texts:
        if text.startswith("INSERT"):
            inserts.add_insert_sql(text)
        else:
            environment.execute_sql(text)
        view = text.removeprefix("CREATE TEMPORARY VIEW ").split(None, 1)[0]
        if view in WALLS:
            _wall(environment, view, WALLS[view])
    return inserts


def _wall(environment: Any, source: str, wall: Wall) -> None:
    """View `source` as a wall.

    Rows stay in Flink's own form: as Java objects, the default, each would be converted twice.
    """
    from pyflink.java_gateway import get_gateway

    jvm = get_gateway().jvm.org.apache.flink.table
    java = environment._j_tenv
    table = environment.from_path(source)._j_table
    fields = table.getResolvedSchema().toPhysicalRowDataType()
    internal = jvm.types.utils.DataTypeUtils.toInternalDataType(fields)
    phases = "table.optimizer.agg-phase-strategy"
    environment.get_config().set(phases, "TWO_PHASE" if wall.two_stages else "ONE_PHASE")
    stream = java.toDataStream(table, internal)  # planned here and now
    environment.get_config().set(phases, "AUTO")
    keep_watermark = jvm.api.Schema.newBuilder().watermark(wall.time, "SOURCE_WATERMARK()").build()
    java.createTemporaryView(wall.name, stream, keep_watermark)
