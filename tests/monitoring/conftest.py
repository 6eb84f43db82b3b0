"""The api of the serving room's tests, for what watches it."""

from __future__ import annotations

from tests.serving.conftest import api

__all__ = ["api"]
