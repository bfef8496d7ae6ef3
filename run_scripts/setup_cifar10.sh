#!/usr/bin/env bash
# Download CIFAR-10 and unpack it:  run_scripts/setup_cifar10.sh [TARGET]
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: setup_cifar10.sh [TARGET]

Puts cifar-10-batches-py/ into the folder TARGET (default: the current one), which is then the --data_root of
`--hps cifar10`. Downloads cifar-10-python.tar.gz (170 MB) unless TARGET has it already; the MD5 is checked either way.
Environment: CIFAR10_URL, another place to get the archive from; CIFAR10_MD5, the MD5 to expect.
TEXT
}

download() {  # $1: url, $2: file
    if command -v curl >/dev/null; then
        curl --fail --location --output "$2" "$1"
    else
        wget --output-document="$2" "$1"
    fi
}

has_md5() {  # $1: file, $2: md5
    echo "$2  $1" | md5sum --check --status
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -gt 1 ]] && { usage >&2; exit 2; }

target="${1:-.}"
url="${CIFAR10_URL:-https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz}"
md5="${CIFAR10_MD5:-c58f30108f718f92721af3b95e74349a}"
archive="$target/cifar-10-python.tar.gz"
mkdir -p "$target"

if [[ -f "$archive" ]]; then
    if ! has_md5 "$archive" "$md5"; then
        echo "$archive does not have the MD5 $md5: move it away to download it again" >&2
        exit 1
    fi
else
    trap 'rm -f "$archive.partial"' EXIT
    download "$url" "$archive.partial"
    if ! has_md5 "$archive.partial" "$md5"; then
        echo "the file from $url does not have the MD5 $md5; removed it" >&2
        exit 1
    fi
    mv "$archive.partial" "$archive"
fi
tar -xzf "$archive" -C "$target"
echo "CIFAR-10 is in $target/cifar-10-batches-py; train with --hps cifar10 --data_root $target"
