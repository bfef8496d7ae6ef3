"""From a file's bytes to its syntax tree, or to a message that says what is wrong with it."""

import ast
import io
import re
import tokenize
import warnings

import libcst as cst

from patches.tree.errors import CheckoutError

_PYTHON_2 = {
    "a print statement": r"\s*print\b\s*(?![\s(=.,:)\]]|$)",
    "an exec statement": r"\s*exec\b\s*(?![\s(=.,:)\]]|$)",
    "except X, e": r"\s*except\s+[^:()]+,\s*\w+\s*:",
    "raise X, message": r"\s*raise\s+[\w.]+\s*,",
    "backticks": r"[^#'\"]*`[^`]*`",
    "the operator <>": r"[^#'\"]*<>",
    "a ur'' string": r"[^#'\"]*\b[uU][rR]['\"]",
    "an octal number such as 0777": r"[^#'\"]*(?<![\w.])0\d+\b",
}


def parse_source(path: str, data: bytes) -> cst.Module:
    """The syntax tree; raises CheckoutError, naming file and line, for what is not Python 3 or does not decode."""
    text = _decode(path, data)
    error = syntax_error(data)
    if error is not None:
        raise CheckoutError(_describe(path, text, error))
    try:
        return cst.parse_module(data)
    except cst.ParserSyntaxError as error:
        found = SyntaxError(error.message, (path, error.raw_line, 0, None))
        raise CheckoutError(_describe(path, text, found)) from None


def syntax_error(data: bytes) -> SyntaxError | None:
    """What Python's own parser says against the bytes; asked first because deep nesting crashes LibCST."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(data)
        except SyntaxError as error:
            return error
        except (ValueError, RecursionError, MemoryError) as error:
            return SyntaxError(str(error) or "it is nested too deeply")
    return None


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


def _describe(path: str, text: str, error: SyntaxError) -> str:
    lines = re.split(r"\r\n|\r|\n", text)
    number = min(error.lineno or 1, len(lines))
    line = lines[number - 1]
    old = next((name for name, pattern in _PYTHON_2.items() if re.match(pattern, line)), None)
    shown = f"\n    | {line.rstrip()}\n    "
    if old is not None:
        return f"{path}:{number}: Python 2 code ({old}); only Python 3 is read{shown}convert it first"
    return f"{path}:{number}: syntax error: {error.msg}{shown}correct it, or move the file out of the tree"
