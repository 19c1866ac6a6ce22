"""Writes values as scripts that a page loads by script tags, because `fetch` fails on file://."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

LONGEST_TOKEN, LONGEST_TEXT = 200, 2000
"""Characters of a token and of an explanation that the pages show."""
ELLIPSIS = "\u2026"


def script(name: str, value: Any) -> str:
    """Render a value as a script that puts it at `data[name]`: JSON behind an assignment, all in ASCII."""
    return f"data[{json.dumps(name)}]={_json(value)}\n"


_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def write_script(folder: Path, name: str, value: Any) -> None:
    """Write the script of one value to FOLDER/NAME.js."""
    path = folder / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script(name, value), "ascii")


class Chunks:
    """Writes many values into scripts NAME/0.js, NAME/1.js, ..., each a list of about `size` bytes at most."""

    def __init__(self, folder: Path, name: str, size: int) -> None:
        self._folder, self._name, self._size = folder, name, size
        self._pending: list[str] = []
        self._bytes = 0
        self.starts: list[int] = [0]
        """Number of the first value of each script."""

    def add(self, value: Any) -> int:
        """Add a value; return the number of the script that it is in."""
        text = _json(value)
        if self._pending and self._bytes + len(text) > self._size:
            self._flush()
            self.starts.append(self.starts[-1] + len(self._pending))
            self._pending, self._bytes = [], 0
        self._pending.append(text)
        self._bytes += len(text) + 1
        return len(self.starts) - 1

    def close(self) -> None:
        """Write the last script, which is an empty list where nothing was added."""
        self._flush()

    def _flush(self) -> None:
        name = f"{self._name}/{len(self.starts) - 1}"
        path = self._folder / f"{name}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"data[{json.dumps(name)}]=[{','.join(self._pending)}]\n", "ascii")


def packed(values: Iterable[float | None]) -> str:
    """Write activations, which are not negative, with four significant digits each; -k stands for k zeros in a row.

    A text is written several times as fast as a list of numbers.
    """
    words, zeros = list[str](), 0
    for value in values:
        if value == 0:
            zeros += 1
            continue
        if zeros:
            words.append(str(-zeros))
            zeros = 0
        words.append("null" if value is None else f"{value:.4g}")
    return ",".join([*words, str(-zeros)] if zeros else words)


def number(value: float | None) -> float | None:
    """Round one number, or None."""
    return None if value is None else float(f"{value:.4g}") or 0


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Cut a text that is too long for a page; say how long it was."""
    return text if len(text) <= longest else f"{text[:longest]}{ELLIPSIS} ({len(text):,} characters)"


def cut_tokens(tokens: Sequence[str]) -> list[str]:
    """Cut tokens that are too long for a page."""
    if max(map(len, tokens), default=0) <= LONGEST_TOKEN:
        return list(tokens)
    return [cut(token, LONGEST_TOKEN) for token in tokens]
