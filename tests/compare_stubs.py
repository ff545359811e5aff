# SPDX-License-Identifier: Apache-2.0
"""The committed stub beside one that pybind11-stubgen has just generated: ``compare_stubs.py GENERATED COMMITTED``.

The generator knows members, parameters, defaults and the types that pybind11 converts. Where it knows no more than
``Any``, ``tuple`` or ``ndarray``, the committed stub names what is inside; everything else has to be the same.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

# What the generator says for a parameter that takes anything that converts, and what a caller should hand over.
SAME = {
    "typing.SupportsFloat | typing.SupportsIndex": "float",
    "typing.SupportsInt | typing.SupportsIndex": "int",
    "numpy.typing.NDArray[numpy.float64]": "NDArray[np.float64]",
    "typing.SupportsComplex | typing.SupportsFloat | typing.SupportsIndex": "complex",
}
BROADER = ("typing.Any", "tuple", "list", "numpy.ndarray")  # or anything that begins so and lists converted elements
NESTED = ("tuple[typing.Annotated", "collections.abc.Sequence", "typing.Annotated")
LEFT_OUT = {"__all__", "__version__"}


def annotation(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


def members(body: list[ast.stmt], prefix: str = "") -> dict[str, list[tuple[str, bool, str]]]:
    """Name of each function, property and attribute, with name, default and type of its parameters, "return" last."""
    found: dict[str, list[tuple[str, bool, str]]] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            found[prefix + node.name] = []
            if node.name != "Status":  # an enumeration: stubtest compares its values
                found |= members(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            if any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list):
                continue
            arguments = node.args.posonlyargs + node.args.args
            required = len(arguments) - len(node.args.defaults)
            entry = [(a.arg, i >= required, annotation(a.annotation)) for i, a in enumerate(arguments)]
            found[prefix + node.name] = [
                *entry[entry[:1] == [("self", False, "")] :],
                ("return", False, annotation(node.returns)),
            ]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[prefix + node.target.id] = [("return", False, annotation(node.annotation))]
    return {name: entry for name, entry in found.items() if name not in LEFT_OUT}


def agree(generated: str, committed: str) -> bool:
    return generated in BROADER or generated.startswith(NESTED) or SAME.get(generated, generated) == committed


def differences(generated: str, committed: str) -> list[str]:
    made, ours = (members(ast.parse(text).body) for text in (generated, committed))
    # the exceptions are made by Python's own interface, and the generator takes them for imports
    found = [f"only generated: {name}" for name in made.keys() - ours.keys()]
    found += [f"only committed: {name}" for name in ours.keys() - made.keys() if not name.endswith(("Error", "openmp"))]
    for name in made.keys() & ours.keys():
        same = len(made[name]) == len(ours[name]) and all(
            a[:2] == b[:2] and agree(a[2], b[2]) for a, b in zip(made[name], ours[name], strict=True)
        )
        if not same:
            found.append(f"{name}: generated {made[name]}, committed {ours[name]}")
    return sorted(found)


def main() -> int:
    found = differences(*(Path(name).read_text(encoding="utf-8") for name in sys.argv[1:3]))
    print("\n".join(found) or "the committed stub says what the generated one says, and what is inside of its arrays")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
