"""`demo`: the whole system at work, with simulated learners: set-up, up, a week of history, live games, settling."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import random
import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import httpx
import typer
import websockets
from rich.console import Console

from cli.answer_files import boards_since_us, read
from cli.commands.boards import print_board
from cli.commands.replay import send
from cli.commands.stack import addresses, start
from cli.doors import ask, client
from cli.environments import say
from cli.places import ROOT
from cli.stack.layout import Layout
from contracts.errors import BadInput, SystemMissing
from contracts.scoring import DEFAULT_RULE

WEEK = ROOT / "examples" / "simulated_week.csv.gz"
# The shipped week's first day; the demo moves it to the last whole week before today.
WEEK_FIRST = date(2026, 3, 30)
PLAYERS = 6
GAMES = 2
QUESTION_S = 1.5
# Settling a week took 60 s on a quiet machine and 160 s beside other work; Airflow needs up to a minute to begin.
SETTLE_WAIT_S = 900.0
# So named that nobody takes them for people.
NAME = "Simulated learner {}"


def demo(
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the settling.")] = False,
) -> None:
    """Start everything, let simulated learners play, settle a week through Airflow, show the boards; stays up.

    \b
    Example:
      ./lakeboard demo
    """
    layout = start("full")
    first = last_week(datetime.now(UTC).date())
    say(f"importing a simulated week from {first} (no person is behind a line)")
    _import_week(layout, first)
    say(f"{GAMES} live games of {PLAYERS} simulated learners each, over sockets")
    session_ids = asyncio.run(_games(layout))
    with client(layout) as http:
        settled = _settle(layout, first, wait=not no_wait)
        quiz = "quiz:animals"
        for scope, period, begin in (
            (f"session:{session_ids[-1]}", "all_time", "current"),
            ("global", "daily", "current"),
            ("global", "weekly", str(first)),
            (quiz, "weekly", str(first)),
        ):
            print_board(ask(http, "GET", f"/v1/leaderboards/{scope}/{period}/{begin}", params={"k": 5}))
    addresses(layout, "full", False)
    print("It stays up; ./lakeboard down stops it and keeps the data.")
    if not settled and not no_wait:
        raise typer.Exit(1)


def last_week(today: date) -> date:
    """Monday of the last whole week."""
    return today - timedelta(days=today.isoweekday() - 1 + 7)


def moved_week(text: str, first: date) -> str:
    """The shipped week's lines, moved by whole days so that it begins on `first`; sessions get ids of that week."""
    days = timedelta(days=(first - WEEK_FIRST).days)
    header, *lines = text.splitlines()
    moved = [header]
    for line in lines:
        instant, user, session, rest = line.split(",", 3)
        if instant.isdigit():
            instant = str(int(instant) + days // timedelta(milliseconds=1))
        else:
            instant = (datetime.fromisoformat(instant) + days).isoformat(timespec="milliseconds")
        moved.append(f"{instant},{user},{session}-{first:%Y%m%d},{rest}")
    return "\n".join(moved) + "\n"


def _import_week(layout: Layout, first: date) -> None:
    """A second demo in the same week sends the same answers: all of them are repeats."""
    file = layout.home / "data" / "demo" / f"simulated_week_{first}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(moved_week(gzip.decompress(WEEK.read_bytes()).decode(), first))
    lines, bad = read(file, "csv", DEFAULT_RULE)
    assert not bad, f"the shipped week holds lines that cannot be read: {bad[:3]}"
    with client(layout) as http:
        try:
            ask(http, "POST", "/v1/import/boards_since", json={"since_us": boards_since_us(lines)})
        except BadInput as error:
            say(f"{error.code}: {error.detail}; the week's Redis boards stay as they are")
    counts, _ = send(lines)
    say("  ".join(f"{name} {count}" for name, count in counts.items()))


async def _games(layout: Layout) -> list[str]:
    """Plays short games through the gateway, as browsers would; returns their session ids."""
    base = f"http://127.0.0.1:{layout.port('web')}"
    answers = _right_choices()
    chance = random.Random()
    found = []
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        for number in range(GAMES):
            quiz = ("starter-a1", "starter-b1")[number % 2]
            made = (await http.post("/v1/sessions", json={"quiz_id": quiz})).raise_for_status().json()
            seats = []
            for player in range(PLAYERS):
                body = {"pin": made["pin"], "name": NAME.format(player + 1)}
                seats.append((await http.post("/v1/join", json=body)).raise_for_status().json())
            url = base.replace("http://", "ws://")
            playing = [
                asyncio.create_task(_play(f"{url}/v1/live?token={seat['token']}", answers, skill, chance))
                for skill, seat in zip((0.95, 0.85, 0.75, 0.65, 0.5, 0.35), seats, strict=True)
            ]
            host = {"Authorization": f"Bearer {made['token']}"}
            for _ in range(made["questions"]):
                (await http.post(f"/v1/sessions/{made['session_id']}/next", headers=host)).raise_for_status()
                await asyncio.sleep(QUESTION_S)
            (await http.post(f"/v1/sessions/{made['session_id']}/end", headers=host)).raise_for_status()
            counts = await asyncio.gather(*playing)
            say(f"game {number + 1}: quiz {quiz}, PIN {made['pin']}, {sum(counts)} answers")
            found.append(made["session_id"])
    return found


async def _play(url: str, answers: dict[str, str], skill: float, chance: random.Random) -> int:
    """One simulated learner: answers each question once, by skill; returns how many results came."""
    results, asked = 0, set()
    async with websockets.connect(url) as socket:
        async for frame in socket:
            message: dict[str, Any] = json.loads(frame)
            if message["type"] == "question" and message["question_id"] not in asked:
                asked.add(message["question_id"])
                await asyncio.sleep(chance.uniform(0.1, QUESTION_S * 0.7))
                right = answers.get(message["question_id"])
                wrong = [choice for choice in message["choices"] if choice != right]
                choice = right if right and chance.random() < skill else chance.choice(wrong)
                await socket.send(
                    json.dumps({"type": "answer", "question_id": message["question_id"], "choice": choice})
                )
            elif message["type"] == "result":
                results += 1
            elif message["type"] == "ended":
                break
    return results


def _right_choices() -> dict[str, str]:
    """question_id → the word, of the starter quizzes that ask for words: a simulated learner has to know some."""
    found = {}
    for path in sorted((ROOT / "serving" / "quizzes" / "starter").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found[f"{path.stem}-{int(row['number']):03}-word"] = row["word"]
    return found


def _settle(layout: Layout, first: date, wait: bool) -> bool:
    """Settles the week by the DAG leaderboards_weekly; False if Airflow is down or its run failed."""
    base = f"http://127.0.0.1:{layout.port('airflow')}"
    runs = "/api/v2/dags/leaderboards_weekly/dagRuns"
    with httpx.Client(base_url=base, timeout=60) as http:
        try:
            login = {"username": "admin", "password": layout.secrets["airflow_password"]}
            token = ask(http, "POST", "/auth/token", json=login)["access_token"]
            http.headers["Authorization"] = f"Bearer {token}"
            ask(http, "PATCH", "/api/v2/dags/leaderboards_weekly", json={"is_paused": False})
            span = {"from": str(first), "to": str(first + timedelta(days=6))}
            run = ask(http, "POST", runs, json={"logical_date": None, "conf": span})["dag_run_id"]
            say(f"Airflow settles {span['from']} to {span['to']}: {base}/dags/leaderboards_weekly/runs/{run}")
            say(
                "(before it, on a fresh stack, what fell due while the DAG was paused; together some minutes)"
            )
            if wait:
                return _wait_for_run(http, f"{runs}/{run}")
        except (SystemMissing, BadInput) as error:
            say(
                f"Airflow did not settle the week ({error.detail}); see ./lakeboard status, or settle by hand:"
            )
            say(f"./lakeboard settle --from {first} --to {first + timedelta(days=6)}")
    return False


def _wait_for_run(http: httpx.Client, path: str) -> bool:
    """Until the run has ended; whether it succeeded. A terminal shows its state meanwhile."""
    began = time.monotonic()
    with Console(stderr=True).status("Airflow") as shown:
        while (waited := time.monotonic() - began) < SETTLE_WAIT_S:
            state = ask(http, "GET", path)["state"]
            shown.update(f"Airflow: the run is {state}, {waited:.0f} s")
            if state in ("success", "failed"):
                say(f"the run ended: {state}")
                return bool(state == "success")
            time.sleep(3)
    say(f"the run has not ended in {SETTLE_WAIT_S:.0f} s and goes on; its page shows it")
    return False
