#!/usr/bin/env bash
# Convert a folder of FFHQ images to ffhq-256.npy:  run_scripts/setup_ffhq256.sh SOURCE [TARGET]
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: setup_ffhq256.sh SOURCE [TARGET]

Writes ffhq-256.npy (14 GB for the 70,000 faces) into the folder TARGET (default: the current one), which is then the
--data_root of `--hps ffhq256`. SOURCE is a folder of the FFHQ images, at any depth, in the order of their names:
  - 256x256 PNG files stay as they are;
  - larger ones, such as images1024x1024, are scaled down (Lanczos).
The FFHQ project (NVlabs/ffhq-dataset) offers the images.
Environment: PYTHON, the interpreter to use (default: python).
TEXT
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -lt 1 || $# -gt 2 ]] && { usage >&2; exit 2; }

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}"
"${PYTHON:-python}" -m vdvae.data.convert folder "$1" "${2:-.}/ffhq-256.npy" --image_size 256
