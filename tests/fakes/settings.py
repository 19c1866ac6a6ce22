"""What a test can set about the fake, checked when it is set."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

Fault = Literal[
    "429", "429-after", "500", "503", "529",
    "timeout", "drop", "half", "garbage", "slow",
    "refusal", "length", "shape",
]  # fmt: skip
BatchFault = Literal["errored", "expired", "invalid"]


@dataclass(frozen=True)
class Settings:
    key: str = "test-key"
    """The only API key that is let in."""
    echo_key: bool = False
    """Whether the error for a wrong key repeats that key whole, as no API should."""
    latency: float = 0
    """Seconds from a request to its reply."""
    seed: int = 0
    faults: Mapping[str, float] = field(default_factory=dict)
    """Probability by fault; at most one strikes a request."""
    max_faults_per_request: int | None = None
    """How often faults may strike the same body before it is spared."""
    faults_on: Literal["answers", "everything"] = "answers"
    """Whether faults also strike the calls about batches, files and models."""
    retry_after: float = 1
    """Retry-After of the fault 429-after."""
    hang: float = 3600
    """Seconds that the fault timeout stays silent before it hangs up."""
    credit: int | None = None
    """Completed answers until every POST fails for want of credit. Answers inside batches are not counted."""
    credit_style: Literal["400", "402"] = "400"
    """The status by which Anthropic's API says so."""
    models: list[str] | None = None
    """The models known; None knows any."""
    refuses: list[str] = field(default_factory=list)
    """Fields of a body that OpenAI's API calls unsupported, as it does with models that lack what they ask for."""
    max_in_flight: int | None = None
    """With more requests than this under way, the newest gets a 429 at once."""
    batch_seconds: float = 0
    """How long a batch is in progress, those that are under way included."""
    batch_faults: Mapping[str, float] = field(default_factory=dict)
    """Probability by kind of failure of an item in a batch."""
    prompt_cache: Literal["read", "write", "real"] = "read"
    """Cached prompt tokens count as read, as written, or as written once and read afterwards."""
    bos: str = ""
    """The text of the BOS token that the model's tokenizer puts before a prompt, which an echo then counts as well."""
    script: str = "tests.fakes.script"
    """Module with the answers, or module:function for another function than `answer`."""
    log: str | None = None
    """A JSONL file that gets a line for every call."""

    def __post_init__(self) -> None:
        _check_probabilities("faults", self.faults, get_args(Fault))
        _check_probabilities("batch_faults", self.batch_faults, get_args(BatchFault))
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is one of {', '.join(allowed)}, not {getattr(self, name)!r}")

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """These settings with some replaced. Raises ValueError for an unknown name or value."""
        unknown = set(changes) - {each.name for each in dataclasses.fields(self)}
        if unknown:
            raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
        return dataclasses.replace(self, **changes)


_CHOICES = {
    "faults_on": ("answers", "everything"),
    "credit_style": ("400", "402"),
    "prompt_cache": ("read", "write", "real"),
}


def _check_probabilities(setting: str, given: Mapping[str, float], known: tuple[str, ...]) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise ValueError(f"{setting} knows {', '.join(known)}, not {', '.join(sorted(unknown))}")
    if min(given.values(), default=0) < 0 or sum(given.values()) > 1 + 1e-9:
        raise ValueError(f"the probabilities of {setting} are negative or sum to more than 1")
