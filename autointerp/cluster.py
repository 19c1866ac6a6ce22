"""Joins a cluster of Ray, or starts one of this machine. Imports ray when one is made."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from sae.common.errors import UserError, shortened

MISSING = "runtime.engine=ray needs the ray package; run: pip install 'autointerp[ray]'"
CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer."""


class Cluster:
    """Joins a Ray cluster for as long as it is open. One that is already joined is used, and stays joined."""

    def __init__(self, address: str | None) -> None:
        """Look for Ray.

        Args:
            address: as `runtime.ray_address`.

        Raises UserError if Ray is not installed.
        """
        try:
            import ray
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "ray":
                raise
            raise UserError(MISSING) from error
        self.ray: Any = ray
        self._address, self._is_own = address, False

    def __enter__(self) -> Cluster:
        """Join it. Raises UserError if that fails."""
        self._is_own = not self.ray.is_initialized()
        if self._is_own:
            try:
                self._reach()
                self.ray.init(self._address, include_dashboard=False, log_to_driver=False, logging_level="error")
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                where = self._address or "RAY_ADDRESS, or on this machine"
                raise UserError(f"cannot use Ray ({where}): {one_line(error)}; see runtime.ray_address") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._is_own:
            self.ray.shutdown()

    def _reach(self) -> None:
        """Connect to a HOST:PORT once: Ray itself tries for minutes. Raises OSError if nobody answers."""
        host, mark, port = (self._address or "").rpartition(":")
        if mark and "/" not in host and port.isdigit():
            import socket

            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()

    def nodes(self) -> list[dict[str, float]]:
        """Return the resources of every machine that is alive."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def result(self, reference: Any) -> Any:
        """Return what a reference stands for. Raises the UserError that a worker has raised."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            raise


def one_line(error: Exception) -> str:
    """Return the last line, which says what was raised where the error quotes a traceback."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return shortened(lines[-1].strip(), 200)
