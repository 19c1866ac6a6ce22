"""Lists concepts that a regular expression tells in any text, and marks their tokens.

Shape suffixes: M blocks, L tokens of a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from autointerp.population import PopulationText
from autointerp.studies.proxies import Mask

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
RULES = {
    "numbers": r"\d+",
    "hexadecimal": r"0[xX][0-9a-fA-F]+|\\x[0-9a-fA-F]{2}",
    "capitals": r"\b[A-Z][A-Z0-9_]{2,}\b",
    "CamelCase": r"\b[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+\b",
    "dunder names": r"__\w+?__",
    "indentation": r"(?<=\n)[ \t]+",
    "comments": r"#[^\n]*",
    "quoted words": r"(?<!['\"\w])(['\"])(?!\1)[^'\"\n]*\1",
    "imports": r"(?<=\n)(?:from|import) [^\n]*",
    "errors": r"\b\w*(?:Error|Exception|Warning)\b",
    "decorators": r"(?<=\n)[ \t]*@\w[\w.]*",
    "licence": r"(?i)\b(?:copyright|licen[cs]e[ds]?|warrant(?:y|ies)|permission is)\b[^\n]*",
    "web addresses": r"https?://[^\s'\"<>]+",
    "dates": rf"\b\d{{4}}-\d\d(?:-\d\d)?\b|\b(?:{MONTHS})\b|\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b",
    "base64": r"(?<![A-Za-z0-9+/])(?=[A-Za-z+/]*[0-9])(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9+/]{20,}={0,2}",
    "DNA": r"\b[ACGT]{8,}\b",
    "LaTeX": r"\\(?:frac|begin|end|alpha|beta|sum|mathbb|left|right|cite|ref)\b",
    "Greek": r"[\u0370-\u03ff]+",
    "Cyrillic": r"[\u0400-\u04ff]+",
    "Hebrew": r"[\u0590-\u05ff]+",
    "Arabic": r"[\u0600-\u06ff]+",
    "Chinese and Japanese": r"[\u3040-\u30ff\u4e00-\u9fff]+",
    "Hangul": r"[\uac00-\ud7af]+",
}
"""Rules in the order of the report; what a text lacks is left out there."""


def marked(text: PopulationText, rules: Mapping[str, str] = RULES) -> dict[str, Mask]:
    """Mark, for each rule, the tokens at least half of whose characters lie in its matches, [M, L]."""
    compiled = {name: re.compile(rule) for name, rule in rules.items()}
    masks = {name: np.zeros(text.ids_ML.shape, np.bool_) for name in rules}
    for block in range(len(text.ids_ML)):
        tokens = text.tokens(block)
        ends_L = np.cumsum([len(token) for token in tokens])
        starts_L, whole = ends_L - [len(token) for token in tokens], "".join(tokens)
        for name, rule in compiled.items():
            covered = np.zeros(len(whole) + 1, np.int64)
            for match in rule.finditer(whole):
                covered[match.start() + 1 : match.end() + 1] = 1
            if covered.any():
                inside_L = covered.cumsum()[ends_L] - covered.cumsum()[starts_L]
                masks[name][block] = (inside_L > 0) & (2 * inside_L >= ends_L - starts_L)
    return masks
