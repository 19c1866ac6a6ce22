"""The two kinds of failure: the user's, told in one line, and ours, told by a traceback. Imports nothing."""


class UserError(Exception):
    """Something outside the program is wrong: a path, a name, a width, a setting.

    The message is one line that says what is wrong, where, and what to do next. Command lines print it and exit
    with `status`; every other exception is a bug and keeps its traceback.
    """

    status = 2


def near(word: str, known: list[str]) -> str:
    """`"; did you mean a, b?"` for the closest known words, else the known ones."""
    import difflib

    close = difflib.get_close_matches(word, known, n=4, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known: {', '.join(known[:40])}" + (", ..." if len(known) > 40 else "")
