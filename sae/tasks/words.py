"""Lists the words of the grammar: names, templates of sentences, fixed sequences, and words of several scripts.

The templates of indirect objects follow the forms of Wang et al. (2022, arXiv 2211.00593): two people meet, and one of
them gives something to the other.
"""

FEMALE = (
    "Mary", "Anna", "Laura", "Emma", "Julia", "Sarah", "Alice", "Helen", "Grace", "Diana", "Clara", "Sophie", "Lucy",
    "Jane", "Ruth", "Rachel", "Karen", "Linda", "Susan", "Nancy", "Betty", "Carol", "Donna", "Emily", "Amanda",
    "Melissa", "Rebecca", "Kate", "Amy", "Maria",
)  # fmt: skip
MALE = (
    "John", "Peter", "Paul", "Mark", "David", "James", "Robert", "Michael", "William", "Richard", "Thomas", "Charles",
    "Daniel", "Matthew", "Anthony", "Steven", "Andrew", "Joshua", "Kevin", "Brian", "George", "Edward", "Jason",
    "Ryan", "Jacob", "Eric", "Scott", "Adam", "Henry", "Frank",
)  # fmt: skip

OPENERS = (
    "Then", "Yesterday", "After lunch", "In the morning", "One day", "As always", "Last week", "On Sunday",
    "While it rained", "Before the holiday",
)  # fmt: skip
MEETINGS = (
    "{a} and {b} went to the {place}",
    "{a} and {b} met at the {place}",
    "{a} and {b} were working at the {place}",
    "{a} and {b} had a long talk at the {place}",
    "{a} and {b} had fun at the {place}",
    "friends of {a} and {b} came to the {place}",
    "the {place} was full when {a} and {b} came",
    "at the {place} we saw {a} and {b}",
)
"""What two people did; each order of the names is drawn."""
GIVINGS = (
    "{s} gave a {thing} to {o}",
    "{s} handed the {thing} to {o}",
    "{s} wanted to give a {thing} to {o}",
    "{s} decided to show the {thing} to {o}",
    "{s} brought a {thing} to {o}",
    "{s} sold an old {thing} to {o}",
    "{s} passed the {thing} back to {o}",
    "{s} said hello and offered a {thing} to {o}",
)
"""How one of them, {s}, gave something to the other, {o}."""
THANKS = ("{o} thanked {s}", "{o} gave it back to {s}", "{o} smiled at {s}", "{o} paid {s}")
"""What the other one did then; text has it after a giving, so that each sentence names the other person twice."""
PLACES = ("store", "school", "garden", "station", "hospital", "office", "market", "library")
THINGS = ("drink", "book", "ring", "flower", "letter", "basket", "computer", "ticket")

PRONOUNS = (("she", "her", "herself"), ("he", "his", "himself"))
"""Subject, possessive and reflexive; of FEMALE names, then of MALE ones."""
ACTIONS = (
    "{n} went home because {subject} was tired",
    "{n} stayed at the {place} because {subject} was late",
    "{n} laughed when {subject} saw the {thing}",
    "{n} said that {subject} liked the {place}",
    "{n} left the {place} before {subject} lost the {thing}",
    "{n} looked for {possessive} {thing} at the {place}",
    "{n} sold the {thing} after {subject} came home",
    "{n} bought the {thing} for {reflexive}",
)
"""What a person of name {n} did, with one pronoun that the name decides."""

PERMISSION = (
    "Permission is hereby granted , free of charge , to any person obtaining a copy of this software and associated "
    "documentation files , to deal in the software without restriction"
)
WARRANTY = (
    "The software is provided as is , without warranty of any kind , express or implied , including but not limited "
    "to fitness for a particular purpose"
)
NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
MONTHS = "January February March April May June July August September October November December"
LETTERS = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau"
SEQUENCES = {
    "permission": PERMISSION, "warranty": WARRANTY, "numbers": NUMBERS, "months": MONTHS, "letters": LETTERS,
}  # fmt: skip
"""Sequences that always go on in the same way; the first two are sentences of the MIT licence."""

SCRIPTS = {
    "Greek": "και το είναι με για από δεν μια στην πόλη νερό φως",  # noqa: RUF001
    "Cyrillic": "и в на что он не как дом вода день город слово",
    "Hebrew": "של את על זה לא עם בית מים יום עיר אור דבר",
    "Arabic": "من في على هذا لا مع بيت ماء يوم مدينة نور كلمة",
    "Han": "的 是 在 有 人 我 水 山 日 月 大 小",
    "Hangul": "그 이 는 을 에 집 물 날 도시 빛 말 사람",
    "Georgian": "და არის რომ ეს არა სახლი წყალი დღე ქალაქი სიტყვა ღამე გზა",
}
"""Twelve words of each of several scripts, drawn at random in sentences of one script."""
