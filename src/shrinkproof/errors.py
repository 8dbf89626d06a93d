"""Every exception that shrinkproof raises on purpose.

ShrinkproofError
    SpecError                 the study file is wrong; ``.problems`` has one line each       exit 2
        UnknownNameError      a name is not registered; ``.suggestions``                     exit 2
    UsageError                a command or function was called in a way that cannot work     exit 2
    MissingExtraError         an optional package is absent or broken; ``.command``          exit 2
    PluginError               a plugin failed to import or broke its contract                exit 2
    ModelError                a model cannot be loaded, traced or restored                   exit 2
        UnsupportedLayerError a step met a layer it cannot treat; names it                   exit 2
    DataError                 data are missing, empty, or inconsistent with the task         exit 2
    CompressionError          a step cannot do what was asked of it                          exit 2
    StoreError                the run directory cannot be read or written                    exit 2
    EngineError               the machines that were to work cannot, or are gone             exit 2
    ExportError               an artifact cannot be written or does not agree                exit 2

Messages follow one grammar: what (in the user's words), the rule, what was received, what to do.
Commands turn these errors into exit code 2; inside a run they become failed cells and exit code 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ShrinkproofError(Exception):
    """Root of all errors raised on purpose."""


class SpecError(ShrinkproofError):
    """The study file is wrong; all problems are reported at once.

    Attributes:
        problems: one line per problem, each ``file:line:column: path: rule, got value``.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the problems, not the text made of them."""
        return (type(self), (self.problems,))


class UnknownNameError(SpecError):
    """A name is not registered.

    Attributes:
        suggestions: registered names that look alike, best first.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        self.suggestions: tuple[str, ...] = suggestions(name, known)
        if self.suggestions:
            advice = f"did you mean {' or '.join(repr(s) for s in self.suggestions)}?"
        else:
            advice = f"known: {', '.join(known) or 'none'}"
        super().__init__([f"unknown {kind} {name!r}; {advice}"])

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the finished message: a worker's error must reach the driver unchanged."""
        return (_rebuild_unknown_name, (self.problems, self.suggestions))


def _rebuild_unknown_name(
    problems: tuple[str, ...], suggestions_: tuple[str, ...]
) -> UnknownNameError:
    error = UnknownNameError.__new__(UnknownNameError)
    SpecError.__init__(error, problems)
    error.suggestions = suggestions_
    return error


class UsageError(ShrinkproofError):
    """A command or function was called in a way that cannot work."""


class MissingExtraError(ShrinkproofError):
    """An optional package is absent or broken.

    Attributes:
        command: the command that repairs it.
    """

    def __init__(self, message: str, *, command: str) -> None:
        self.command = command
        super().__init__(f"{message} Repair it with: {command}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle without composing the message twice."""
        return (_rebuild_missing_extra, (str(self), self.command))


def _rebuild_missing_extra(message: str, command: str) -> MissingExtraError:
    error = MissingExtraError.__new__(MissingExtraError)
    ShrinkproofError.__init__(error, message)
    error.command = command
    return error


class PluginError(ShrinkproofError):
    """A plugin failed to import or broke its contract."""


class ModelError(ShrinkproofError):
    """A model cannot be loaded, traced or restored."""


class UnsupportedLayerError(ModelError):
    """A step met a layer that it cannot treat."""


class DataError(ShrinkproofError):
    """Data are missing, empty, or inconsistent with the task."""


class CompressionError(ShrinkproofError):
    """A step cannot do what was asked of it."""


class StoreError(ShrinkproofError):
    """The run directory cannot be read or written."""


class EngineError(ShrinkproofError):
    """The machines that were to work cannot be reached, are unlike, or are gone."""


class ExportError(ShrinkproofError):
    """An artifact cannot be written, or does not agree with its model."""


def suggestions(name: str, known: Iterable[str], *, count: int = 2) -> tuple[str, ...]:
    """Return up to ``count`` of the known names that look like ``name``, best first."""
    return tuple(get_close_matches(name, list(known), n=count, cutoff=0.6))
