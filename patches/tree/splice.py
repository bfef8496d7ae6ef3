"""Carries a change of a printed syntax tree over to bytes that the printing does not keep in full."""

import ast
import warnings
from difflib import SequenceMatcher


def spliced(original: bytes, printed: bytes, after: bytes) -> bytes | None:
    """`original` with what differs between `printed` and `after`; None where a changed line has no clear place in it.

    LibCST loses form feeds and some blank lines at a file's end. Elsewhere lines of `printed` are lines of `original`.
    """
    if original == printed:
        return after
    old, text, new = (data.split(b"\n") for data in (original, printed, after))
    places = _places(text, old)
    lines, done = [], 0
    for kind, first, last, new_first, new_last in SequenceMatcher(None, text, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        if first - 1 not in places or any(
            places.get(line) != places[first - 1] + 1 + line - first or old[places[line]] != text[line]
            for line in range(first, last)
        ):
            return None
        start = places[first - 1] + 1
        lines += old[done:start] + new[new_first:new_last]
        done = start + last - first
    result = b"\n".join(lines + old[done:])
    return result if _same_code(result, after) else None


def _places(text: list[bytes], old: list[bytes]) -> dict[int, int]:
    """Where each line of `text`, but for blanks around it, is in `old`; -1 stands for the beginning."""
    stripped = [line.strip() for line in text], [line.strip() for line in old]
    blocks = SequenceMatcher(None, *stripped, autojunk=False).get_matching_blocks()
    return {-1: -1} | {block.a + step: block.b + step for block in blocks for step in range(block.size)}


def _same_code(one: bytes, other: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))
        except SyntaxError:
            return False
