"""Keeps the streams job on the Flink cluster: `python -m cli.stack.keep_streams --rest-url URL`, under the supervisor.

A standalone cluster forgets its jobs when it restarts. So this looks every few seconds and, where no job of our name
runs, hands `./lakeboard job submit` the work; that is safe to repeat and takes up the last checkpoint. The submission
ends with this process, so nothing submits behind a stack that is going down.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from contracts import names

# Two requests in ten seconds cost nothing; a lost job is missed for at most this long.
LOOK_S = 5.0
# A job that has just failed would fail again at once; more waiting would only delay the mending.
AGAIN_S = 15.0
# A submission starts a Java, plans the statements (120 s were seen beside other work) and waits for a first checkpoint.
SUBMIT_S = 600.0
ALIVE = ("CREATED", "INITIALIZING", "RUNNING", "RESTARTING")

_log = logging.getLogger("lakeboard.streams")


def running(rest_url: str) -> bool:
    """Whether the cluster runs the streams job. Raises OSError while it does not answer."""
    with urllib.request.urlopen(f"{rest_url}/jobs/overview", timeout=5) as reply:
        jobs = json.load(reply)["jobs"]
    return any(job["name"] == names.STREAMS_JOB and job["state"] in ALIVE for job in jobs)


def submit(beat: Callable[[], None]) -> int:
    """Run `./lakeboard job submit` to its end, beating meanwhile; its exit code."""
    child = subprocess.Popen([sys.executable, "-P", "-m", "cli", "job", "submit"])
    deadline = time.monotonic() + SUBMIT_S
    while child.poll() is None:
        if time.monotonic() > deadline:
            child.kill()  # no beat ends it where it hangs: the next one starts afresh
            child.wait()
        beat()
        time.sleep(0.5)
    return child.returncode


def keep(rest_url: str, beat: Callable[[], None]) -> None:
    """Look, submit, look again; for ever."""
    while True:
        pause = LOOK_S
        beat()
        try:
            if not running(rest_url):
                code = submit(beat)
                _log.info("streams_submitted exit=%d", code)
                pause = LOOK_S if code == 0 else AGAIN_S
        except OSError as error:
            _log.warning("flink_away error=%s", error)
        beat()
        time.sleep(pause)


def main() -> None:
    """The command; SIGTERM ends it, and the supervisor ends what is left of its group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rest-url", required=True)
    parser.add_argument("--heartbeat", required=True, type=Path, help="the file that the supervisor watches")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    keep(arguments.rest_url, arguments.heartbeat.touch)


if __name__ == "__main__":
    main()
