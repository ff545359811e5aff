# SPDX-License-Identifier: Apache-2.0
"""The stub file names the parameters of the extension: stubtest cannot see them, the extension's signatures can."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import wavefix
from compare_stubs import differences
from wavefix import _core

Parameters = list[tuple[str, bool]]  # name, has a default


def stub_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    stub = Path(wavefix.__file__).with_name("_core.pyi")
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and not member.decorator_list:
                    yield f"{node.name}.{member.name}", member


def stub_parameters(function: ast.FunctionDef) -> Parameters:
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    required = len(positional) - len(arguments.defaults)
    named = [(argument.arg, index >= required) for index, argument in enumerate(positional)]
    named += [(a.arg, d is not None) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [entry for entry in named if entry[0] != "self"]


def extension_parameters(name: str) -> Parameters | None:
    """Parsed from the first line that pybind11 writes into a docstring; None where it wrote none that Python reads."""
    target = _core
    for part in name.split("."):
        target = getattr(target, part)
    signature = re.match(r"\w+\((.*)\) -> ", (target.__doc__ or "").splitlines()[0])
    if signature is None:
        return None
    text = re.sub(r"<[^<>]*>|\{[^{}]*\}", "None", signature[1])  # reprs of default values
    parsed = ast.parse(f"def f({text}): ...").body[0]
    assert isinstance(parsed, ast.FunctionDef)
    return stub_parameters(parsed)


FUNCTIONS = {
    name: node for name, node in stub_functions() if name.rsplit(".")[-1] not in ("__getstate__", "__setstate__")
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_stub_has_the_parameters_of_the_extension(name: str) -> None:
    parameters = extension_parameters(name)
    assert parameters is not None, f"{name}: no signature in its docstring"
    assert parameters == stub_parameters(FUNCTIONS[name])


GENERATED = """
class Thing:
    def __init__(self, size: typing.SupportsInt | typing.SupportsIndex, rows: typing.Any = None) -> None: ...
    @property
    def values(self) -> numpy.typing.NDArray[numpy.float64]: ...
def work(thing: Thing, name: str) -> tuple: ...
"""
COMMITTED = """
class Thing:
    def __init__(self, size: int, rows: NDArray[np.float64] | None = None) -> None: ...
    @property
    def values(self) -> NDArray[np.float64]: ...
def work(thing: Thing, name: str) -> tuple[int, float]: ...
"""


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("size: int", "size: float", "Thing.__init__"),
        ("size: int", "length: int", "Thing.__init__"),
        (" = None", "", "Thing.__init__"),
        (", name: str", "", "work"),
        ("name: str", "name: bytes", "work"),
        ("NDArray[np.float64]: ...\ndef", "NDArray[np.float32]: ...\ndef", "Thing.values"),
        ("def values", "def value", "Thing.values"),
        ("def work", "def more(): ...\ndef work", "more"),
    ],
)
def test_a_stub_that_the_generator_contradicts_is_noticed(before: str, after: str, name: str) -> None:
    assert differences(GENERATED, COMMITTED) == []
    assert before in COMMITTED
    assert any(name in line for line in differences(GENERATED, COMMITTED.replace(before, after)))
