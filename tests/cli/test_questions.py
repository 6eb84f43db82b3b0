"""The shell's variables: everything that `import lake` needs, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.commands.questions import shell_variables
from cli.stack.layout import Layout
from contracts.settings import from_mapping, has_password

pytestmark = pytest.mark.unit


def test_a_shell_gets_addresses_and_the_folder_of_secrets_but_no_secret(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "home", tmp_path / "cache", 7)
    variables = shell_variables(layout)
    settings = from_mapping(variables)
    assert (layout.settings("full").lake_warehouse, False) == (
        settings.lake_warehouse,
        has_password(settings.postgres_url),
    )
    text = "\n".join(variables.values())
    assert [] == [name for name, secret in layout.secrets.items() if secret in text]
    assert layout.secrets["postgres_password"] == Path(settings.secrets_dir, "postgres_password").read_text()
