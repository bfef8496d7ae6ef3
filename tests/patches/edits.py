"""Files as text to the plugin's sources, and edits to the files' new text."""

from collections.abc import Iterable, Mapping

from patches.code.source import Edit, Source


def parse(files: Mapping[str, str | bytes]) -> dict[str, Source]:
    """The sources of files by path."""
    return {path: Source(path, text if isinstance(text, bytes) else text.encode()) for path, text in files.items()}


def edited(sources: Mapping[str, Source], edits: Iterable[Edit]) -> dict[str, str]:
    """The new text of each file that has an edit."""
    edits = list(edits)
    return {path: source.edited([edit for edit in edits if edit.path == path]).decode(source.encoding)
            for path, source in sources.items() if any(edit.path == path for edit in edits)}
