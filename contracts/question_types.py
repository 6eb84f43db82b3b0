"""The kinds of question, by the stable names that answers carry in `question_type`. Never renamed: reports group by them."""

from __future__ import annotations

DEFINITION_TO_WORD = "definition_to_word"
WORD_TO_DEFINITION = "word_to_definition"
GAP_IN_SENTENCE = "gap_in_sentence"
LISTENING = "listening"
TYPED_SPELLING = "typed_spelling"
PICTURE = "picture"
AUDIO = "audio"
# Answers that came through the import route: what was asked there is not known.
IMPORTED = "imported"

# name → what the player sees, and what is right.
QUESTION_TYPES: dict[str, str] = {
    DEFINITION_TO_WORD: "a definition; its word is right",
    WORD_TO_DEFINITION: "a word; its definition is right",
    GAP_IN_SENTENCE: "a sentence with a gap; the word in it is right",
    LISTENING: "a word that the browser speaks; its definition is right",
    TYPED_SPELLING: "a definition, a picture or a recording; the word is typed",
    PICTURE: "a picture; the word for it is right",
    AUDIO: "a recording; the word in it is right",
}
