"""The house keeps its shape: imports run one way, the front door is light, no module hides a public name."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import samfast

PACKAGE = Path(samfast.__file__).parent

# Each room may import the rooms on the lines above its own, and nothing else of samfast.
ORDER = [
    {"_rust"},
    {"errors", "checks", "frames", "progress"},
    {"masks", "distances", "prompts", "metrics"},
    {"data"},
    {"inference"},
    {"views"},
    {"runtime"},
    {"models"},
    {"cache"},
    {"train"},
    {"artifacts"},
    {"evaluation"},
    {"sweeps"},
    {"prediction_files"},
    {"predictions"},
    {"export"},
    {"pipeline"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}

# Methods that hand over to a later stage: one line each, imported when they are called.
DELEGATES = {
    ("train/run.py", "evaluation"),
    ("train/run.py", "predictions"),
    ("train/run.py", "export"),
    ("runtime/bundle.py", "evaluation"),
    ("runtime/bundle.py", "predictions"),
}

TORCH_FREE = [
    "errors",
    "checks",
    "frames",
    "progress",
    "masks",
    "distances",
    "prompts",
    "metrics",
    "data",
    "inference",
    "views",
    "runtime",
]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def source_files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imported_rooms(path: Path) -> set[str]:
    """The samfast rooms a file imports anywhere, also inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "samfast" else [module]
        rooms |= {name.split(".")[1] for name in names if name.startswith("samfast.")}
    return rooms


def test_every_room_has_a_place_in_the_order() -> None:
    assert {room_of(path) for path in source_files()} | {"_rust"} == set(RANK) | {"__main__"} & {
        room_of(path) for path in source_files()
    }


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__main__":
        return
    name = path.relative_to(PACKAGE).as_posix()
    for other in imported_rooms(path) - {room}:
        if other in RANK and (name, other) not in DELEGATES:
            same_line = RANK[other] == RANK[room]
            assert RANK[other] < RANK[room] or same_line, f"{name} imports samfast.{other}, which stands to its right"


def test_the_import_check_sees_a_backward_import(tmp_path: Path) -> None:
    offender = tmp_path / "masks.py"
    offender.write_text("def f():\n    from samfast.train import Run\n    return Run\n")
    assert imported_rooms(offender) == {"train"}
    assert RANK["train"] > RANK["masks"]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_samfast_loads_nothing_heavy() -> None:
    loaded = run_python("import sys, samfast; print(*sys.modules)").split()
    heavy = {"torch", "onnxruntime", "cv2", "matplotlib", "rich", "PIL", "numpy"} & set(loaded)
    assert not heavy


def test_rooms_that_promise_it_never_load_torch() -> None:
    modules = [
        info.name for info in pkgutil.walk_packages([str(PACKAGE)], "samfast.") if info.name.split(".")[1] in TORCH_FREE
    ]
    loaded = run_python(f"import sys\nfor name in {modules!r}:\n    __import__(name)\nprint(*sys.modules)").split()
    assert "samfast.inference.segmenter" in loaded
    assert "torch" not in loaded


def test_cli_help_loads_nothing_heavy() -> None:
    loaded = run_python(
        "import sys\nfrom samfast.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\nprint(*sys.modules)"
    ).split()
    assert not {"torch", "onnxruntime", "cv2", "matplotlib"} & set(loaded)


def test_no_module_bears_the_name_of_a_public_function() -> None:
    for info in pkgutil.walk_packages([str(PACKAGE)], "samfast."):
        importlib.import_module(info.name)
    for name in samfast.__all__:
        value = getattr(samfast, name)
        assert callable(value), f"samfast.{name} is {value!r}"


def test_all_public_names_are_listed_once() -> None:
    assert sorted(set(samfast.__all__)) == samfast.__all__
    assert set(samfast.__all__) <= set(dir(samfast))
