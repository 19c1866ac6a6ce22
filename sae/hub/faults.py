"""Says in one line why the hub did not answer, and what to do. Repeats nothing that was sent, so no token either."""

from __future__ import annotations

import difflib
import errno

from sae.common.errors import UserError
from sae.hub import saelens
from sae.hub.address import Address

TOKEN = "set HF_TOKEN (https://huggingface.co/settings/tokens) or run `hf auth login`"

OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
"""Errors of files, which have nothing to do with the hub."""


def explained(error: BaseException, address: Address) -> UserError:
    """Return the error of a user for one of huggingface-hub's, or of the HTTP library below it."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        page = f"https://huggingface.co/{address.repo}"
        return UserError(f"{address}: the repository is gated; ask for access on {page}, then {TOKEN}")
    response = getattr(error, "response", None)
    # To who sends no token, the hub says 401 of a repository that does not exist as of one that is private.
    if isinstance(error, errors.RepositoryNotFoundError) or (response is not None and response.status_code == 401):
        return UserError(f"{address}: no repository {address.repo}{_near(address.repo)}; if it is private, {TOKEN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return UserError(
            f"{address}: {address.repo} has no revision {address.revision!r}; leave out @{address.revision}, or see "
            f"https://huggingface.co/{address.repo}/refs for its branches and tags"
        )
    if response is not None:
        return _refused(response.status_code, response.headers.get("retry-after"), address)
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        return UserError(
            f"{address}: cannot keep the download: {error.strerror}; HF_HOME and SAE_CACHE name other cache folders"
        )
    if error.__cause__ is not None:  # such as "not in the cache either", of what kept from downloading
        return explained(error.__cause__, address)
    reason = f"{type(error).__name__}{f', {error.strerror}' if isinstance(error, OSError) and error.strerror else ''}"
    return UserError(
        f"{address}: no answer from the hub ({reason}); check the connection and HF_ENDPOINT, then run the same "
        "command; HF_HUB_OFFLINE=1 uses what was downloaded before"
    )


def not_downloaded(address: Address, what: str) -> UserError:
    """Return the error for something that offline work needs and that is not there."""
    return UserError(
        f"{address}: {what} was not downloaded, and HF_HUB_OFFLINE is set; run the same command once without it"
    )


def _refused(status: int, retry_after: str | None, address: Address) -> UserError:
    """Return the error for an answer that is none, by its HTTP status."""
    if status == 429:
        seconds = f"in {retry_after} s" if retry_after and retry_after.isdecimal() else "in a few minutes"
        return UserError(
            f"{address}: the hub refuses more requests at the moment (429); run the same command {seconds}, what was "
            f"downloaded is kept; for a higher limit {TOKEN}"
        )
    if status == 403:
        return UserError(f"{address}: the hub refuses access ({status}); {TOKEN}, with read access to {address.repo}")
    return UserError(f"{address}: the hub answered with status {status}; run the same command later")


def _near(repo: str) -> str:
    """Return repositories of the registry whose names are near to one."""
    known = {each.lower(): each for each in saelens.repositories()}
    close = [known[each] for each in difflib.get_close_matches(repo.lower(), [*known], n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
