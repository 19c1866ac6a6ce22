"""Identifies a run: the hash of everything that changes its results, and what run.json says of its origin."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from autointerp.config import Config
from autointerp.evaluate import Method
from autointerp.llm import keys, specs
from autointerp.peer_faults import of_records
from autointerp.runs.requests import embedder_of
from sae.common.files import sha256_of, sha256_of_path

PROTOCOL_VERSION = 5
"""Changes whenever the same config would give other numbers; part of every run's identity."""
OF_RECORDS = ("seed", "subject", "corpus", "dictionaries", "sampling")
"""The parts of the config that sampling reads."""
INPUTS_OF_RECORDS = ("corpus", "model", "hook_points", "dictionaries", "processing", "embedder")
"""What they name, as a plan's `contents` call it; the embedder only where it is used."""
PACKAGES = (
    "autointerp", "anthropic", "numpy", "openai", "scipy", "scikit-learn", "tokenizers", "torch", "transformer-lens",
    "transformers",
)  # fmt: skip


def canonical(value: Any) -> str:
    """Write JSON with sorted keys and no spare spaces: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def identify(config: Config, method: Method, contents: dict[str, Any]) -> str:
    """Return the hash of everything that changes a run's results.

    Args:
        config: resolved.
        contents: what every CONTENT field of the config stands for.
    """
    parts = {
        "protocol": PROTOCOL_VERSION,
        "config": config.identity_fields(),
        "inputs": contents,
        "prompts": sorted(method.prompts),
    }
    return sha256_of([canonical(parts).encode()])


def identify_records(config: Config, contents: dict[str, Any]) -> str:
    """Return the hash of everything that changes a run's records, which no explainer, simulator or judge does."""
    fields = {name: value for name, value in config.identity_fields().items() if name.split(".")[0] in OF_RECORDS}
    inputs = {name: contents[name] for name in INPUTS_OF_RECORDS if name in contents}
    fields |= {"peer_faults": faults} if (faults := of_records(config.peer_faults)) else {}
    return sha256_of([canonical({"protocol": PROTOCOL_VERSION, "config": fields, "inputs": inputs}).encode()])


def describe(config: Config, method: Method, contents: dict[str, Any], identity: str) -> dict[str, Any]:
    """Return what run.json says of a run before it is done: identity, config, inputs, prompts, versions."""
    return {
        "identity": identity,
        "name": config.name,
        "config": config.model_dump(mode="json", exclude={"runtime"}),
        "inputs": contents,
        "prompts": {label: prompt.full_text for label, prompt in sorted(method.prompts.items())},
        "versions": {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES},
        "git_commit": _git_commit(),
    }


def contents_of_models(method: Method) -> dict[str, Any]:
    """Return the language models that a run asks, each with what else its answers depend on."""
    return {"judges": [_content_of_model(spec) for spec in method.models]}


def contents_of_embedder(config: Config) -> dict[str, Any]:
    """Return the model that hard records are drawn by, as `contents_of_models` does; nothing if they are not."""
    spec = embedder_of(config)
    return {"embedder": _content_of_model(spec)} if spec else {}


def _content_of_model(spec: str) -> list[str]:
    """Return a model spec, and the hash of its files if it is a local folder, or its base URL if that is another
    machine than its provider's.
    """
    parsed = specs.parse(spec)
    known = sha256_of_path(parsed.folder) if parsed.folder else keys.other_machine(parsed)
    return [spec, known] if known else [spec]


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the checkout's commit, if this package is run from one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
