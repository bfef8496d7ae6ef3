#!/usr/bin/env bash
# Shows what a stable scale is for: trains a small VDVAE twice on ten bundled photographs, on two ranks, and compares the runs.
# ./run_scripts/quickstart.sh [DIR]; DIR (default: quickstart_runs/ and the time) must not exist yet.
set -euo pipefail
cd "$(dirname "$0")/.."
source run_scripts/venv.sh
ensure_venv requirements.txt

runs=${1:-quickstart_runs/$(date +%Y-%m-%d_%H-%M-%S)}
if [ -e "$runs" ]; then
    echo "error: $runs exists already; name another folder" >&2
    exit 2
fi

train() {
    local name=$1 code=0
    shift
    printf '\n== %s: mpiexec -n 2 .venv/bin/python train.py --hps photos32_overfit %s\n' "$name" "$*"
    .venv/bin/mpiexec -n 2 .venv/bin/python train.py --hps photos32_overfit "$@" --save_dir "$runs" --desc "$name" || code=$?
    if [ $code != 0 ] && [ $code != 3 ]; then exit $code; fi # 3: the run got stuck, which is a result
}

train vanilla --sigma_param vanilla
train stable --stable

printf '\n== comparison\n'
.venv/bin/python -m vdvae.compare "$runs/vanilla" "$runs/stable" --out "$runs/report"
