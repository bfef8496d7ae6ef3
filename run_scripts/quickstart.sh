#!/usr/bin/env bash
# Trains three small VDVAEs on ten bundled photographs, on two ranks, and compares them: ./run_scripts/quickstart.sh [DIR]
# DIR (default: quickstart_runs/ and the time) must not exist yet. A few minutes on two cores, after the installation.
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
    local name=$1
    shift
    printf '\n== %s: mpiexec -n 2 .venv/bin/python train.py --hps photos32_overfit %s\n' "$name" "$*"
    .venv/bin/mpiexec -n 2 .venv/bin/python train.py --hps photos32_overfit "$@" --save_dir "$runs" --desc "$name"
}

train vanilla --sigma_param vanilla
train upbounded1 --sigma_param upbounded1
train explin_const1 --sigma_param explin --prior_const1

printf '\n== comparison\n'
.venv/bin/python -m vdvae.compare "$runs/vanilla" "$runs/upbounded1" "$runs/explin_const1" --out "$runs/report"
cat <<EOF

Each run's folder in $runs/ holds
  log.jsonl, log.txt     losses, gradient norms and counters over time
  events.jsonl           one line per skipped update or NaN: step, rank, reason, decoder block (if there was any)
  latest-*               checkpoint: weights, averaged weights, optimizer, log
  samples-*.png          originals, reconstructions, samples
The same with curves, a map of skips and the sheets, in a browser:
  $runs/report/report.html
What went wrong in a run, and where:
  .venv/bin/python -m vdvae.inspect $runs/vanilla
EOF
