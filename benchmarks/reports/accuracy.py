"""docs/accuracy.md and its pictures, from the rows of `bench accuracy`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TITLES = {
    "count_min": "Count-Min: how often a key occurred",
    "frequent_items": "Frequent items: which keys occurred most",
    "distinct": "Distinct: how many different users",
    "quantiles": "Quantiles: the time taken",
    "sample_1_in_64": "`accuracy=fast`: one of 64 users",
}
ERRORS = {
    "count_min": "answers",
    "frequent_items": "answers",
    "distinct": "share",
    "quantiles": "rank",
    "sample_1_in_64": "share",
}


def write_report(docs: Path, rows: Sequence[dict[str, Any]], wrong: dict[str, Any], events: int) -> None:
    """Write both; a repeat of the same rows writes the same bytes but for the measured times."""
    picture(docs / "pictures" / "accuracy_count_min.png", rows)
    parts = [
        "# How exact the estimates are",
        "",
        f"Written by `./lakeboard bench accuracy --write` ({events:,} events a stream, 60 minutes merged into one sketch).",
        "*Within* is the share of estimates whose interval holds the truth; it has to be at least the stated confidence.",
        "*Bytes* and *update* are also given as ratios to exact counting in the same run: a Counter, a set, the sorted values.",
        "Times are processor time on a busy machine: the ratios say more than the figures.",
    ]
    for sketch, title in TITLES.items():
        parts += ["", f"## {title}", "", *_table(sketch, [one for one in rows if one["sketch"] == sketch])]
        if sketch == "count_min":
            parts += ["", "![Error of each key against its count](pictures/accuracy_count_min.png)"]
    parts += [
        "",
        "## Where a sketch is the wrong tool",
        "",
        "Frequent items over the totals of 20,000 users, which are near-uniform "
        f"(at most {wrong['greatest_total']:,} points): the error may be {wrong['bound']:,}, above every total.",
        f"Of the true top 100 it names {wrong['recall_top']:.2f} with certainty and {wrong['recall_listed']:.2f} at all.",
        "So boards of users are exact, and `accuracy=fast` samples users instead. A near-uniform stream of words or questions",
        "is the same, see *sure* above; EdNet's questions come near it: none of its 11,604 is heavy.",
        "Count-Min's bound is a share of the whole: of a key that is rarer than that it says little more than *rare*.",
        "",
    ]
    (docs / "accuracy.md").write_text("\n".join(parts), encoding="utf-8")


def _table(sketch: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    extra = [("recall_top", "top 100 found"), ("sure_top", "sure")] if sketch == "frequent_items" else []
    extra += [("bound", "bound")] if sketch in ("count_min", "frequent_items") else []
    timed = (
        []
        if sketch == "sample_1_in_64"
        else [
            ("bytes", "bytes"),
            ("bytes_ratio", "÷ exact"),
            ("update_ns", "update, ns"),
            ("update_ratio", "÷ exact"),
            ("merge_us", "merge, µs"),
        ]
    )
    columns = [
        ("stream", "stream"),
        ("estimates", "estimates"),
        ("within", "within"),
        ("confidence", "confidence"),
        ("error_p50", f"error p50 ({ERRORS[sketch]})"),
        ("error_p99", "p99"),
        ("error_max", "most"),
        *extra,
        *timed,
    ]
    lines = ["| " + " | ".join(title for _, title in columns) + " |", "|" + "---|" * len(columns)]
    for one in rows:
        lines.append("| " + " | ".join(_text(one[name]) for name, _ in columns) + " |")
    return lines


def _text(value: Any) -> str:
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    )


def picture(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Count-Min's error of each key asked for, by the key's count, with the bound of each stream."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    own = [one for one in rows if one["sketch"] == "count_min"]
    figure, axes = pyplot.subplots(1, len(own), figsize=(3 * len(own), 3), sharey=True)
    for axis, one in zip(axes, own, strict=True):
        counts, errors = zip(*one["plotted"], strict=True)
        axis.plot([count + 1 for count in counts], errors, ".", markersize=2)
        axis.axhline(one["bound"], color="tab:red", linewidth=1)
        axis.set_xscale("log")
        axis.set_title(one["stream"], fontsize=9)
        axis.set_xlabel("count + 1")
    axes[0].set_ylabel("error; red: the bound")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
