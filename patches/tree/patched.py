"""Whether a checkout is patched already."""

from pathlib import Path, PurePosixPath

from patches.tree.errors import CheckoutError
from patches.tree.manifest import Manifest, read_manifest


def is_patched(root: Path, vendor: bool) -> bool:
    """True if --write has been here and every file is as it left it.

    Raises CheckoutError, naming the files, if some are not, and if stable_params shall be copied but was not then.
    """
    manifest = read_manifest(root)
    if manifest is None:
        return False
    different = manifest.not_as_written(root)
    if different:
        raise CheckoutError(_describe(root, manifest, different))
    if vendor and not any("stable_params" in PurePosixPath(entry.path).parts for entry in manifest.files):
        raise CheckoutError("already patched without --vendor: --revert, then --write --vendor")
    return True


def _describe(root: Path, manifest: Manifest, different: list[str]) -> str:
    if manifest.edited(root):
        return (f"already patched, and these differ from what was written: {', '.join(different)}; "
                "--revert --force restores the originals, without what was edited since")
    return f"patched in part, these are as they were before --write: {', '.join(different)}; --revert, then start again"
