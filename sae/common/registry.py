"""Finds the parts of a package by name: one file of the package each, or a plugin. Imports a part only when asked.

One such package is `sae.formats`. Every module in it, but for those named as shared code, is one part,
called like its file, and registers itself when it is imported. Other distributions add parts through the entry-point
group that is called like the package:

    [project.entry-points."sae.formats"]
    my_format = "my_package.my_format"

The entry point names a module (or anything in it) whose import registers the part.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from sae.common.errors import UserError, near

T = TypeVar("T")


class Registry(Generic[T]):
    """Holds the parts of one package by name.

    Args:
        kind: what one part is, for messages: "scorer".
        package: the package that holds them.
        order: built-in names that are listed first, in this order; the others follow alphabetically.
        shared: modules of the package that are no parts. Those whose names begin with an underscore never are.
        group: the entry-point group; by default it is called like the package.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        order: tuple[str, ...] = (),
        shared: tuple[str, ...] = ("registry",),
        group: str | None = None,
    ) -> None:
        self.kind, self.package, self.group = kind, package, group or package
        self._order, self._shared = order, shared
        self._parts: dict[str, T] = {}

    def register(self, name: str, part: T) -> T:
        """Make a part known under its name and return it. Raises ValueError if another part has the name."""
        if self._parts.setdefault(name, part) is not part:
            raise ValueError(f"two {self.kind}s are registered as {name!r}")
        return part

    @property
    def names(self) -> tuple[str, ...]:
        """All names, built-in ones first, found without importing any part."""
        return tuple(dict.fromkeys([*self._modules, *sorted(self._plugins), *self._parts]))

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def get(self, name: str) -> T:
        """Import a part's file and return the part. Raises UserError with the near names if there is none."""
        if name not in self._parts:
            if name in self._modules:
                import_module(f"{self.package}.{name}")
            elif name in self._plugins:
                self._load_plugin(self._plugins[name])
            else:
                raise UserError(f"unknown {self.kind} {name!r}{near(name, list(self.names))}")
        if name not in self._parts:
            raise UserError(f"{self.kind} {name!r}: its module was imported but registers no {self.kind} of that name")
        return self._parts[name]

    def all(self) -> Mapping[str, T]:
        """Import every part."""
        return {name: self.get(name) for name in self.names}

    @cached_property
    def _modules(self) -> tuple[str, ...]:
        """The modules of the package that are parts."""
        names = {module.name for module in pkgutil.iter_modules(import_module(self.package).__path__)}
        public = sorted(name for name in names if not name.startswith("_") and name not in self._shared)
        return (*(name for name in self._order if name in public), *(n for n in public if n not in self._order))

    @cached_property
    def _plugins(self) -> Mapping[str, EntryPoint]:
        return {point.name: point for point in _points().select(group=self.group) if point.name not in self._modules}

    def _load_plugin(self, point: EntryPoint) -> None:
        try:
            point.load()
        except (ImportError, AttributeError) as error:
            owner = point.dist.name if point.dist else "an installed package"
            raise UserError(f"{self.kind} {point.name!r} of {owner} cannot be imported: {error}") from error


@cache
def _points() -> Any:  # SelectableGroups before Python 3.12, EntryPoints from then on
    """Read the entry points of all installed packages; reading them again for each registry would slow `--help`."""
    return entry_points()
