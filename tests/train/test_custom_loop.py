"""The loop of docs/custom-loop.md runs as it is written there, and learns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

DOCUMENT = Path(__file__).parents[2] / "docs" / "custom-loop.md"
IMPORTS = re.compile(r"(from|import) |$")


def code() -> str:
    (found,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.S)
    return str(found)


def run(source: str, scenes: Path, tmp_path: Path, monkeypatch: Any) -> dict[str, Any]:
    (tmp_path / "scenes").symlink_to(scenes)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(source, str(DOCUMENT), "exec"), names)
    return names


def val_iou(report: Any) -> float:
    return float(np.mean([row.iou for row in report.rows]))


def test_the_documented_loop_learns(scenes, tmp_path, monkeypatch, capsys) -> None:
    names = run(code(), scenes, tmp_path, monkeypatch)
    assert val_iou(names["after"]) > val_iou(names["before"]) + 0.02
    assert "box" in capsys.readouterr().out


def test_without_its_step_it_does_not(scenes, tmp_path, monkeypatch) -> None:
    source = code()
    assert "        optimizer.step()\n" in source
    names = run(source.replace("        optimizer.step()\n", "").replace("13)", "2)"), scenes, tmp_path, monkeypatch)
    assert val_iou(names["after"]) == val_iou(names["before"])


def test_it_is_about_thirty_lines() -> None:
    assert len([line for line in code().splitlines() if not IMPORTS.match(line)]) <= 32
