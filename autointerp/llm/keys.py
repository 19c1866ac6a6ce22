"""Takes API keys and addresses from the environment or a `.env` file here to the SDK. Keys go nowhere else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from autointerp.llm.providers import PROVIDERS, ProviderType
from autointerp.llm.specs import ModelSpec
from sae.common.errors import UserError

NO_KEY = "none"
"""Sent to servers that need no key when none is set: the SDK wants one, local servers ignore it."""


def find(spec: ModelSpec) -> SecretStr:
    """Read the key that a model's provider needs. Raises UserError that names the variable if there is none."""
    provider = PROVIDERS.get(spec.provider)
    variable = provider.key_variable
    value = (os.environ.get(variable) or _dotenv().get(variable) or "").strip() if variable else ""
    if not value and variable and provider.is_key_required:
        raise UserError(f"{spec.text} needs a key: set {variable} in the environment or in a .env file here")
    if not all(" " <= character <= "~" for character in value):
        # It could not be sent, and the error that says so would repeat it.
        raise UserError(f"{variable} holds a line break or a letter that no key has; set it again")
    return SecretStr(value or NO_KEY)


def known() -> list[SecretStr]:
    """Read the keys of all providers, as far as there are any: what no log may hold. The longest come first, as one may
    begin with another.
    """
    variables = {provider.key_variable for provider in PROVIDERS.all().values()}
    kept = _dotenv()
    values = ((os.environ.get(name) or kept.get(name) or "").strip() for name in sorted(filter(None, variables)))
    return [SecretStr(value) for value in sorted(filter(None, values), key=len, reverse=True)]


def redact(text: str, secret: SecretStr) -> str:
    """Return a text without the key: some servers echo it in their errors."""
    key = secret.get_secret_value()
    return text if key == NO_KEY else text.replace(key, "[key]")


def redact_error(error: BaseException, secret: SecretStr) -> None:
    """Take the key out of an exception's texts, in place: an SDK's message repeats what the server said."""
    error.args = tuple(redact(item, secret) if isinstance(item, str) else item for item in error.args)
    for name, value in list(vars(error).items()):
        if isinstance(value, str):
            setattr(error, name, redact(value, secret))
        elif isinstance(value, dict | list) and secret.get_secret_value() in repr(value):
            setattr(error, name, None)


def address(spec: ModelSpec) -> str:
    """Return the base URL of a model's API. Raises UserError if it holds a password or a query, as the spec's would."""
    if spec.base_url:
        return spec.base_url
    provider = PROVIDERS.get(spec.provider)
    url = (os.environ.get(provider.url_variable) or _address_beside_key(provider) or provider.url).rstrip("/")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no port
    except ValueError as error:  # without its own text, which may hold a password
        raise UserError(f"{provider.url_variable} holds a URL that cannot be read; set it again") from error
    if "@" in parts.netloc or "?" in url:
        reason = "it is written into the cache; use a URL without one"
        raise UserError(f"{provider.url_variable} must not hold a password or a ?query: {reason}")
    return url


def fingerprint(spec: ModelSpec) -> str:
    """Return the API's address if it is not the provider's own, else "": another server may be another model.

    It is part of the cache's key. An address that the spec holds is in the key already.
    """
    url = "" if spec.base_url else address(spec)
    return "" if url == PROVIDERS.get(spec.provider).url else url


def other_machine(spec: ModelSpec) -> str:
    """Return the API's address if it is neither the provider's own nor on this machine, else "".

    It is part of a run's identity: a run that went on at another address would mix two models under one name. On this
    machine it is a proxy or a tunnel, whose port says nothing of the model.
    """
    url = fingerprint(spec)
    host = urlsplit(url).hostname or ""
    return "" if host in ("localhost", "::1") or host.startswith("127.") else url


def _address_beside_key(provider: ProviderType) -> str | None:
    """Return the base URL that .env gives beside the key in use; a key from elsewhere is not sent to it."""
    if not provider.key_variable or os.environ.get(provider.key_variable):
        return None
    kept = _dotenv()
    return kept.get(provider.url_variable) if kept.get(provider.key_variable) else None


@contextmanager
def without_openai_variables() -> Iterator[None]:
    """Hide the variables OPENAI_* from the process while OpenAI's SDK is made for a server of one's own.

    The SDK reads a key, an account and headers from them (OPENAI_ADMIN_KEY, OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS, ...)
    and has no argument that turns this off; the server would be sent the credentials of an account at OpenAI.
    """
    names = [name for name in os.environ if name.startswith("OPENAI_")]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _dotenv() -> dict[str, str | None]:
    """Read the working directory's .env, if there is one; the process's environment is left as it is.

    Raises UserError if it cannot be read.
    """
    import dotenv

    path = Path.cwd() / ".env"
    try:
        return dict(dotenv.dotenv_values(path)) if path.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        # Without the error's own text: it may hold a part of a key.
        raise UserError(f"cannot read {path}, where keys may be; save it as UTF-8, or move it away") from error
