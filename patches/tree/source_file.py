"""From the bytes of a Python file to its syntax tree, or to a message that says what is wrong with it."""

import ast
import io
import re
import tokenize
import warnings

import libcst as cst

from patches.problems import CheckoutError


def parse_source(path: str, data: bytes) -> cst.Module:
    """The syntax tree; raises CheckoutError, with file and line, for what is not Python 3 or does not decode."""
    text = _decode(path, data)
    error = syntax_error(data)
    if error is None:
        try:
            return cst.parse_module(data)
        except cst.ParserSyntaxError as refusal:
            error = SyntaxError(refusal.message, (path, refusal.raw_line, 0, None))
    lines = re.split(r"\r\n|\r|\n", text)
    number = min(error.lineno or 1, len(lines))
    raise CheckoutError(f"{path}:{number}: syntax error: {error.msg}\n    | {lines[number - 1].rstrip()}\n"
                        "    only Python 3 is read: correct it, or move the file out of the tree")


def syntax_error(data: bytes) -> SyntaxError | None:
    """The error of Python's own parser, which is asked first because deep nesting crashes LibCST; None for no error."""
    try:
        parse_quietly(data)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError) as error:
        return SyntaxError(str(error) or "it is nested too deeply")
    return None


def parse_quietly(data: bytes) -> ast.Module:
    """Python's own syntax tree, without warnings about the user's strings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(data)


def _decode(path: str, data: bytes) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[:error.start].count(b"\n") + 1
        raise CheckoutError(f"{path}:{line}: byte 0x{data[error.start]:02x} is not {error.encoding}; "
                            "save the file as UTF-8 or declare its encoding in its first line") from None
    except (SyntaxError, LookupError) as error:
        raise CheckoutError(f"{path}:1: its encoding is not known: {error}; save the file as UTF-8") from None
