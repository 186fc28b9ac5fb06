"""What lets our handlers stand in for the stock ones. The only module that touches upstream code.

Two things are wrapped, and both are inert for stock handlers:

* ``ForceField._register_parameter_handler_classes`` refuses two classes with one tag. The wrapper lets a
  subclass replace its parent with the same ``_TAGNAME``. As a patch of openff-toolkit this would be
  a rule: "a plugin may specialise a built-in handler".
* The ``create`` class methods of Interchange's SMIRNOFF collections compare exact types
  (``type(handler) in allowed_parameter_handlers()``, ``type(p) is ConstraintHandler``). The wrapper hands
  them a view: an object of the exact stock type that shares the state of our handler. A patch of
  openff-interchange would use ``isinstance``.

openff-interchange takes 0.4 s to import, so its modules are wrapped when they are imported, or at once if
they already are.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from openff.toolkit.typing.engines.smirnoff.forcefield import ForceField

from openff_diffsystem.exceptions import UpstreamChangedError

_STOCK_TYPES: dict[type, type] = {}
"""Our handler class -> the stock class that it replaces."""

_COLLECTION_METHODS: dict[str, dict[str, tuple[str, ...]]] = {
    "openff.interchange.smirnoff._base": {"SMIRNOFFCollection": ("create",)},
    "openff.interchange.smirnoff._valence": {
        "SMIRNOFFBondCollection": ("create",),
        "SMIRNOFFConstraintCollection": ("create", "store_constraints"),
        "SMIRNOFFProperTorsionCollection": ("create",),
    },
    "openff.interchange.smirnoff._nonbonded": {
        "SMIRNOFFvdWCollection": ("create",),
        "SMIRNOFFElectrostaticsCollection": ("create", "store_matches"),
    },
    "openff.interchange.smirnoff._gbsa": {"SMIRNOFFGBSACollection": ("create",)},
}
"""Methods of Interchange that compare the type of their ``parameter_handler(s)`` argument exactly."""


def register_swap(ours: type, stock: type) -> None:
    """Declare that handler class ``ours`` replaces ``stock``."""
    _STOCK_TYPES[ours] = stock


def as_stock(handler: object) -> object:
    """A view of one of our handlers as its stock type, with the same state; anything else unchanged."""
    if isinstance(handler, list) and any(type(one) in _STOCK_TYPES for one in handler):
        return [as_stock(one) for one in handler]
    stock = _STOCK_TYPES.get(type(handler))
    if stock is None:
        return handler
    view: object = object.__new__(stock)
    view.__dict__ = handler.__dict__
    return view


def install() -> None:
    """Wrap the toolkit now, and Interchange now or when it is imported. A second call does nothing."""
    register = _upstream(ForceField, "_register_parameter_handler_classes")
    if not hasattr(register, "_diffsystem"):
        ForceField._register_parameter_handler_classes = _specialise(register)  # type: ignore[method-assign]
    if not any(isinstance(finder, _InterchangeFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _InterchangeFinder())
    for name in _COLLECTION_METHODS:
        if name in sys.modules:
            _wrap_collections(sys.modules[name])


def _specialise(register: Callable) -> Callable:
    @functools.wraps(register)
    def wrapper(self: ForceField, parameter_handler_classes: list[type]) -> None:
        return register(self, _replace_parents(parameter_handler_classes))

    wrapper._diffsystem = True  # type: ignore[attr-defined]
    return wrapper


def _replace_parents(classes: list[type]) -> list[type]:
    """Each of our classes in the position of the stock class that it replaces, if both are in the list."""
    parents = {ours: stock for ours in classes if (stock := _STOCK_TYPES.get(ours)) is not None and stock in classes}
    replacement = {stock: ours for ours, stock in parents.items()}
    return [replacement.get(cls, cls) for cls in classes if cls not in parents]


def _wrap_collections(module: ModuleType) -> None:
    for class_name, methods in _COLLECTION_METHODS[module.__name__].items():
        cls = _upstream(module, class_name)
        for name in methods:
            method = cls.__dict__.get(name)
            if method is None:
                raise UpstreamChangedError(_changed(f"{module.__name__}.{class_name}.{name}"))
            function = method.__func__ if isinstance(method, classmethod) else method
            if hasattr(function, "_diffsystem"):
                continue
            wrapped = _with_stock_handlers(function)
            setattr(cls, name, classmethod(wrapped) if isinstance(method, classmethod) else wrapped)


def _with_stock_handlers(function: Callable) -> Callable:
    @functools.wraps(function)
    def wrapper(*args: object, **kwargs: object) -> object:
        return function(*map(as_stock, args), **{name: as_stock(value) for name, value in kwargs.items()})

    wrapper._diffsystem = True  # type: ignore[attr-defined]
    return wrapper


class _InterchangeFinder(MetaPathFinder):
    """Finds Interchange's modules in their usual place, and wraps their collections after they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _COLLECTION_METHODS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WrappingLoader(spec.loader)
        return spec


class _WrappingLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _wrap_collections(module)


def _upstream(owner: type | ModuleType, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise UpstreamChangedError(_changed(f"{owner.__name__}.{name}")) from error


def _changed(what: str) -> str:
    return (
        f"openff_diffsystem cannot replace the stock handlers: {what} does not exist. Tested with "
        f"openff-toolkit 0.18 and openff-interchange 0.5.2 and 0.5.3; installed are openff-toolkit "
        f"{_installed('openff-toolkit')} and openff-interchange {_installed('openff-interchange')}."
    )


def _installed(name: str) -> str:
    for distribution in (name, f"acellera-{name}"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"
