"""References ``import:package.module:function``: a network that the user's own code builds."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from shrinkproof.errors import ModelError, suggestions
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import ModelSpec, identity, need_input_shape, need_preprocess
from shrinkproof.records import Json
from shrinkproof.registry import component

if TYPE_CHECKING:
    from torch import nn

_IMPORTED: Final[dict[str, str]] = {}
"""Module name -> SHA-256 of its source when this process imported it."""


@component
class Import:
    """A network returned by a function of the user's, called without arguments.

    The folder of the study file is on the import path while the module is imported and the
    function runs. The identity of the model covers the source of the module that is named, not
    the modules or weight files that it reads: after changing those, change its source too (a
    comment will do), or use ``checkpoint:`` with ``arch: import:...``, which hashes the weights.
    """

    name: ClassVar[str] = "import"
    arch_input_shape: ClassVar[tuple[int, int, int] | None] = None

    def fingerprint(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> str:
        """Return the identity of the model without running any of its code.

        Raises:
            ModelError: the module is not found, or a needed setting is missing.
        """
        need_preprocess(settings)
        need_input_shape(settings)
        return identity(settings, self.arch_identity(rest, roots))

    def load(self, rest: str, settings: ModelSpec, roots: Mapping[str, Path]) -> LoadedModel:
        """Return what the function builds.

        Raises:
            ModelError: a needed setting is missing, the module or function is not found or fails,
                or it returns no usable network.
        """
        from shrinkproof.models.assembly import assemble

        preprocess, input_shape = need_preprocess(settings), need_input_shape(settings)
        return assemble(
            self.build(rest, None, roots),
            settings,
            preprocess=preprocess,
            input_shape=input_shape,
            fingerprint=self.fingerprint(rest, settings, roots),
        )

    def arch_identity(self, rest: str, roots: Mapping[str, Path]) -> Json:
        """Return the function's name and the SHA-256 of its module's source.

        Raises:
            ModelError: the module is not found.
        """
        module, _ = _parts(rest)
        with _import_path(roots):
            return {"name": rest, "sha256": _sha256(_locate(rest, module))}

    def build(self, rest: str, classes: int | None, roots: Mapping[str, Path]) -> nn.Module:  # noqa: ARG002
        """Return what the function builds; it decides the number of classes itself.

        Raises:
            ModelError: the module or function is not found or fails, or returns no network.
        """
        from torch import nn

        from shrinkproof.models.assembly import drawn
        from shrinkproof.torchvision_ops import ensure

        ensure()
        with _import_path(roots):
            function = _function(rest)
            try:
                with drawn("import", rest):
                    module = function()
            # A user's function may fail in any way; the cause is kept.
            except Exception as error:
                raise ModelError(
                    f"model 'import:{rest}': the function is called without arguments and must "
                    f"return a torch.nn.Module, got {type(error).__name__}: {error}"
                ) from error
        if not isinstance(module, nn.Module):
            raise ModelError(
                f"model 'import:{rest}': the function must return a torch.nn.Module, got "
                f"{type(module).__name__}"
            )
        return module


def _parts(rest: str) -> tuple[str, str]:
    module, _, function = rest.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), function]):
        raise ModelError(
            f"model 'import:{rest}': must be spelled import:package.module:function, got "
            f"'import:{rest}'"
        )
    return module, function


@contextmanager
def _import_path(roots: Mapping[str, Path]) -> Iterator[None]:
    folder = str(roots.get("study", Path()).resolve())
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        # By value: the user's code may itself have changed the path.
        if folder in sys.path:
            sys.path.remove(folder)


def _locate(rest: str, module: str) -> Path:
    """Return the source file of a module without importing it or its packages."""
    top, *inner = module.split(".")
    spec = _find(top)
    name = top
    for part in inner:
        name = f"{name}.{part}"
        folders = spec.submodule_search_locations if spec is not None else None
        spec = PathFinder.find_spec(name, list(folders)) if folders is not None else None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ModelError(
            f"model 'import:{rest}': the module {module!r} must be importable from the folder of "
            f"the study file or from an installed package, but no source file was found in "
            f"{sys.path[0]!r} or on the Python path"
        )
    return Path(spec.origin)


def _find(top: str) -> ModuleSpec | None:
    # PathFinder first: a module of the same name that is already loaded must not win here.
    return PathFinder.find_spec(top) or importlib.util.find_spec(top)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _function(rest: str) -> Callable[[], Any]:
    module_name, name = _parts(rest)
    source = _locate(rest, module_name)
    digest = _sha256(source)
    try:
        module = importlib.import_module(module_name)
    # A user's module may fail in any way; the cause is kept.
    except Exception as error:
        raise ModelError(
            f"model 'import:{rest}': importing {source} must succeed, got "
            f"{type(error).__name__}: {error}"
        ) from error
    origin = getattr(module, "__file__", None)
    if origin is None or Path(origin).resolve() != source.resolve():
        raise ModelError(
            f"model 'import:{rest}': the module {module_name!r} must come from {source}, but this "
            f"process has already imported another one from {origin}; rename one of the two"
        )
    if _IMPORTED.setdefault(module_name, digest) != digest:
        raise ModelError(
            f"model 'import:{rest}': {source} has changed since this process imported it; start "
            "Python again, so that the network and its identity agree"
        )
    function: Callable[[], Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        near = suggestions(name, [n for n in dir(module) if callable(getattr(module, n))])
        advice = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ModelError(
            f"model 'import:{rest}': {source} must define a function {name!r}, got "
            f"{'none' if function is None else type(function).__name__}{advice}"
        )
    return function
