"""API keys and addresses: from the environment or a `.env` file here, to the SDK. Keys go nowhere else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from autointerp.llm.specs import ModelSpec
from sae.common.errors import UserError

VARIABLES = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY", "compatible": "AUTOINTERP_API_KEY"}
"""A compatible server gets its own variable: a key for one company is never sent to another's address."""
ADDRESSES = {
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
}
"""The SDKs' own variables, and where requests go without them."""
NO_KEY = "none"
"""Sent to compatible servers when no key is set: the SDK wants one, local servers ignore it."""


class Secret:
    """A key that does not show itself in a repr, a log or a traceback's locals."""

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def redact(self, text: str) -> str:
        """The text without the key: some servers echo it in their errors."""
        return text if self._value == NO_KEY else text.replace(self._value, "[key]")

    def __repr__(self) -> str:
        return "Secret()"


def find(spec: ModelSpec) -> Secret:
    """The key a judge needs. Raises UserError that names the variable if there is none."""
    variable = VARIABLES[spec.provider]
    value = os.environ.get(variable) or _dotenv().get(variable)
    if value and value.strip():
        return Secret(value.strip())
    if spec.provider == "compatible":
        return Secret(NO_KEY)
    raise UserError(f"{spec.text} needs a key: set {variable} in the environment or in a .env file here")


def address(spec: ModelSpec) -> str:
    """The base URL of a hosted judge. Raises UserError if it holds a password, as the spec's own would."""
    if spec.base_url:
        return spec.base_url
    variable, usual = ADDRESSES[spec.provider]
    url = (os.environ.get(variable) or usual).rstrip("/")
    if "@" in urlsplit(url).netloc:
        raise UserError(f"{variable} must not hold a password: it is written into the cache; use a URL without one")
    return url


def fingerprint(spec: ModelSpec) -> str:
    """Part of the cache's key: another address than the usual one may be another model."""
    if spec.provider == "compatible":
        return ""  # its address is in the spec
    return "" if address(spec) == ADDRESSES[spec.provider][1] else address(spec)


@contextmanager
def only_for(spec: ModelSpec) -> Iterator[None]:
    """While an SDK is made for a compatible server: OpenAI's SDK takes headers and the account from the environment."""
    strangers = [name for name in os.environ if name.startswith("OPENAI_")] if spec.provider == "compatible" else []
    hidden = {name: os.environ.pop(name) for name in strangers}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _dotenv() -> dict[str, str | None]:
    """The working directory's .env, if there is one; the process's environment is left as it is."""
    import dotenv

    path = Path.cwd() / ".env"
    return dict(dotenv.dotenv_values(path)) if path.is_file() else {}
