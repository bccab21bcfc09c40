"""Text that others wrote."""

from __future__ import annotations

import pytest

from hogpour.core.text import all_printable, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("shard 3 is there", "shard 3 is there"),
        ("\x1b]0;PWNED\x07\x1b[2J", "�]0;PWNED��[2J"),
        ("elm\n\r7", "elm��7"),
        ("\x9b2J\x85\x7f", "�2J��"),  # C1: what some terminals take for an escape
        ("a\u202eb\u2028c\u200bd", "a�b�c�d"),  # letters that run backwards, lines, nothing
        ("Zürich\u00a0東京\u3000🌲", "Zürich\u00a0東京\u3000🌲"),
    ],
)
def test_what_moves_a_cursor_is_replaced_and_all_else_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_every_text_of_a_json_is_printable_its_keys_too() -> None:
    assert all_printable({"\x1b": ["\x07", 1, None, {"a": "\n"}]}) == {"�": ["�", 1, None, {"a": "�"}]}
