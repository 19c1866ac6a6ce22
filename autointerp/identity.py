"""What a run is: the hash of everything that changes its results, and where it came from. Runs nothing itself."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from autointerp import prompts, rules
from autointerp.config import Config
from autointerp.sampling import inputs
from sae.files import sha256_of

PROTOCOL_VERSION = 1
"""Changes whenever the same config would give other numbers; part of every run's identity."""
PACKAGES = ("autointerp", "numpy", "scipy", "scikit-learn", "tokenizers", "torch", "transformer-lens", "transformers")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spare spaces: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def describe(config: Config) -> dict[str, Any]:
    """What run.json says before anything is done: identity, config, inputs, prompts, versions."""
    wording = prompts.load(rules.PROMPT)
    contents = inputs.fingerprint(config)
    parts = {
        "protocol": PROTOCOL_VERSION,
        "config": config.identity_fields(),
        "inputs": contents,
        "prompts": [wording.label],
    }
    return {
        "identity": sha256_of([canonical(parts).encode()]),
        "name": config.name,
        "config": config.model_dump(mode="json", exclude={"runtime"}),
        "inputs": contents,
        "prompts": {wording.label: wording.text},
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The checkout's commit, if this package is run from one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    asked = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
