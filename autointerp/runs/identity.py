"""What a run is: the hash of everything that changes its results, and where it came from. Runs nothing itself."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from autointerp.config import Config
from autointerp.evaluate import Method, models_of
from autointerp.llm import specs
from autointerp.sampling import inputs
from sae.common.files import sha256_of, sha256_of_path

PROTOCOL_VERSION = 2
"""Changes whenever the same config would give other numbers; part of every run's identity."""
PACKAGES = (
    "autointerp", "anthropic", "numpy", "openai", "scipy", "scikit-learn", "tokenizers", "torch", "transformer-lens",
    "transformers",
)  # fmt: skip


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spare spaces: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def describe(config: Config, chosen: Method) -> dict[str, Any]:
    """What run.json says before anything is done: identity, config, inputs, prompts, versions."""
    contents = inputs.fingerprint(config) | {"judges": [_judge_content(spec) for spec in models_of(config)]}
    wordings = dict(sorted(chosen.prompts.items()))
    parts = {
        "protocol": PROTOCOL_VERSION,
        "config": config.identity_fields(),
        "inputs": contents,
        "prompts": list(wordings),
    }
    return {
        "identity": sha256_of([canonical(parts).encode()]),
        "name": config.name,
        "config": config.model_dump(mode="json", exclude={"runtime"}),
        "inputs": contents,
        "prompts": {label: prompt.full_text for label, prompt in wordings.items()},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
    }


def _judge_content(spec: str) -> list[str]:
    """A judge's spec, and the hash of its files if it is a local folder."""
    folder = specs.parse(spec).folder
    return [spec, sha256_of_path(folder)] if folder else [spec]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The checkout's commit, if this package is run from one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
