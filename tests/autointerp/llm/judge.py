"""What the fake judge says to this project's own prompts: a script for tests.fakes, deterministic in what it is asked.

It explains a feature by its most strongly active token, in quotes, and predicts that quoted tokens are active.
"""

import hashlib
import json
import re
from typing import Any

QUOTED = re.compile(r"'([^']*)'")


def answer(messages: list[dict[str, str]], body: dict[str, Any]) -> str:
    """The text for a conversation; a second question gets the answer to the first, given rightly."""
    asked = [message["content"] for message in messages if message["role"] == "user"]
    question = asked[-2] if asked[-1].startswith("That answer cannot be used") else asked[-1]
    system = messages[0]["content"]
    if question.rstrip().endswith("This feature is active on ..."):
        return explain(question)
    if "Write every line" in system:
        return "\n".join(f"{token}\t{level(question, token)}" for token in lines(question))
    if '"silent"' in system:
        return json.dumps(sparse(question))
    if '{"activations"' in system:
        return json.dumps({"activations": [{"t": token, "a": level(question, token)} for token in lines(question)]})
    texts = re.findall(r"^(?:Text|Token) \d+: (.*)$", question, re.MULTILINE)
    if "intruder" in system:
        return json.dumps({"intruder": 1 + digest(question) % len(texts)})
    return json.dumps({"answers": [int(any(word in text for word in quoted(question))) for text in texts]})


def explain(question: str) -> str:
    """The token with the largest activation, wherever it stands in the excerpts."""
    pairs = re.findall(r"^(.*)\t(\d+)$", question, re.MULTILINE)
    pairs += [(token, value) for token, value in re.findall(r"\('(.*?)': (\d+)\)", question)]
    strongest = max(pairs, key=lambda pair: (int(pair[1]), pair[0]), default=("nothing", "0"))[0]
    return f"the token '{strongest.strip()}' (seen {digest(question) % 1000} times)"


def sparse(question: str) -> dict[str, list[Any]]:
    """The tokens with a level above 0, by number, and the excerpts that have none."""
    active, silent = [], []
    for excerpt, shown in re.findall(r"^Excerpt (\d+):\n((?:\d+\t.*\n)+)", question, re.MULTILINE):
        levels = [[int(n), level(question, token)] for n, token in re.findall(r"(\d+)\t(.*)\n", shown)]
        active += [entry for entry in levels if entry[1]]
        silent += [] if any(value for _, value in levels) else [int(excerpt)]
    return {"active": active, "silent": silent}


def lines(question: str) -> list[str]:
    """The token lines of the last excerpt."""
    return question.rpartition("<start>\n")[2].partition("\n<end>")[0].split("\n")


def quoted(question: str) -> list[str]:
    """What the explanation names."""
    return QUOTED.findall(question.partition("\n")[0])


def level(question: str, token: str) -> int:
    """10 on what the explanation names, and a little noise that depends on the explanation elsewhere."""
    if token.strip() in quoted(question):
        return 10
    return digest(question.partition("\n")[0] + token) % 7 // 6


def digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
