"""Whether everything works on this machine, and the step that repairs what does not."""

from __future__ import annotations

import importlib
import platform
import re
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Final, Literal, NamedTuple

from shrinkproof.environment import capture, installed_version
from shrinkproof.records import Json
from shrinkproof.torchvision_ops import ensure

_MODULES: Final = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "vl-convert-python": "vl_convert",
}
_HIDDEN_EXTRAS: Final = ("dev", "parity")


class Finding(NamedTuple):
    """One line of `report_doctor`.

    Attributes:
        name: what was looked at.
        status: ``ok``, ``warn`` (works, but not as well as it could) or ``error``.
        detail: what was found.
        fix: the command or step that improves it; empty where there is nothing to do.
    """

    name: str
    status: Literal["ok", "warn", "error"]
    detail: str
    fix: str = ""


def report_doctor() -> list[Finding]:
    """Return what works and what does not on this machine, with the step that repairs it.

    It imports every required package and every installed extra, so it takes some seconds.
    """
    findings = [
        Finding("python", "ok", f"{platform.python_version()} ({sys.executable})"),
        *_requirements(),
    ]
    environment = capture()
    findings.append(_cpu_finding(environment["cpu"]))
    findings.append(_gpu_finding(environment["gpus"]))
    return findings


def _requirements() -> Iterator[Finding]:
    """Yield a finding for every required package, then for every extra."""
    try:
        lines = metadata.requires("shrinkproof") or []
    except metadata.PackageNotFoundError:
        yield Finding("shrinkproof", "error", "runs without being installed", "pip install .")
        return
    yield Finding("shrinkproof", "ok", metadata.version("shrinkproof"))
    for line in lines:
        needed = re.match(r"^([\w.-]+)\s*(?:>=\s*([\d.]+))?", line)
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", line)
        if needed is None or (extra is not None and extra[1] in _HIDDEN_EXTRAS):
            continue
        yield _package(needed[1], needed[2] or "0", extra[1] if extra else "")


def _package(name: str, floor: str, extra: str) -> Finding:
    version = installed_version(name)
    command = f'pip install "shrinkproof[{extra}]"' if extra else f'pip install "{name}>={floor}"'
    if version is None:
        if extra:
            return Finding(name, "ok", "optional, not installed", command)
        return Finding(name, "error", f"not installed, needs {floor} or later", command)
    if _numbers(version) < _numbers(floor):
        return Finding(name, "error", f"{version}, needs {floor} or later", command)
    if name == "torchvision":
        return _torchvision(version)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(_MODULES.get(name, name.replace("-", "_")))
    # A broken package fails in any way; saying how is what this function is for.
    except Exception as error:
        reason = f"{version}, installed but does not import: {type(error).__name__}: {error}"
        return Finding(name, "error", reason, f'pip install --force-reinstall "{name}>={floor}"')
    return Finding(name, "ok", version)


def _torchvision(version: str) -> Finding:
    status = ensure()
    detail = f"{version}, {status.detail}"
    if status.mode == "compiled":
        return Finding("torchvision", "ok", detail)
    advice = "install torch and torchvision from one source, both for the CPU or both for CUDA"
    return Finding("torchvision", "warn" if status.mode == "python" else "error", detail, advice)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


def _cpu_finding(cpu: Json) -> Finding:
    flags = cpu["flags"]
    cores = cpu["usable_cores"] if cpu["quota_cores"] is None else cpu["quota_cores"]
    detail = f"{cpu['model'] or 'unknown model'}, {cores:g} usable cores"
    if flags is None:
        return Finding("cpu", "ok", f"{detail}, instructions unknown")
    detail += f", {' '.join(flags) or 'no vector instructions that matter'}"
    has_int8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & set(flags)
    if has_int8:
        return Finding("cpu", "ok", detail)
    return Finding(
        "cpu", "warn", f"{detail}; no int8 instructions: int8 networks gain little speed"
    )


def _gpu_finding(gpus: list[Json]) -> Finding:
    try:
        import torch
    # Reported in full for the package itself; here only the GPU is of interest.
    except Exception as error:
        return Finding("gpu", "warn", f"unknown, torch does not import ({type(error).__name__})")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("gpu", "ok", f"torch uses {', '.join(names)}")
    if gpus:
        names = [gpu["name"] for gpu in gpus]
        advice = "install the CUDA build of torch that fits the driver"
        return Finding("gpu", "warn", f"{', '.join(names)}, but torch cannot use it", advice)
    return Finding("gpu", "ok", "none; everything runs on the CPU")
