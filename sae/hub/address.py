"""Reads the names of dictionaries on the Hugging Face hub. Touches no network."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sae.common.errors import UserError, shortened
from sae.hub import saelens

HUB, REGISTRY = "hf:", "saelens:"
NAME = r"(?a:\w(?:(?!--|\.\.)[\w.-])*(?<![.-]))"
"""A user, an organisation or a repository, as huggingface-hub checks it."""
LONGEST_REPO = 96
COMMIT = r"[0-9a-f]{40}"


@dataclass(frozen=True)
class Address:
    """Names a folder or a file of a repository on the hub."""

    repo: str
    """OWNER/NAME."""
    path: str
    """Relative to the repository, with slashes; empty: the repository itself."""
    revision: str | None = None
    """A branch, a tag or a commit; None: the main branch."""

    @property
    def is_pinned(self) -> bool:
        """Tell whether the revision is a whole commit hash, which can never name other files."""
        return re.fullmatch(COMMIT, self.revision or "") is not None

    def at(self, revision: str | None) -> Address:
        """Return the same folder or file at another revision."""
        return replace(self, revision=revision)

    def __str__(self) -> str:
        path, revision = f"/{self.path}" if self.path else "", f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.repo}{path}{revision}"


def is_address(text: object) -> bool:
    """Tell whether a dictionary's path names one on the hub."""
    return str(text).startswith((HUB, REGISTRY))


def parse(text: str) -> Address:
    """Read `hf:OWNER/REPO[/PATH][@REVISION]` or `saelens:RELEASE/SAE_ID`; the registry says which repository that is.

    Raises UserError for any other text, and for a release or an id that the registry does not have.
    """
    if text.startswith(REGISTRY):
        entry = saelens.lookup(text.removeprefix(REGISTRY))
        return Address(entry.repo, entry.path)
    name, at, revision = text.removeprefix(HUB).partition("@")
    owner, _, rest = name.partition("/")
    repo, _, path = rest.partition("/")
    parts = [part for part in path.split("/") if part]
    named = all(re.fullmatch(NAME, part) for part in (owner, repo)) and len(f"{owner}/{repo}") <= LONGEST_REPO
    if not named or {".", ".."} & set(parts):
        raise UserError(f"{shortened(text)}: write hf:OWNER/REPO[/PATH][@REVISION]; `sae find` lists published ones")
    if at and not re.fullmatch(r"[\w.][\w./-]*", revision, re.ASCII):
        raise UserError(
            f"{shortened(text)}: {revision!r} is no revision; write a branch, a tag or a commit after the @"
        )
    return Address(f"{owner}/{repo}", "/".join(parts), revision or None)
