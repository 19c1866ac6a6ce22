"""A judge that knows the rules' language, a script for tests.fakes: it reads prompts as they are sent.

Nothing here comes from the project: prompts, escapes, marks and rules are read, and rules applied and learnt, by this
file's own code, token by token. Prompts for detection, fuzzing and intruder show text, not tokens: how text falls into
tokens is read from RULES_JUDGE_TOKENS, a JSON file with lists of tokens, as a model knows its own tokenizer.
"""

import ast
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(.))")
NAMED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "<": "<", ">": ">"}
QUOTED = r'"(?:[^"\\]|\\.)*"'
PHRASE = re.compile(
    rf"(?:any token (?P<how>right|up to 8 tokens) after (?P<before>{QUOTED})|the token (?P<token>{QUOTED})"
    rf"(?: right after (?P<first>{QUOTED}))?) \((?P<strength>\d+\.\d)\)"
)
NEVER = -9999.0
Tokens = tuple[str, ...]


class Rule(NamedTuple):
    kind: str
    key: Tokens
    strength: float

    def holds(self, tokens: Sequence[str], at: int) -> bool:
        if self.kind == "pair":
            return at > 0 and self.key == (tokens[at - 1], tokens[at])
        reach = {
            "token": tokens[at : at + 1],
            "after": tokens[max(0, at - 1) : at],
            "near": tokens[max(0, at - 8) : at],
        }
        return self.key[0] in reach[self.kind]


def answer(messages: list[dict[str, str]], body: dict[str, Any]) -> str:
    """Answer in the form that the system's message asks for."""
    system, question = messages[0]["content"], messages[-1]["content"]
    if len(messages) == 1:
        return "."  # a plain prompt, of which only the log-probabilities matter
    if '"intruder"' in system:
        return json.dumps({"intruder": 1 + intruder([read_marked(text) for text in texts_of(question, "Text")])})
    if '"answers"' in system:
        return json.dumps({"answers": [int(yes) for yes, _ in judged(system, question)]})
    if '"silent"' in system:
        return numbered(question)
    tokens = shown(question)
    values = [whole(value) for value in predicted(rules_in(question), tuple(map(unescaped, tokens)))]
    if '"activations"' in system:
        return json.dumps({"activations": [{"t": t, "a": v} for t, v in zip(tokens, values, strict=True)]})
    return "\n".join(f"{token}\t{value}" for token, value in zip(tokens, values, strict=True))


def top_logprobs(messages: list[dict[str, str]], text: str, start: int, token: str) -> dict[str, float]:
    """Log-probabilities whose expected value is the unrounded prediction, or the probability of a yes."""
    system, question = messages[0]["content"], messages[-1]["content"]
    index = position_of(text, '"answers"' in system).get(start)
    if index is None:
        return {token: 0.0}
    if '"answers"' in system:
        p = judged(system, question)[index][1]
        return {"1": log(p), "0": log(1 - p)}
    return around(all_predicted(question)[index])


@cache
def position_of(text: str, is_json: bool) -> dict[int, int]:
    """The ordinal of each number in an answer, by its offset."""
    if is_json:
        inside = text.index("[")
        return {inside + match.start(): i for i, match in enumerate(re.finditer(r"[01]", text[inside:]))}
    return {match.start(1): i for i, match in enumerate(re.finditer(r"\t(\d+)(?=\n|$)", text))}


def prompt_logprobs(prompt: str, offset: int, token: str) -> dict[str, float]:
    """The same at the placeholders of the last excerpt."""
    slots = last_slots(prompt)
    return around(all_predicted(prompt)[slots[offset]]) if offset in slots else {token: 0.0}


@cache
def last_slots(prompt: str) -> dict[int, int]:
    """The ordinal of each placeholder of the last excerpt, by its offset."""
    start = excerpt_start(prompt)
    return {start + m.start(1): i for i, m in enumerate(re.finditer(r"\t(unknown)(?=\n)", prompt[start:]))}


@cache
def all_predicted(question: str) -> tuple[float, ...]:
    tokens = [re.sub(r"\tunknown$", "", line) for line in shown(question)]
    return tuple(predicted(rules_in(question), tuple(map(unescaped, tokens))))


def around(value: float) -> dict[str, float]:
    """The two whole numbers whose mean, so weighted, the value is."""
    low = math.floor(value)
    return {str(low): log(low + 1 - value)} | ({str(low + 1): log(value - low)} if value > low else {})


def log(p: float) -> float:
    return math.log(p) if p > 0 else NEVER


def whole(value: float) -> int:
    return math.floor(value + 0.5)


def shown(question: str) -> list[str]:
    """The lines of the last excerpt, as they are written."""
    return question[excerpt_start(question) : question.rindex("\n<end>")].split("\n")


def excerpt_start(question: str) -> int:
    """Where the excerpt after the last explanation begins. A line of its own may be a <start>, too."""
    return question.index("\n<start>\n", question.rindex("This feature is active on ")) + len("\n<start>\n")


def numbered(question: str) -> str:
    rules, active, silent = rules_in(question), [], []
    for excerpt, lines in re.findall(r"^Excerpt (\d+):\n((?:\d+\t.*\n)+)", question, re.MULTILINE):
        pairs = [line.split("\t", 1) for line in lines.split("\n")[:-1]]
        values = predicted(rules, tuple(unescaped(token) for _, token in pairs))
        entries = [[int(n), whole(v)] for (n, _), v in zip(pairs, values, strict=True) if whole(v)]
        active += entries
        silent += [] if entries else [int(excerpt)]
    return json.dumps({"active": active, "silent": silent})


@cache
def rules_in(question: str) -> tuple[Rule, ...]:
    """The rules of the explanation after the last "This feature is active on"."""
    sentence = re.findall(r"^This feature is active on (.*)$", question, re.MULTILINE)[-1]
    if sentence == "Active on nothing that a rule could name.":
        return ()
    assert sentence.startswith("Active on "), sentence
    assert sentence.endswith("."), sentence
    rules, rest = [], sentence[len("Active on ") : -1]
    while rest:
        match = PHRASE.match(rest)
        assert match, rest
        rules.append(rule_of(match))
        rest = rest[match.end() :].removeprefix("; ")
    return tuple(rules)


def rule_of(match: re.Match[str]) -> Rule:
    strength = float(match["strength"])
    if match["before"]:
        return Rule("after" if match["how"] == "right" else "near", (json.loads(match["before"]),), strength)
    if match["first"]:
        return Rule("pair", (json.loads(match["first"]), json.loads(match["token"])), strength)
    return Rule("token", (json.loads(match["token"]),), strength)


def predicted(rules: Iterable[Rule], tokens: Sequence[str]) -> list[float]:
    listed = list(rules)
    return [max((r.strength for r in listed if r.holds(tokens, at)), default=0.0) for at in range(len(tokens))]


@cache
def judged(system: str, question: str) -> list[tuple[bool, float]]:
    """Whether each item gets a yes, and how likely that is, as the README says of the judge `rules`."""
    rules = rules_in(question)
    if tokens := texts_of(question, "Token"):
        strength = [max((r.strength for r in rules if ast.literal_eval(t) in r.key), default=None) for t in tokens]
        return [(s is not None, (s or 0.0) / 10) for s in strength]
    texts = texts_of(question, "Text")
    if "<<like this>>" in system:
        items = [read_marked(text) for text in texts]
        shares = [on_marks(predicted(rules, tokens), marks) for tokens, marks in items]
        return [(share > 0.5, share) for share in shares]
    strongest = max((rule.strength for rule in rules), default=0.0)
    plain = [known_texts()[unescaped(text).strip(" ")] for text in texts]
    shares = [max(predicted(rules, tokens)) / strongest if strongest else 0.0 for tokens in plain]
    return [(share >= 0.5, share) for share in shares]


def on_marks(values: Sequence[float], marks: set[int]) -> float:
    sides = [[value for at, value in enumerate(values) if (at in marks) is on] for on in (True, False)]
    mean_on, mean_off = (math.fsum(side) / len(side) if side else 0.0 for side in sides)
    return mean_on / (mean_on + mean_off) if mean_on else 0.0


def texts_of(question: str, what: str) -> list[str]:
    return re.findall(rf"^{what} \d+: (.*)$", question, re.MULTILINE)


def unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1] or match[2] or match[3]
        return chr(int(code, 16)) if code else NAMED[match[4]]

    return ESCAPE.sub(character, text)


def read_marked(text: str) -> tuple[Tokens, set[int]]:
    """The tokens of a text, and which of them are within marks."""
    plain, inside, is_inside = "", list[bool](), False
    for piece in re.findall(r"\\<<|\\>>|\\x..|\\u.{4}|\\U.{8}|\\.|<<|>>|.", text):
        if piece in ("<<", ">>"):
            assert is_inside == (piece == ">>"), text
            is_inside = not is_inside
            continue
        characters = piece[1:] if piece in ("\\<<", "\\>>") else unescaped(piece)
        plain += characters
        inside += [is_inside] * len(characters)
    assert not is_inside, text
    return in_tokens(plain, inside)


def in_tokens(plain: str, inside: list[bool]) -> tuple[Tokens, set[int]]:
    """Lay the tokens over the text. Spaces at its ends are not shown, so that they may be missing there."""
    tokens = known_texts()[plain.strip(" ")]
    whole_text = "".join(tokens)
    start = whole_text.index(plain)
    spread = [False] * start + inside + [False] * (len(whole_text) - start - len(plain))
    marks, offset = set(), 0
    for at, token in enumerate(tokens):
        own = spread[offset : offset + len(token)]
        if any(own):
            marks.add(at)
        offset += len(token)
    return tokens, marks


@cache
def known_texts() -> dict[str, Tokens]:
    listed = json.loads(Path(os.environ["RULES_JUDGE_TOKENS"]).read_text("utf-8"))
    return {"".join(tokens).strip(" "): tuple(tokens) for tokens in listed}


def intruder(items: Sequence[tuple[Tokens, set[int]]]) -> int:
    """The text whose marks the rules learnt from the others fit least, the first of equals."""
    fits = []
    for index, (tokens, marks) in enumerate(items):
        others = [item for number, item in enumerate(items) if number != index]
        fits.append(on_marks(predicted(learnt(others), tokens), marks))
    return fits.index(min(fits))


def learnt(items: Sequence[tuple[Tokens, set[int]]]) -> list[Rule]:
    """Take the rule that most lowers the squared error of predicting 10 on marks and 0 elsewhere, again and again."""
    where: dict[tuple[int, Tokens], set[tuple[int, int]]] = {}
    for number, (tokens, _) in enumerate(items):
        for at, token in enumerate(tokens):
            before = tokens[max(0, at - 8) : at]
            keys = [(0, (token,))] + ([(1, (before[-1], token)), (2, (before[-1],))] if at else [])
            for key in keys + [(3, (each,)) for each in before]:
                where.setdefault(key, set()).add((number, at))
    target = {(n, at): 10 * (at in marks) for n, (tokens, marks) in enumerate(items) for at in range(len(tokens))}
    names = list(dict.fromkeys(token for tokens, _ in items for token in tokens))
    order = {name: number for number, name in enumerate(names)}
    ranked = sorted(where, key=lambda key: (key[0], [order[token] for token in key[1]]))
    strength = {key: sum(target[place] for place in where[key]) / len(where[key]) for key in ranked}
    ranked = [key for key in ranked if strength[key] >= 0.05]
    return greedy(ranked, {key: round(10 * strength[key]) / 10 for key in ranked}, where, target)


def greedy(ranked: list[Any], strength: dict[Any, float], where: dict[Any, Any], target: dict[Any, int]) -> list[Rule]:
    now: dict[Any, float] = dict.fromkeys(target, 0.0)
    least = max(1e-9, 1e-3 * sum(value**2 for value in target.values()))

    def gain(key: Any) -> float:
        s = strength[key]
        return sum((target[p] - now[p]) ** 2 - (target[p] - s) ** 2 for p in where[key] if s > now[p])

    ranked, rules = [key for key in ranked if gain(key) > least], []
    while ranked:
        gains = [round(gain(key), 9) for key in ranked]
        best = gains.index(max(gains))
        if gains[best] <= least:
            break
        key = ranked[best]
        rules.append(Rule(("token", "pair", "after", "near")[key[0]], key[1], strength[key]))
        now |= {place: max(now[place], strength[key]) for place in where[key]}
    return rules
