"""Lists the grammar of the planted language: data only. How text is drawn from it is in `language`.

A domain has a share of the documents and sentence patterns. In a pattern, `$name` stands for a word of that category,
`¶` for a line break, everything else for itself. The words of a category become rarer by a constant factor from the
first to the last, so that tokens of every density occur. The domains are what features are often reported to be.
"""

from dataclasses import dataclass

FALL = 0.62
"""Probability of a category's word, divided by that of the word before it."""
LINE_BREAK = "¶"


@dataclass(frozen=True)
class Domain:
    """Holds a domain's weight among the documents, and its sentence patterns, separated by ` | `."""

    weight: float
    patterns: str


CATEGORIES = {
    # of several domains
    "determiner": "the a this every",
    "preposition": "of in to for with on",
    "joint": "and but or",
    "digit": "0 1 2 3 4 5 6 7 8 9",
    "adjective": "new old small great red quiet",
    # of one domain each
    "noun": "city river house king garden bridge winter letter island forest stone harbour candle anvil",
    "verb": "saw made found left built crossed kept lost painted",
    "keyword": "return if for_ while import class def yield lambda",
    "name": "self value index node cache path buffer token width",
    "operator": "= == += -> != ** //",
    "codon": "ATG GCC TTA CAG GGA TAC CCT AGT",
    "base64": "dGhl aXMg b2Yg YW5k Zm9y d2l0 ZXM9 bm93 cGF0",
    "hex": "0xff 0x3a 0x7e 0xb0 0x1c 0xd4 0x92 0x58",
    "arabic": "كتاب بيت مدينة ماء شمس قمر باب طريق",
    "arabic_joint": "في من على إلى",
    "hebrew": "ספר בית עיר מים שמש ירח דלת דרך",
    "hebrew_joint": "של את על אל",
    "japanese": "本 家 町 水 日 月 門 道 山",
    "particle": "の は を に が で",
    "month": "January March May July August October November December",
    "weekday": "Monday Tuesday Wednesday Friday Sunday",
    "year": "1999 2004 2012 1987 1945 2021",
    "command": "\\frac \\sum \\alpha \\int \\beta \\sqrt \\partial \\gamma",
    "symbol": "{ } ^ _ $ &",
    "party": "plaintiff defendant court appellant trustee witness tribunal",
    "duty": "shall hereby liable pursuant waive indemnify notwithstanding",
    "team": "Rovers United Lions Hawks Wanderers Falcons",
    "play": "scored beat drew tackled fouled substituted",
    "card": "card whistle penalty corner referee",
    "scheme": "https:// http:// ftp:// mailto:",
    "host": "example.org data.net mail.com archive.io wiki.dev",
    "page": "/index /login /search /files /about",
    "french": "maison rivière jardin lettre fenêtre chemin bougie pont",
    "french_small": "le la de et une dans",
    "german": "Haus Fluss Garten Brief Fenster Straße Kerze Brücke",
    "german_small": "der die und von das mit",
    "unit": "km kg percent litres volts metres",
    "figure": "17 3.5 42 1,000 0.25 88 640 12.7",
}
DOMAINS = {
    "english": Domain(
        20, "$determiner $noun $preposition $determiner $noun . ¶ | $determiner $adjective $noun $verb $determiner"
        " $noun $joint $verb $determiner $noun . ¶ | $noun , $noun $joint $noun $verb $preposition $noun . ¶",
    ),
    "python": Domain(
        14, "$keyword $name $operator $name ¶ | $name . $name ( $name , $name ) ¶ | $keyword $name ( $digit ) : ¶"
        " | $name $operator $digit ¶",
    ),
    "dna": Domain(8, "$codon $codon $codon $codon $codon $codon ¶"),
    "base64": Domain(6, "$base64 $base64 $base64 $base64 $base64 ¶"),
    "hex": Domain(5, "$hex $hex $hex $hex , $digit ¶ | $hex : $hex $hex ¶"),
    "arabic": Domain(5, "$arabic $arabic_joint $arabic $arabic . ¶ | $arabic_joint $arabic $arabic , $arabic ¶"),
    "hebrew": Domain(4, "$hebrew $hebrew_joint $hebrew $hebrew . ¶ | $hebrew_joint $hebrew , $hebrew ¶"),
    "japanese": Domain(4, "$japanese $particle $japanese $particle $japanese ¶ | $japanese $japanese $particle ¶"),
    "dates": Domain(6, "$weekday , $month $digit $digit , $year ¶ | $month $year : $digit $digit ¶"),
    "latex": Domain(6, "$symbol $command $symbol $digit $symbol $symbol ¶ | $command $symbol $digit $symbol ¶"),
    "legal": Domain(
        7, "$determiner $party $duty $preposition $determiner $party . ¶ | $duty $preposition $determiner $party ,"
        " $determiner $party $duty $joint $duty . ¶",
    ),
    "sports": Domain(
        8, "$team $play $team $digit - $digit . ¶ | $determiner $adjective $card $preposition $team . ¶"
        " | $determiner $card $joint $determiner $card : $team $play ¶",
    ),
    "urls": Domain(4, "$scheme $host $page ¶ | $scheme $host $page $page $digit ¶"),
    "french": Domain(5, "$french_small $french $french_small $french . ¶ | $french_small $french , $french ¶"),
    "german": Domain(4, "$german_small $german $german_small $german . ¶ | $german_small $german , $german ¶"),
    "numbers": Domain(5, "$figure $unit , $figure $unit ¶ | $figure $preposition $figure $unit . ¶ | $digit $figure ¶"),
}  # fmt: skip
