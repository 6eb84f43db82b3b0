"""Stop the streams job with a savepoint, so that the next submission goes on from it: how the job is upgraded.

    python -m flink_jobs.stop_streams --rest-url URL --checkpoint-dir DIR

No window is closed early: what is open travels in the savepoint. Prints one JSON document; exit 1 if no job runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import urllib.request
from typing import Any

from contracts.errors import BrokenContract, LakeboardError, SystemMissing
from flink_jobs.checkpoints import as_url, savepoint_dir
from flink_jobs.submit import get, running_job


def stop(rest_url: str, folder: str, wait_s: float) -> dict[str, Any]:
    """Job and savepoint. Raises BrokenContract if there is no job, or its savepoint fails: it then runs on."""
    job = running_job(rest_url)
    if job is None:
        raise BrokenContract("not_found", f"no job runs on {rest_url}", next_step="./lakeboard job submit")
    body = json.dumps({"targetDirectory": savepoint_dir(as_url(folder)), "drain": False}).encode()
    request = urllib.request.Request(
        f"{rest_url.rstrip('/')}/jobs/{job}/stop", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            trigger = json.load(reply)["request-id"]
    except OSError as error:
        raise SystemMissing("system_missing", f"Flink at {rest_url}: {error}") from error
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        found = get(rest_url, f"/jobs/{job}/savepoints/{trigger}")
        if found["status"]["id"] == "COMPLETED":
            savepoint = found["operation"].get("location")
            if savepoint:
                return {"job": job, "savepoint": savepoint}
            cause = found["operation"].get("failure-cause", {}).get("stack-trace", "no cause is given")
            raise BrokenContract(
                "check_failed",
                f"job {job} made no savepoint: {cause.splitlines()[0][:300]}",
                next_step="it runs on; try again when all its tasks run",
            )
        time.sleep(0.5)
    raise BrokenContract("check_failed", f"job {job} has made no savepoint in {wait_s:g} s")


def main(argv: list[str] | None = None) -> int:
    """The command. 3: Flink does not answer."""
    parser = argparse.ArgumentParser(prog="flink_jobs.stop_streams", description=__doc__.splitlines()[0])
    parser.add_argument("--rest-url", required=True, help="the JobManager, http://HOST:PORT")
    parser.add_argument("--checkpoint-dir", required=True, help="as of the submission")
    parser.add_argument("--wait-s", type=float, default=120.0)
    arguments = parser.parse_args(argv)
    try:
        print(json.dumps(stop(arguments.rest_url, arguments.checkpoint_dir, arguments.wait_s)))
    except LakeboardError as error:
        print(f"{error}. {error.next_step}".rstrip(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
