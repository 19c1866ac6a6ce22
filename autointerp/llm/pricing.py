"""Prices LLM calls from a dated list."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from autointerp.llm import specs
from autointerp.llm.types import EmbeddingRequest, Question, Request, Usage
from sae.common.errors import UserError
from sae.common.settings import Section, build
from sae.common.yaml_files import YamlError, parse

SHIPPED = Path(__file__).parent / "prices.yaml"
MESSAGE_OVERHEAD = 16
"""More tokens than any provider adds for a turn's frame."""
SCHEMA_OVERHEAD = 1000
"""More tokens than providers add to explain a schema of ours to the model."""


class LongPrompt(Section):
    """Holds what a long prompt's call costs, as factors of its model's prices."""

    above: int = Field(gt=0)
    """The most prompt tokens that cost the plain prices."""
    input: float = Field(ge=1)
    """Factor of what is read, from the provider's prompt cache or not, and of what is written there."""
    output: float = Field(ge=1)


class Price(Section):
    """Holds USD per million tokens. Without prices of their own, tokens of the provider's prompt cache cost `input`."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)
    long: LongPrompt | None = None

    def factors(self, tokens_in: int) -> tuple[float, float]:
        """Return what multiplies the prices of input and of output for a prompt of so many tokens."""
        return (self.long.input, self.long.output) if self.long and tokens_in > self.long.above else (1.0, 1.0)


FREE = Price(input=0, output=0)
"""The price of a model that runs in this process."""


class _PriceFile(Section):
    as_of: Any = None
    sources: tuple[str, ...] = ()
    batch_factor: float = Field(default=0.5, ge=0)
    models: dict[str, Price] = Field(default_factory=dict)


@dataclass(frozen=True)
class Prices:
    """Holds the price list, by model spec."""

    models: Mapping[str, Price]
    batch_factor: float
    as_of: str

    def __contains__(self, model: str) -> bool:
        return self._of(model) is not None

    @staticmethod
    def advice(model: str) -> str:
        """Say how a user gives a price."""
        return f"write {{models: {{'{model}': {{input: 1.0, output: 5.0}}}}}} to a file and --set runtime.prices=FILE"

    def cost(self, model: str, usage: Usage) -> float | None:
        """Return the USD for the tokens of one call's answer; None if the model's price is not known."""
        price = self._of(model)
        if price is None:
            return None
        read = price.input if price.cache_read is None else price.cache_read
        write = price.input if price.cache_write is None else price.cache_write
        plain = usage.tokens_in - usage.cache_read - usage.cache_write
        of_input, of_output = price.factors(usage.tokens_in)
        total = of_input * (plain * price.input + usage.cache_read * read + usage.cache_write * write)
        total += of_output * usage.tokens_out * price.output
        return total * (self.batch_factor if usage.batch else 1.0) / 1e6

    def with_cost(self, model: str, usage: Usage) -> Usage:
        """Return the usage with its cost."""
        return replace(usage, cost_usd=self.cost(model, usage))

    def bound(self, question: Question, batch: bool = False) -> float | None:
        """Return more than an answer can cost: no token is shorter than a byte, none comes after max_tokens."""
        price = self._of(question.model)
        if price is None or isinstance(question, EmbeddingRequest):
            return 0.0 if price else None
        dearest = max(price.input, price.cache_write or 0.0, price.cache_read or 0.0)
        tokens_in = most_tokens(question)
        of_input, of_output = price.factors(tokens_in)
        total = of_input * tokens_in * dearest + of_output * question.max_tokens * price.output
        return total * (self.batch_factor if batch else 1.0) / 1e6

    def _of(self, model: str) -> Price | None:
        return self.models.get(model) or (FREE if specs.is_free(model) else None)


def most_tokens(request: Request) -> int:
    """Return an upper bound of a prompt's tokens; the user's own fields of the body may be a part of it."""
    texts = [message.content for message in request.messages] + [request.schema or "", request.extra]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return size + MESSAGE_OVERHEAD * (len(request.messages) + 1) + (SCHEMA_OVERHEAD if request.schema else 0)


def load_prices(override: str | None = None) -> Prices:
    """Read the shipped list, with the user's entries (a file of the same layout) over it. Raises UserError."""
    shipped = _read(SHIPPED)
    if override is None:
        return Prices(shipped.models, shipped.batch_factor, str(shipped.as_of))
    own = _read(Path(override).expanduser())
    return Prices({**shipped.models, **own.models}, own.batch_factor, str(own.as_of or shipped.as_of))


def _read(path: Path) -> _PriceFile:
    try:
        values = parse(path.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, YamlError) as error:
        raise UserError(f"cannot read the prices {path}: {' '.join(str(error).split())}; see {SHIPPED}") from error
    return build(_PriceFile, values, {}, f"the prices {path} (see {SHIPPED})")
