"""Prompts: every shipped one renders, labels follow their texts, and nobody is shown an activation he must predict."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from autointerp import config, explainers, scorers, sections, simulators
from autointerp.llm.ask import answered_by
from autointerp.llm.types import Answer, EmbeddingRequest, LLMTask, Question, Request, Vectors
from autointerp.prompting import numbered, parse, render, templates
from autointerp.prompting.templates import Prompt
from autointerp.records import ActivationRecord, Explanation, FeatureId, FeatureRecord, Source
from sae.common import resources
from sae.common.errors import UserError

NAMES = sorted(
    path.relative_to(resources.shipped_folder("prompts")).with_suffix("").as_posix()
    for path in resources.shipped_folder("prompts").rglob("*.yaml")
)
EXPLAINED = Explanation("the names of rivers", "p", "m")


def record(name: str, activations: Sequence[float], source: Source) -> ActivationRecord:
    words = tuple(f" {name}{index}" for index in range(len(activations)))
    return ActivationRecord(words, tuple(activations), 0, source)


def feature() -> FeatureRecord:
    explain = (record("seen", (0, 5, 0, 0), "top"), record("hushed", (0, 0, 0, 0), "inactive"))
    score = [record(f"asked{n}x", (0.0, 2.5, n + 1, 0), "top") for n in range(6)]
    score += [record(f"quiet{n}x", (0, 0, 0, 0), "inactive") for n in range(6)]
    return FeatureRecord(
        FeatureId("d", 3), explain, tuple(score), 0.1, 5.0, (0,) * 64, 1.0, 0.1, (" promoted", "\u2028")
    )


def asked(task: LLMTask[object]) -> list[Question]:
    """All that is asked if every answer is well-formed."""
    questions = []

    def answer(question: Question) -> Answer:
        questions.append(question)
        return Vectors(((1.0,),) * len(question.texts)) if isinstance(question, EmbeddingRequest) else question.example

    answered_by(task, answer)
    return questions


def text_of(questions: Sequence[Question]) -> str:
    """Everything in them that a judge sees."""
    lines: list[str] = []
    for question in questions:
        lines += question.texts if isinstance(question, EmbeddingRequest) else [m.content for m in question.messages]
    return "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_prompt_loads_and_is_known_by_the_hash_of_its_text(name: str) -> None:
    prompt = templates.load(name)
    text = (resources.shipped_folder("prompts") / f"{name}.yaml").read_text("utf-8")
    assert prompt.values == yaml.safe_load(text)
    assert prompt.full_text.startswith(text)
    assert prompt.label.startswith(f"{name}@")
    assert len({templates.load(other).label for other in NAMES}) == len(NAMES)


EXPLAINING = [
    {"style": style, "contrast": contrast, "logits": logits}
    for style, contrast, logits in itertools.product(("tokens", "highlighted"), (False, True), (False, True))
]


@pytest.mark.parametrize("settings", EXPLAINING, ids=lambda settings: "-".join(map(str, settings.values())))
def test_explaining_prompts_show_what_was_asked_for_and_no_score_record(settings: dict[str, object]) -> None:
    """Shown in full, for its few-shots too: with contrast the silent texts, with logits the promoted tokens."""
    judged = config.Config(simulator="openai/m", explanation=settings)
    explainer = explainers.make("openai/m", judged)
    (question,) = asked(explainer.explain(feature()))
    assert isinstance(question, Request)
    shots, text = text_of([replace(question, messages=question.messages[:-1])]), question.messages[-1].content
    assert "seen1" in text
    assert ("hushed" in text) is ("certainty" in shots) is settings["contrast"]
    assert ("promoted" in text) is ("tonight" in shots) is settings["logits"]
    assert ("<< seen1>>" in text) is ("<< sunset>>" in shots) is (settings["style"] == "highlighted")
    assert "{" not in text.replace("{}", "")
    other = replace(feature(), score=(record("else", (7, 7, 7), "top"),))
    assert asked(explainer.explain(other)) == [question]


JUDGED = (
    ("hf/m", "simulation", "auto"),
    ("openai/m", "simulation", "logprobs"),
    ("openai/m", "simulation", "text"),
    ("hf/m", "simulation", "text"),
    ("anthropic/m", "simulation", "auto"),
    ("openai/m", "detection", "auto"),
    ("openai/m", "embedding", "auto"),
)


@pytest.mark.parametrize(("judge", "name", "method"), JUDGED)
def test_no_judge_is_shown_activations_of_score_records(judge: str, name: str, method: str) -> None:
    """Two features with the same texts and other activations, active on other tokens, are asked about alike."""
    sampling = sections.Sampling(score=sections.ScoreRecords(top=6, inactive=6))
    settings = config.Config(simulator=judge, simulation={"method": method}, sampling=sampling)
    scorer = scorers.make(name, settings)
    one = feature()
    others = [replace(r, activations=tuple(reversed([3 * value for value in r.activations]))) for r in one.score]
    questions = asked(scorer.score(one, EXPLAINED))
    assert questions == asked(scorer.score(replace(one, score=tuple(others)), EXPLAINED))
    text = text_of(questions)
    assert EXPLAINED.text in text
    assert all(word.strip() in text for r in one.score if r.source == "top" for word in r.tokens)
    assert all(part not in text for part in ("seen", "promoted", "2.5", "<<"))


@pytest.mark.parametrize("name", ["fuzzing", "intruder", "example_embedding"])
def test_marks_say_where_and_not_how_strongly(name: str) -> None:
    sampling = sections.Sampling(
        explain=sections.Records(top=1, inactive=1), score=sections.ScoreRecords(top=6, inactive=6)
    )
    scorer = scorers.make(name, config.Config(simulator="openai/m", sampling=sampling))
    one = feature()
    louder = [replace(r, activations=tuple(3 * value for value in r.activations)) for r in one.score]
    questions = asked(scorer.score(one, EXPLAINED))
    assert questions == asked(scorer.score(replace(one, score=tuple(louder)), EXPLAINED))
    assert "asked0x1 asked0x2>>" in text_of(questions)
    assert (EXPLAINED.text in text_of(questions)) is (name == "fuzzing")


def own_prompts(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    monkeypatch.chdir(folder)
    (folder / "prompts").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "prompts" / f"{name}.yaml").write_text(text)
    templates.load.cache_clear()


def test_the_label_changes_with_the_text_and_with_its_few_shots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = []
    for system, shots in (("Say.", "features: []"), ("Say!", "features: []"), ("Say.", "features: [ ]")):
        own_prompts(tmp_path, monkeypatch, mine=f"few_shot: shots\nsystem: {system}", shots=shots)
        labels.append(templates.load("mine").label)
    own_prompts(tmp_path, monkeypatch, mine="few_shot: shots\nsystem: Say.", shots="features: []")
    assert templates.load("mine").label == labels[0]
    assert len(set(labels)) == 3


def test_a_text_moved_from_the_prompt_to_its_few_shots_is_another_prompt() -> None:
    assert Prompt("p", "ab", {}, "c").label != Prompt("p", "a", {}, "bc").label


def test_mistakes_in_a_prompt_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = Prompt(
        "mine", "", {"user": "{{ explanation }} {{ wrong }}", "loop": "{% for x in y %}", "if": "{% if z %}{% endif %}"}
    )
    for part, message in (("user", "wrong"), ("loop", "template"), ("if", "z"), ("absent", "absent")):
        with pytest.raises(UserError, match=message):
            prompt.render(part, explanation="birds")
    own_prompts(tmp_path, monkeypatch, broken="a: [", listed="- a", orphan="few_shot: nowhere")
    (tmp_path / "prompts" / "latin.yaml").write_bytes("a: é".encode("latin-1"))
    for name, message in (("broken", "not YAML"), ("listed", "mapping"), ("latin", "not YAML"), ("orphan", "nowhere")):
        with pytest.raises(UserError, match=message):
            templates.load(name)
    with pytest.raises(UserError, match="scorer/fuzzing"):
        templates.load("scorer/fuzing")


@pytest.mark.parametrize(
    ("tokens", "marked", "text"),
    [
        (("a <", "b", "> c"), (1,), "a \\x3c<<b>>> c"),
        (("a <<", "b", " c"), (1,), "a \\<<<<b>> c"),
        (("a", "b >", "> c"), (1,), "a<<b \\x3e>>> c"),
        (("a", "b >>", " c"), (1,), "a<<b \\>>>> c"),
        ((" a", " b", " c"), (1, 2), "a<< b c>>"),
        ((" a", "\n", " c"), (0, 2), "<< a>>\\n<< c>>"),
    ],
)
def test_where_a_mark_begins_is_clear_whatever_signs_are_beside_it(
    tokens: tuple[str, ...], marked: tuple[int, ...], text: str
) -> None:
    assert render.marked(tokens, marked) == text


def test_templates_are_filled_in_literally() -> None:
    """Nothing is escaped, filled-in text is no template, and a final line break is its author's choice."""
    prompt = Prompt("mine", "", {"a": "<{{ x }}>\n", "b": "<{{ x }}>"})
    assert prompt.render("a", x="&<{{ x }}") == "<&<{{ x }}>\n"
    assert prompt.render("b", x="&") == "<&>"


def test_a_conversation_is_static_but_for_its_last_turn() -> None:
    prompt = Prompt("p", "", {"system": "At most {{ n }}.", "user": "{{ text }}?", "assistant": "{{ reply }}!"})
    turns = prompt.conversation([({"text": "a"}, {"reply": "b"})], {"text": "c", "n": 5})
    assert [(turn.role, turn.content) for turn in turns] == [
        ("system", "At most 5."), ("user", "a?"), ("assistant", "b!"), ("user", "c?"),
    ]  # fmt: skip


def test_the_few_shots_answers_are_readable_by_the_parsers_they_teach() -> None:
    from autointerp.simulators.generated import GeneratedSimulator

    (shot, *_), explanation = render.shots(templates.load("simulator/lines").few_shot), EXPLAINED
    for spec, settings, structured in (
        ("openai/m", {"method": "logprobs"}, False),
        ("hf/m", {"method": "text", "format": "lines"}, False),
        ("openai/m", {"method": "text", "format": "json"}, True),
    ):
        simulator = GeneratedSimulator(spec, config.Config(simulator=spec, simulation=settings))
        (question,) = asked(simulator.simulate(explanation, [(" a",)]))
        assert isinstance(question, Request)
        for index, shown in ((2, shot.active[0]), (8, shot.silent[0])):
            taught, tokens = question.messages[index].content, shown.tokens
            numbers = (
                parse.token_json(taught, tokens)
                if structured
                else [number.value for number in parse.token_lines(taught, tokens)]
            )
            assert tuple(numbers) == shown.activations


def test_the_few_shots_of_numbered_answers_are_readable_too() -> None:
    """All of a feature's excerpts in one question, a silent one among them."""
    simulator = simulators.make(config.Config(simulator="anthropic/m"))
    (question,) = asked(simulator.simulate(EXPLAINED, [(" a",)]))
    assert isinstance(question, Request)
    features = render.shots(templates.load("simulator/numbered").few_shot)
    assert len(question.messages) == 2 + 2 * len(features)
    for number, shot in enumerate(features):
        records = [*shot.active, shot.silent[0]]
        taught = numbered.read(
            question.messages[2 + 2 * number].content, numbered.excerpts([r.tokens for r in records])
        )
        assert taught == [r.activations for r in records]


@pytest.mark.parametrize("name", ["detection", "fuzzing"])
def test_examples_of_judgements_are_written_as_texts_are(name: str) -> None:
    """Their texts have the few-shot features' words, and the answers are readable and of both kinds."""
    sampling = sections.Sampling(score=sections.ScoreRecords(top=6, inactive=6))
    scorer = scorers.make(name, config.Config(judge="openai/m", sampling=sampling))
    shown = shots_of(asked(scorer.score(feature(), EXPLAINED))[0])
    for text, answer in shown:
        texts = re.findall(r"^Text \d+: (.*)$", text, re.MULTILINE)
        answers = [number.value for number in parse.choices(answer, len(texts))]
        assert set(answers) == {0, 1}
        assert all(("<<" in line and ">>" in line) is (name == "fuzzing") for line in texts)
    assert "\\n" in "".join(text for text, _ in shown)


def test_examples_of_intruders_are_readable() -> None:
    sampling = sections.Sampling(score=sections.ScoreRecords(top=6, inactive=6))
    scorer = scorers.make("intruder", config.Config(judge="openai/m", sampling=sampling))
    shown = shots_of(asked(scorer.score(feature(), EXPLAINED))[0])
    assert len(shown) == 2
    for text, answer in shown:
        texts = re.findall(r"^Text \d+: .*<<.*$", text, re.MULTILINE)
        assert 0 <= parse.one_of(answer, len(texts)) < len(texts)


def shots_of(question: Question) -> list[tuple[str, str]]:
    """The questions and answers before the question itself."""
    assert isinstance(question, Request)
    turns = [message.content for message in question.messages[1:-1]]
    assert question.static == len(question.messages) - 1
    return list(zip(turns[::2], turns[1::2], strict=True))
