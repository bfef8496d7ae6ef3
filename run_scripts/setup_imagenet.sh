#!/usr/bin/env bash
# Convert downsampled ImageNet to the files that training maps:  run_scripts/setup_imagenet.sh NAME SOURCE [TARGET]
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: setup_imagenet.sh imagenet32|imagenet64 SOURCE [TARGET]

Writes imagenet32-train.npy and imagenet32-valid.npy (or imagenet64-...) into the folder TARGET (default: the current
one), which is then the --data_root of `--hps imagenet32` (or imagenet64).

ImageNet cannot be downloaded without an account, so get it first:
  1. Sign in at image-net.org and accept its terms.
  2. On the download page, under "Downsampled image data", take the npz files of the size you want, train and val.
  3. Unpack them into one folder, SOURCE: train_data_batch_1.npz, train_data_batch_2.npz, ... and val_data.npz.

The published VDVAE figures are for images that were shrunk by another method and are no longer offered, so bits/dim can
differ from the published ones.
Environment: PYTHON, the interpreter to use (default: python).
TEXT
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -lt 2 || $# -gt 3 ]] && { usage >&2; exit 2; }

case "$1" in
    imagenet32) image_size=32 ;;
    imagenet64) image_size=64 ;;
    *) echo "unknown set '$1': choose imagenet32 or imagenet64" >&2; exit 2 ;;
esac
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
"${PYTHON:-python}" -m vdvae.data.convert imagenet "$2" "${3:-.}" --image_size "$image_size"
