"""Defines the error that is the user's to fix; every other exception is a bug. Imports nothing heavy."""


def visible(text: str) -> str:
    """Put text on one line of printable characters: newlines become a mark, others that are not printable are escaped.

    Not printable are control characters (terminals obey them), marks that change the direction of text, and halves of
    surrogate pairs.
    """
    return "".join(
        "⏎" if character == "\n" else character if character.isprintable() else repr(character)[1:-1]
        for character in text
    )


LONGEST_MESSAGE = 1400
"""Characters of a message, whatever names are in it."""
LONGEST_NAME = 100
"""Characters of a user's word that a message repeats."""


def shortened(word: str, longest: int = LONGEST_NAME) -> str:
    """Cut a word that is too long for a message."""
    return word if len(word) <= longest else f"{word[:longest]}..."


class UserError(Exception):
    """Says what is wrong outside the program: a path, a name, a width, a setting.

    The message is one line that says what is wrong, where, and what to do next; what cannot be printed of the names in
    it is escaped. Command lines print it and exit with `status`; every other exception is a bug and keeps its
    traceback.
    """

    status = 2

    def __init__(self, message: str) -> None:
        super().__init__(shortened(visible(message), LONGEST_MESSAGE))


def near(word: str, known: list[str]) -> str:
    """Return the end of a message: `; did you mean a or b?` for the closest known words, else the known ones."""
    import difflib

    close = difflib.get_close_matches(word, known, n=4, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(known[:40])}" + (", ..." if len(known) > 40 else "")
