"""How a typed answer is judged: by what is spelled, not by how a keyboard happens to write it. Pure.

Two texts are spelled alike if they are equal after: Unicode NFC, full case folding, the typewriter's apostrophe for the
printer's (phones put in ’), runs of white space as one blank, none around. Accents count: `resume` is not `résumé`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Characters of a typed answer that are kept and judged. Longer than any word; an event's `choice` is no place for a text.
MOST_TYPED = 64
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})


def as_typed(text: str) -> str:
    """What is kept of a typed answer: NFC, visible characters, single blanks. Longer than MOST_TYPED only if the text is."""
    shown = "".join(c for c in text if c.isspace() or unicodedata.category(c) not in ("Cc", "Cs", "Cn", "Co"))
    return " ".join(unicodedata.normalize("NFC", shown).split())


def spelled(text: str) -> str:
    """The form in which two spellings are compared."""
    folded = unicodedata.normalize("NFC", as_typed(text).translate(_APOSTROPHES).casefold())
    return " ".join(folded.split())


def is_right(typed: str, accepted: Iterable[str]) -> bool:
    """Whether what was typed is one of the accepted spellings; nothing typed never is."""
    given = spelled(typed)
    return bool(given) and any(given == spelled(one) for one in accepted)
