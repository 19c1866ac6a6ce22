"""A judge's spec, read: `anthropic/MODEL`, `openai/MODEL`, `http://host:port/v1#MODEL`, `hf/NAME|DIR`. No SDK."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from sae.common.errors import UserError

ProviderName = Literal["anthropic", "openai", "compatible", "hf"]
FORMS = "anthropic/MODEL, openai/MODEL, http://host:port/v1#MODEL, hf/NAME|DIR, or rules (no language model)"


@dataclass(frozen=True)
class ModelSpec:
    """provider, the model's name there, and for compatible servers their base URL."""

    text: str
    provider: ProviderName
    model: str
    base_url: str | None = None

    @property
    def has_logprobs(self) -> bool:
        """Whether generated tokens come with log-probabilities as a matter of course."""
        return self.provider in ("openai", "hf")

    @property
    def may_have_logprobs(self) -> bool:
        """Whether generated tokens can come with log-probabilities."""
        return self.provider != "anthropic"

    @property
    def may_have_prompt_logprobs(self) -> bool:
        """Whether the log-probabilities of the prompt's tokens can be there."""
        return self.provider in ("hf", "compatible")

    @property
    def has_prompt_logprobs(self) -> bool:
        """Whether the prompt's own log-probabilities can be had as a matter of course."""
        return self.provider == "hf"

    @property
    def has_schema(self) -> bool:
        """Whether the provider can hold an answer to a JSON schema."""
        return self.provider in ("anthropic", "openai", "compatible")

    @property
    def has_batches(self) -> bool:
        return self.provider in ("anthropic", "openai")


def parse(text: str) -> ModelSpec:
    """Read a spec. Raises UserError if it has none of the forms, or holds a password."""
    head, _, model = text.partition("/")
    if head in ("anthropic", "openai", "hf") and model:
        return ModelSpec(text, head, model)  # type: ignore[arg-type]  # narrowed by the test above
    if text.startswith(("http://", "https://")):
        return _compatible(text)
    raise UserError(f"unknown judge {text!r}; write {FORMS}")


def refuse_temperature(judge: ModelSpec, temperature: float | None, field: str) -> None:
    """Raises UserError if a judge is given a temperature that its API does not take."""
    if judge.provider == "anthropic" and temperature is not None:
        raise UserError(f"{judge.text} takes no temperature; set {field}=null")


def forms() -> str:
    """List the forms of the specs of language models, for errors."""
    return FORMS.rsplit(", or", 1)[0]


def is_free(text: str) -> bool:
    """Return whether a name is the spec of a model in this process, whose calls cost nothing."""
    return text.startswith(("hf/", "embedding/"))


def is_spec(text: str) -> bool:
    """Whether a name is meant as a language model judge."""
    return text.startswith(("anthropic/", "openai/", "hf/", "http://", "https://"))


def _compatible(text: str) -> ModelSpec:
    url = urlsplit(text)
    if url.username or url.password:
        raise UserError("a judge's URL must not hold a password: it is written into results; set AUTOINTERP_API_KEY")
    if not url.hostname or not url.fragment:
        raise UserError(f"judge {text!r}: write http://host:port/v1#MODEL")
    return ModelSpec(text, "compatible", url.fragment, url._replace(fragment="").geturl().rstrip("/"))
