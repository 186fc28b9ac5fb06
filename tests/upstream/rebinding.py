"""Puts our handlers wherever a suite of OpenFF would use a stock one. Not what the package does: tests only.

A user gets our handlers from ``ForceField(..., load_plugins=True)``. The suites also build handlers by class,
so the names that their modules import are rebound too. Upstream's own modules keep the stock classes.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from openff.toolkit.typing.engines.smirnoff import parameters as stock
from openff.toolkit.typing.engines.smirnoff.forcefield import ForceField

from openff_diffsystem.handlers import HANDLERS
from tests.upstream.suites import SUITES

_OURS: dict[type, type] = {getattr(stock, ours.__name__): ours for ours in HANDLERS.values()}


def load_plugins_by_default() -> None:
    """Make ``ForceField`` load plugins unless the caller says otherwise."""
    init = ForceField.__init__

    @functools.wraps(init)
    def wrapper(self: ForceField, *sources: Any, **options: Any) -> None:
        # A caller who names the handler classes wants these only; a plugin would add all the others.
        if options.get("parameter_handler_classes") is None:
            options.setdefault("load_plugins", True)
        init(self, *sources, **options)

    ForceField.__init__ = wrapper  # type: ignore[method-assign]


def rebind_imports() -> None:
    """Give the suites' modules our class wherever they import a stock one by name.

    Rebinding at the import, and not in the modules' globals afterwards, also reaches imports inside functions
    and what a module makes of a class while it is imported: parametrize lists, subclasses, default values.
    """
    original = builtins.__import__

    def import_(
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        module = original(name, globals, locals, fromlist, level)
        if not fromlist or not (globals or {}).get("__name__", "").startswith(tuple(SUITES)):
            return module
        found = {name: getattr(module, name) for name in fromlist if hasattr(module, name)}
        classes = {name: value for name, value in found.items() if isinstance(value, type)}
        ours = {name: _OURS[cls] for name, cls in classes.items() if cls in _OURS}
        # ``from module import names`` reads the names off whatever object the import returns.
        return SimpleNamespace(**found | ours) if ours else module

    builtins.__import__ = import_


def on_handler_built(callback: Callable[[], None]) -> None:
    """Call back whenever one of our handlers is initialised."""

    def calling_back(init: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(init)
        def wrapper(*args: Any, **kwargs: Any) -> None:
            callback()
            init(*args, **kwargs)

        return wrapper

    for cls in HANDLERS.values():
        cls.__init__ = calling_back(cls.__init__)  # type: ignore[misc]
