from __future__ import annotations

import sys
from importlib import metadata

import pytest

from shrinkproof import doctor
from shrinkproof.doctor import Finding, report_doctor
from shrinkproof.torchvision_ops import Status

CPU = {"model": "Some CPU", "usable_cores": 4, "quota_cores": None, "flags": ["avx2"]}


def test_every_requirement_has_a_line():
    findings = {finding.name: finding for finding in report_doctor()}
    needed = {"python", "shrinkproof", "torch", "onnxruntime", "pillow", "torchvision", "timm"}
    assert needed | {"cpu", "gpu"} <= set(findings)
    assert not {"pytest", "netcal"} & set(findings)
    assert findings["torch"].detail == metadata.version("torch")
    assert [f.name for f in findings.values() if f.status == "error" and not f.fix] == []


@pytest.fixture
def installed(monkeypatch):
    versions: dict[str, str] = {}
    monkeypatch.setattr(doctor, "installed_version", versions.get)
    return versions


def test_absent_package(installed):
    finding = doctor._package("numpy", "2", "")
    assert (finding.status, finding.fix) == ("error", 'pip install "numpy>=2"')


def test_absent_extra_is_no_fault(installed):
    finding = doctor._package("timm", "1.0.20", "timm")
    assert (finding.status, finding.fix) == ("ok", 'pip install "shrinkproof[timm]"')
    assert "not installed" in finding.detail


@pytest.mark.parametrize(
    ("version", "floor", "status"),
    [
        ("2.13.0+cpu", "2.13", "ok"),
        ("2.9.1", "2.13", "error"),
        ("10.0", "9", "ok"),
        ("1.9.0.post1", "1.8", "ok"),
        ("3.0.0rc1", "3", "ok"),
    ],
)
def test_versions_compare_as_numbers(installed, version, floor, status):
    installed["numpy"] = version
    assert doctor._package("numpy", floor, "").status == status


def test_broken_package_is_shown_with_its_reason(installed, monkeypatch):
    installed["numpy"] = "9.9"
    monkeypatch.setitem(sys.modules, "numpy", None)
    finding = doctor._package("numpy", "2", "")
    assert finding.status == "error"
    assert "does not import" in finding.detail
    assert "--force-reinstall" in finding.fix


@pytest.mark.parametrize(
    ("mode", "status"), [("compiled", "ok"), ("python", "warn"), ("absent", "error")]
)
def test_torchvision(installed, monkeypatch, mode, status):
    installed["torchvision"] = "0.28.0"
    monkeypatch.setattr(doctor, "ensure", lambda: Status(mode, "the reason"))
    finding = doctor._package("torchvision", "0.28", "")
    assert finding.status == status
    assert "the reason" in finding.detail
    assert bool(finding.fix) == (mode != "compiled")


def test_not_installed_at_all(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    (finding,) = doctor._requirements()
    assert (finding.name, finding.status) == ("shrinkproof", "error")


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({}, "warn", "no int8 instructions"),
        ({"flags": ["avx2", "avx_vnni"]}, "ok", "avx_vnni"),
        ({"flags": None}, "ok", "instructions unknown"),
        ({"quota_cores": 1.5}, "warn", "1.5 usable cores"),
        ({"model": None}, "warn", "unknown model"),
    ],
)
def test_cpu(change, status, text):
    finding = doctor._cpu_finding({**CPU, **change})
    assert finding.status == status
    assert text in finding.detail


def test_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor._gpu_finding([]).status == "ok"
    assert doctor._gpu_finding([{"name": "Big GPU"}]).status == "warn"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Big GPU")
    assert doctor._gpu_finding([]) == Finding("gpu", "ok", "torch uses Big GPU")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor._gpu_finding([]).status == "warn"
