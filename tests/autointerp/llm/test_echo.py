"""Tokens of an echoed prompt are aligned with the prompt as it was sent, whatever a server's offsets count."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from autointerp.llm.providers.openai.echo import slot_logprobs, token_texts
from autointerp.llm.types import Message, Request
from tests.autointerp.llm.test_providers import ask
from tests.fakes import FakeApis, script

PROMPT = "The cat\tunknown\n日本 é\tunknown\n  x\tunknown\n"
SLOTS = tuple(index for index in range(len(PROMPT)) if PROMPT.startswith("unknown", index))


def read(tokens: list[str], prompt: str = PROMPT, slots: tuple[int, ...] = SLOTS) -> list[float]:
    """What is read at the slots, where every token's log-probability is its index."""
    tops = [None, *({"0": float(-index)} for index in range(1, len(tokens)))]
    return [-top["0"] for top in slot_logprobs(prompt, slots, {"tokens": tokens, "top_logprobs": tops})]


FIRST, SECOND = ["The", " cat", "\t", "unknown", "\n"], ["日", "本", " é", "\t", "unk", "nown", "\n"]
THIRD = ["  x", "\t", "unknown", "\n"]
EXACT = [*FIRST, *SECOND, *THIRD]
CASES = {
    "as they stand": EXACT,
    "BOS": ["<|begin_of_text|>", *EXACT],
    "two tokens before the prompt": ["<bos>", "<start>", *EXACT],
    "BOS that is written as nothing": ["", *EXACT],
    "spaces that a token alone lacks": [
        "<s>",
        "The",
        "cat",
        *FIRST[2:],
        "日",
        "本",
        "é",
        *SECOND[3:],
        "",
        "x",
        *THIRD[1:],
    ],
    "parts of characters": [*FIRST, "\ufffd", "\ufffd", "\ufffd", "本", " \ufffd", "\ufffd", *SECOND[3:], *THIRD],
    "parts of characters as nothing": [*FIRST, "", "", "日", "", "本", " é", *SECOND[3:], *THIRD],
    "and what the model wrote": [*EXACT, "unknown"],
}


@pytest.mark.parametrize("case", CASES)
def test_slots_are_where_the_placeholders_tokens_are(case: str) -> None:
    tokens = CASES[case]
    assert read(tokens) == [index for index, token in enumerate(tokens) if token.startswith("unk")][:3]


WRONG = {
    "another text": ["The", " dog", *EXACT[2:]],
    "a token too many": [*FIRST[:4], "unknown", *EXACT[4:]],
    "a token missing": [*FIRST, *SECOND[1:], *THIRD],
    "the placeholder joined with the tab": ["The", " cat", "\tunknown", *EXACT[4:]],
    "cut off": [*FIRST, *SECOND],
    "nothing of the prompt": ["<s>"],
}


@pytest.mark.parametrize("case", WRONG)
def test_tokens_that_are_not_the_prompts_are_refused(case: str) -> None:
    with pytest.raises(LookupError, match=r"offset \d+"):
        read(WRONG[case])


def test_a_ten_in_two_tokens_is_refused() -> None:
    """The log-probabilities at one position cannot tell it from 1."""
    whole = ["cat", "\t", "10", "\n", "x", "\t", "unknown"]
    prompt = "".join(whole)
    assert read(whole, prompt, (9,)) == [6]
    with pytest.raises(LookupError, match="10 as two tokens"):
        read([*whole[:2], "1", "0", *whole[3:]], prompt, (9,))


def llama_2() -> Tokenizer:
    """A tokenizer of its kind: a space before the text, bytes for what it has no token for, BOS."""
    pieces = ["<unk>", "<s>", "▁", *sorted(set("Theca\nunkowx")), *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(
        models.BPE({piece: n for n, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def test_a_real_tokenizer_whose_tokens_are_decoded_one_by_one() -> None:
    """As vLLM does it: bytes of a character become U+FFFD, and a token's space is lost."""
    tokenizer = llama_2()
    encoded = tokenizer.encode(PROMPT)
    tokens = ["<s>", *(tokenizer.decode([token], skip_special_tokens=False) for token in encoded.ids)]
    assert "".join(tokens[1:]) != PROMPT, "else this would be no test"
    starts = {start: index for index, (start, _) in reversed(list(enumerate(encoded.offsets, 1)))}
    assert read(tokens) == [starts[slot] for slot in SLOTS]


@pytest.mark.parametrize("bos", ["", "<s>", "<|begin_of_text|>"])
def test_slots_of_a_server_whose_tokenizer_has_a_bos_token(bos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOINTERP_API_KEY", "test-key")
    with FakeApis(bos=bos) as fake:
        request = Request(f"{fake.openai_url}#m", (Message("user", PROMPT),), 1, top_logprobs=11, slots=SLOTS)
        completion = ask(request)
    for slot, result in zip(SLOTS, completion.slots, strict=True):
        numbers = script.prompt_logprobs(PROMPT, slot, "unknown")
        assert {token: result[token] for token in numbers} == numbers


ANSWER = "a \U0001f60a\t5\n\u65e5\t0\n"
PIECES = [b"a", b" \xf0\x9f", b"\x98", b"\x8a", b"\t", b"5", b"\n\xe6", b"\x97\xa5", b"\t", b"0", b"\n"]
"""Its tokens: an emoji and a kanji are in several, one with a space before it, one with a line break."""


def escaped(piece: bytes) -> str:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in piece)


SERVERS = {
    "OpenAI, DeepSeek": [{"token": escaped(piece), "bytes": list(piece)} for piece in PIECES],
    "vLLM, Ollama": [{"token": piece.decode("utf-8", "replace"), "bytes": [239, 191, 189]} for piece in PIECES],
    "no bytes": [{"token": piece.decode("utf-8", "replace")} for piece in PIECES],
    "nothing for a piece": [{"token": "" if escaped(piece)[-3:-2] == "x" else piece.decode()} for piece in PIECES],
}


@pytest.mark.parametrize("server", SERVERS)
def test_pieces_of_characters_in_an_answer_add_up_to_its_text(server: str) -> None:
    """So that the numbers beside them are read, and not refused because the tokens are not the text."""
    texts = token_texts(ANSWER, SERVERS[server])
    assert "".join(texts) == ANSWER
    assert [texts[index] for index in (0, 4, 5, 8, 9, 10)] == ["a", "\t", "5", "\t", "0", "\n"]


@pytest.mark.parametrize("tokens", [[], ["b"], ["a ", "\ufffd", "x"], ["a", "5"], ["c", " 5"]])
def test_tokens_of_another_text_stay_as_they_are(tokens: list[str]) -> None:
    content = [{"token": token, "bytes": None} for token in tokens]
    for text in ("", "c 5\n"):
        assert token_texts(text, content) == tokens
