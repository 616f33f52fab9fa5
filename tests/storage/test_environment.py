"""What an artifact records about where it was made."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from storage.manifest import environment

ROOT = Path(__file__).parents[2]


def fake_torch(initialized: bool) -> SimpleNamespace:
    cuda = SimpleNamespace(is_initialized=lambda: initialized, get_device_name=lambda: "NVIDIA Fast")
    return SimpleNamespace(cuda=cuda)


def test_the_gpu_is_named_only_where_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(initialized=True))
    assert environment()["device"] == "NVIDIA Fast"
    monkeypatch.setitem(sys.modules, "torch", fake_torch(initialized=False))
    assert environment()["device"] not in ("", "NVIDIA Fast")


def test_asking_imports_nothing_heavy() -> None:
    code = (
        "import sys; from storage.manifest import environment; print(environment()['device'], 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    device, torch = ran.stdout.rsplit(maxsplit=1)
    assert device
    assert torch == "False"
