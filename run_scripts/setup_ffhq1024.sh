#!/usr/bin/env bash
# Arrange the FFHQ images into training and validation folders:  run_scripts/setup_ffhq1024.sh [TARGET]
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: setup_ffhq1024.sh [TARGET]

TARGET (default: the current folder) must hold images1024x1024/ of the FFHQ project (NVlabs/ffhq-dataset): 70,000 files
00000.png, 00001.png, ..., in one folder or in folders of a thousand. Fills TARGET/ffhq1024/train with links to the
numbers below 60000 and TARGET/ffhq1024/valid with links to the other 10,000, the division that FFHQ itself recommends.
TARGET is then the --data_root of `--hps ffhq1024`; the images stay where they are.
TEXT
}

link_all() {  # $1: folder, then: files
    local folder="$1"
    shift
    mkdir -p "$folder"
    printf '%s\0' "$@" | xargs -0 ln --symbolic --relative --force --target-directory="$folder"
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -gt 1 ]] && { usage >&2; exit 2; }

target="${1:-.}"
images="$target/images1024x1024"
[[ -d "$images" ]] || { echo "$images is missing: see setup_ffhq1024.sh --help" >&2; exit 1; }

train=() valid=()
while IFS= read -r -d '' file; do
    name="${file##*/}"
    if ((10#${name%.png} < 60000)); then train+=("$file"); else valid+=("$file"); fi
done < <(find -L "$images" -name '[0-9][0-9][0-9][0-9][0-9].png' -print0 | sort -z)

if [[ ${#train[@]} -eq 0 || ${#valid[@]} -eq 0 ]]; then
    echo "$images has ${#train[@]} images numbered below 60000 and ${#valid[@]} others: both are needed" >&2
    exit 1
fi
link_all "$target/ffhq1024/train" "${train[@]}"
link_all "$target/ffhq1024/valid" "${valid[@]}"
echo "$target/ffhq1024: ${#train[@]} train, ${#valid[@]} valid"
total=$((${#train[@]} + ${#valid[@]}))
[[ $total -eq 70000 ]] || echo "note: FFHQ has 70000 images, found $total" >&2
