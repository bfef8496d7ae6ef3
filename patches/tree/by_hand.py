"""Recognises a checkout that already uses stable_params, or has its flags, without this plugin."""

import ast
import re
import warnings
from collections.abc import Mapping

from patches.tree.errors import CheckoutError


def refuse_patched_by_hand(originals: Mapping[str, bytes]) -> None:
    """Raises CheckoutError, naming file and line, if code imports stable_params or has the string '--sigma_param'."""
    for path, data in originals.items():
        lines = lines_by_hand(data)
        if lines:
            code = re.split(rb"\r\n|\r|\n", data)[lines[0] - 1].decode(errors="replace").strip()
            raise CheckoutError(f"{path}:{lines[0]}: this looks patched by hand, there is no record of --write\n"
                                f"    | {code}\n    a tree that uses stable_params is left alone; patch a clean one")


def lines_by_hand(data: bytes) -> list[int]:
    """Lines of the imports of stable_params and of the strings '--sigma_param' in a file that parses."""
    if b"stable_params" not in data and b"--sigma_param" not in data:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(node.lineno for node in ast.walk(ast.parse(data)) if _is_ours(node))


def _is_ours(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any("stable_params" in alias.name.split(".") for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return "stable_params" in [*(node.module or "").split("."), *(alias.name for alias in node.names)]
    return isinstance(node, ast.Constant) and node.value == "--sigma_param"
