"""The hand-written stub says what the binary takes."""

from __future__ import annotations

import ast
import inspect
import operator
from pathlib import Path

import samfast
from samfast import _rust

STUB = ast.parse(Path(samfast.__file__).with_name("_rust.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name != "BuildInfo"}


def functions(nodes: list[ast.stmt], owner: str = "") -> dict[str, ast.FunctionDef]:
    return {owner + node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


FUNCTIONS = functions(STUB.body)
METHODS = {name: node for owner, of in CLASSES.items() for name, node in functions(of.body, f"{owner}.").items()}


def signature(name: str) -> inspect.Signature:
    """Of a function or method of the binary; pyo3 gives a constructor's on the class."""
    return inspect.signature(operator.attrgetter(name.removesuffix(".__init__"))(_rust))


def test_the_stub_is_complete() -> None:
    exported = {name for name in dir(_rust) if not name.startswith("_")}
    assert set(FUNCTIONS) | set(CLASSES) == exported
    assert set(_rust.__all__) == exported
    for owner in CLASSES:
        public = {f"{owner}.{name}" for name in vars(getattr(_rust, owner)) if not name.startswith("_")}
        assert {name for name in METHODS if name.startswith(f"{owner}.") and "__" not in name} == public


def test_parameters_and_defaults_are_the_binarys() -> None:
    for name, node in {**FUNCTIONS, **METHODS}.items():
        binary = {key: p for key, p in signature(name).parameters.items() if key != "self"}
        assert [argument.arg for argument in node.args.args if argument.arg != "self"] == list(binary), name
        defaults = [ast.literal_eval(default) for default in node.args.defaults]
        assert defaults == [p.default for p in binary.values() if p.default is not inspect.Parameter.empty], name


def test_every_function_says_what_it_does() -> None:
    names = [*FUNCTIONS, *CLASSES, *(name for name in METHODS if "__" not in name)]
    assert all(operator.attrgetter(name)(_rust).__doc__ for name in names)


def test_build_info_has_the_keys_of_the_stub() -> None:
    (build_info,) = (node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == "BuildInfo")
    keys = {node.target.id for node in build_info.body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    assert set(_rust.build_info()) == keys
