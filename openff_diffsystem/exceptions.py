"""Every error this package raises, in one place.

Each class derives from :class:`DiffSystemError` and from the builtin that fits, so that callers
can catch all of ours or only the kind they expect.
"""


class DiffSystemError(Exception):
    """Base class of every error raised by openff_diffsystem."""


class MissingStackError(DiffSystemError, ImportError):
    """The OpenFF stack, or an optional dependency, is not installed."""


class UpstreamChangedError(DiffSystemError, ImportError):
    """openff-toolkit or openff-interchange no longer looks the way the handler swap expects."""


class UnsupportedForceFieldError(DiffSystemError, ValueError):
    """A force field has a section, attribute or setting that cannot be represented."""


class UnsupportedForceError(DiffSystemError, ValueError):
    """An OpenMM System has a force, or a setting of a force, that cannot be represented."""


class ExpressionError(DiffSystemError, ValueError):
    """An algebraic expression cannot be read, or calls a function that is not covered."""


class UnregisteredFormError(UnsupportedForceFieldError):
    """A system has a section whose functional form is not registered in this process."""


class DuplicateFormError(DiffSystemError, ValueError):
    """Two functional forms are registered for one section."""


class FormShapeError(DiffSystemError, ValueError):
    """The energy function of a functional form returns an array that does not have one number per term."""


class UnsupportedInputError(DiffSystemError, TypeError):
    """An argument is of a type that cannot be used here."""


class InvalidInputError(DiffSystemError, ValueError):
    """An argument is of the right type and has a value that cannot be used here."""


class UnsupportedElementError(InvalidInputError, RuntimeError):
    """A molecule has an element that a model or a set of charge increments does not cover."""


class PrecisionError(DiffSystemError, TypeError):
    """Numbers are in double precision, and jax is set to single."""


class ForkedProcessError(DiffSystemError, RuntimeError):
    """A process was forked after jax had started. The threads of jax do not survive that."""


class ParameterMismatchError(DiffSystemError, ValueError):
    """Values do not fit the parameters they are meant for (shape, layout or template)."""


class NonFiniteParameterError(DiffSystemError, ValueError):
    """A force-field parameter is NaN or infinite."""


class UnassignedParameterError(DiffSystemError, ValueError):
    """An atom, bond, angle or torsion has no parameter."""


class ChargeAssignmentError(DiffSystemError, ValueError):
    """Partial charges could not be assigned to a molecule."""


class PositionsError(DiffSystemError, ValueError):
    """Positions have the wrong shape or hold NaN."""


class BoxError(DiffSystemError, ValueError):
    """Box vectors are missing, not in OpenMM's reduced form, or too short for the cutoff."""


class StaleNeighborListError(DiffSystemError, ValueError):
    """Particles have moved too far since a neighbour list was built."""


class CorruptFileError(DiffSystemError, ValueError):
    """A saved system is damaged, or was not written by this package."""
