"""The hand-written stub says what the binary takes."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import samfast
from samfast import _rust

STUB = ast.parse(Path(samfast.__file__).with_name("_rust.pyi").read_text())
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}


def test_the_stub_is_complete() -> None:
    exported = {name for name in dir(_rust) if not name.startswith("_")}
    assert set(FUNCTIONS) == exported
    assert set(_rust.__all__) == exported


def test_parameters_and_defaults_are_the_binarys() -> None:
    for name, node in FUNCTIONS.items():
        binary = inspect.signature(getattr(_rust, name)).parameters
        assert [argument.arg for argument in node.args.args] == list(binary), name
        defaults = [ast.literal_eval(default) for default in node.args.defaults]
        assert defaults == [p.default for p in binary.values() if p.default is not inspect.Parameter.empty], name


def test_every_function_says_what_it_does() -> None:
    assert all(getattr(_rust, name).__doc__ for name in FUNCTIONS)


def test_build_info_has_the_keys_of_the_stub() -> None:
    (build_info,) = (node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == "BuildInfo")
    keys = {node.target.id for node in build_info.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    assert set(_rust.build_info()) == keys
