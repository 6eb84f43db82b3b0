"""Accounts in a real Chromium: a guest makes one and keeps the points, a profile with a picture, and the admins' screen."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.serving.access.people import PASSWORD, made, signed_up, somebody
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, right_choice
from tests.serving.web.pages import (
    PHONE,
    PROJECTOR,
    Complaints,
    assert_accessible,
    context_of,
    join,
    page_of,
    shot,
)

pytestmark = pytest.mark.browser


def log_in(page: Page, login_name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Log-in name").fill(login_name)
    page.get_by_label("Password", exact=True).fill(password)
    page.keyboard.press("Enter")


def test_a_guest_makes_an_account_and_keeps_what_was_played(
    browser: Browser, api: ApiProcess, tmp_path: Path
) -> None:
    table = Table(api, "Noor")
    table.host("next").raise_for_status()
    question = table.current()
    table.answer(0, question, right_choice(question)).raise_for_status()
    seat = table.players[0]
    complaints = Complaints()
    page = page_of(context_of(browser, PHONE), f"{api.url}/#/account", complaints)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert_accessible(page, "log_in_phone")
    page.evaluate(
        "(one) => localStorage.setItem('lakeboard.seats', JSON.stringify([{...one, at: Date.now()}]))",
        {**seat, "title": "First words", "name": "Noor"},
    )
    page.get_by_role("link", name="Make an account").click()
    expect(page.get_by_label("Keep what you have played")).to_contain_text("Noor · First words")
    assert_accessible(page, "sign_up_phone")
    person = somebody(api)
    # What is wrong is told under the form, in words.
    log_in(page, person.login_name, "short")
    expect(page.locator("#sign-up-error")).to_contain_text("too easy to guess")
    log_in(page, person.login_name)
    expect(page.get_by_role("heading", name="Your profile")).to_be_visible()
    expect(page.locator(".profile")).to_contain_text(f"Noor{person.login_name} · Player, Host")
    assert [] == [one for one in complaints if "422" not in one]

    out = tmp_path / "photo.jpg"
    Image.linear_gradient("L").convert("RGB").resize((640, 480)).save(out)
    page.get_by_label("Picture", exact=True).set_input_files(out)
    expect(page.locator("img.avatar")).to_be_visible()
    assert page.evaluate("document.querySelector('img.avatar').decode().then(() => true)")
    page.get_by_label("Your name").fill("Noor A")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#profile-told")).to_have_text("Saved.")
    assert_accessible(page, "profile_phone")
    board = f"{api.url}/v1/leaderboards/quiz:starter-a1/daily/current?k=0&around={seat['user_id']}&m=0"
    me = httpx.get(board).json()["me"]
    assert "Noor A" == me["name"] and me["avatar_url"]
    # A file that is no picture is refused in words, and nothing changes.
    page.get_by_label("Picture", exact=True).set_input_files(
        {"name": "x.png", "mimeType": "image/png", "buffer": b"<svg/>"}
    )
    expect(page.locator("#picture-error")).to_contain_text("no picture that is taken")
    page.get_by_label("Be anonymous on leaderboards").check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#profile-told")).to_have_text("Saved.")
    page.reload()
    expect(page.get_by_label("Be anonymous on leaderboards")).to_be_checked()
    assert "Anonymous" == httpx.get(board).json()["me"]["name"]

    page.get_by_text("Keys for programs").click()
    page.get_by_label("What the key is for").fill("my script")
    page.get_by_role("button", name="Make a key").click()
    expect(page.locator("#fresh-key code")).to_have_text(re.compile(r"^lbk_[0-9a-f]{16}_"))
    assert_accessible(page, "keys_phone")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export my data").click()
    assert saved.value.path().read_bytes().startswith(b"PK")
    page.get_by_role("button", name="Delete my account").click()
    assert_accessible(page, "delete_phone")
    page.get_by_role("dialog").get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("heading", name="Join a game")).to_be_visible()
    assert 404 == somebody_gone(api, seat["user_id"])


def somebody_gone(api: ApiProcess, user_id: str) -> int:
    """404 where a user has no name any more."""
    found = httpx.get(f"{api.url}/v1/users/{user_id}").json()
    return 404 if found.get("name") is None else 200


def test_a_log_in_is_renewed_and_ends_everywhere(browser: Browser, api: ApiProcess) -> None:
    person = signed_up(api, "Kofi")
    complaints = Complaints()
    page = page_of(context_of(browser, PHONE, "dark"), f"{api.url}/#/account", complaints)
    log_in(page, person.login_name, "a wrong password")
    expect(page.locator("#log-in-error")).to_contain_text("The name or the password is wrong")
    log_in(page, person.login_name)
    expect(page.get_by_role("heading", name="Your profile")).to_be_visible()
    page.reload()  # the access token was in memory: the cookie brings another
    expect(page.locator(".profile")).to_contain_text("Kofi")
    assert page.evaluate("document.cookie") == ""
    # A game that is joined while logged in is the account's.
    page.goto(f"{api.url}/?pin={Table(api).session['pin']}")
    assert person.user_id == join(page, "Kofi")["user_id"]
    person.take(person.log_in())
    person.ask("POST", "/v1/auth/log-out-everywhere").raise_for_status()
    page.goto(f"{api.url}/#/account")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert [] == [one for one in complaints if "401" not in one]


def test_admins_see_accounts_lists_and_the_stack(browser: Browser, api: ApiProcess) -> None:
    admin, pupil = made(api, "admin"), signed_up(api, "Linus")
    complaints = Complaints()
    page = page_of(context_of(browser, PROJECTOR), f"{api.url}/#/account", complaints)
    log_in(page, admin.login_name)
    page.get_by_role("link", name="Accounts, keys, addresses, audit, health").click()
    page.get_by_label("Name or log-in name").fill(pupil.login_name)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label(f"Analyst: {pupil.login_name}").check()
    expect(page.get_by_label(f"Analyst: {pupil.login_name}")).to_be_checked()
    page.get_by_role("button", name=f"Ticket: {pupil.login_name}").click()
    ticket = page.locator("#ticket-told code")
    expect(ticket).to_contain_text("/#/ticket/")
    assert_accessible(page, "admin_users_projector")
    other = page_of(context_of(browser, PHONE), ticket.inner_text(), complaints)
    expect(other.get_by_role("heading", name="Set your password")).to_be_visible()
    assert_accessible(other, "ticket_phone")
    other.get_by_label("New password").fill("seven quiet geese")
    other.keyboard.press("Enter")
    expect(other.locator(".profile")).to_contain_text("Linus")
    assert "ticket" not in other.url

    page.get_by_role("link", name="Addresses").click()
    page.get_by_label("Network").fill("203.0.113.0/24")
    page.get_by_label("Note").fill("scans")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("tbody tr")).to_contain_text("203.0.113.0/24")
    assert_accessible(page, "admin_addresses_projector")
    page.get_by_role("button", name="Take away: 203.0.113.0/24").click()
    expect(page.locator("tbody")).to_contain_text("Nothing here.")
    page.get_by_role("link", name="Audit log").click()
    expect(page.locator("tbody")).to_contain_text("addresses.put")
    assert_accessible(page, "admin_audit_projector")
    page.get_by_role("link", name="Health").click()
    expect(page.locator("tbody")).to_contain_text("Postgres")
    assert_accessible(page, "admin_health_projector")
    page.get_by_role("link", name="Keys").click()
    expect(page.get_by_role("columnheader", name="Owner")).to_be_visible()
    phone = page_of(context_of(browser, PHONE), f"{api.url}/#/account", complaints)
    log_in(phone, admin.login_name)
    expect(phone.locator(".profile")).to_be_visible()
    phone.goto(f"{api.url}/#/admin/users")
    expect(phone.locator("tbody tr").first).to_be_visible()
    assert_accessible(phone, "admin_users_phone")
    shot(page, "administration")
    assert [] == complaints
