#!/usr/bin/env bash
# Learns in eight minutes what there is to learn on one GPU. OUT/report.md has it, and grows as the steps end.
set -uo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'TEXT'
usage: run_scripts/gpu_check.sh OUT [--small]

Runs the steps below one after the other. Each has a time limit and a log, OUT/STEP.log; a step that fails stops none of the
others. OUT must not exist yet. Exit code 1: a step failed or ran out of time (its exit code is 124 then). Paths count from the
project's folder.
--small runs all steps on a CPU with tiny settings, in about three minutes. It is on where PyTorch sees no GPU.
Environment: PYTHON, the interpreter (default: .venv/bin/python); UPSTREAM, a checkout of openai/vdvae, to measure the
original's step too; MNIST, a folder with mnist.npz, for Table 3.
TEXT
}

refuse() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -eq 1 || ( $# -eq 2 && "$2" == "--small" ) ]] && [[ "$1" != -* ]] || { usage >&2; refuse "the arguments are: $*"; }
out=$1 python=${PYTHON:-.venv/bin/python}
[[ ! -e "$out" ]] || refuse "$out exists already; name another folder"
[[ -z "${UPSTREAM:-}" || -f "$UPSTREAM/vae.py" ]] || refuse "UPSTREAM is $UPSTREAM, which has no vae.py"
[[ -z "${MNIST:-}" || -f "$MNIST/mnist.npz" ]] || refuse "MNIST is $MNIST, which has no mnist.npz"
gpu=$("$python" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")') \
    || refuse "$python cannot import torch: install the project, or set PYTHON"
mkdir -p "$out" || exit 2
export PYTHONUNBUFFERED=1

if [[ -z "$gpu" || $# -eq 2 ]]; then
    gpu="no GPU: a CPU with tiny settings, whose figures mean nothing" device=cpu hps=$out/tiny.toml batch=2 large=4 updates=40
    export OMP_NUM_THREADS=1
    rounds=(--rounds 1) collect=(--collect-only) graphs=() few=(--seeds 2 --together 2 --steps 2 --lrs 0.001) epochs=1
    printf '%s\n' 'dataset = "cifar10"' 'width = 8' 'zdim = 2' 'num_mixtures = 1' 'dec_blocks = "1x1,4m1,32m4"' \
        'enc_blocks = "32d8,4d4,1x1"' > "$hps"
else
    device=cuda hps=cifar10 batch=16 large=128 updates=200
    rounds=() collect=() graphs=(--cuda_graphs) few=(--seeds 10 --together 10 --steps 50) epochs=5
fi
upstream=(${UPSTREAM:+--upstream "$UPSTREAM"})
exact=(--deterministic) # what train.py needs to compute the same bits twice
report=$out/report.md failed=0
printf '# What gpu_check.sh learned\n\n%s\n' "$gpu" | tee "$report"

# step NAME SECONDS COMMAND...: runs the command with this limit and adds its section to the report.
step() {
    local name=$1 limit=$2 start=$SECONDS code=0
    shift 2
    printf '\n== %s, %s s at most: %s\n' "$name" "$limit" "$*"
    timeout --kill-after=5 "$limit" "$@" > "$out/$name.log" 2>&1 < /dev/null || code=$?
    [[ $code -eq 0 ]] || failed=1
    section "$name" "$*" "exit code $code after $((SECONDS - start)) s of $limit" >> "$report"
    printf 'exit code %s after %s s\n' "$code" $((SECONDS - start))
}

# The section of a step: its command, how it ended, the tables of its log, the log's last other lines.
section() {
    printf '\n## %s\n\n```\n%s\n```\n\n%s\n' "$1" "$2" "$3"
    # Other output may stand between the rows of a table. A table begins with the row before the one of dashes.
    grep '^|' "$out/$1.log" | awk '/^\|-/ { print "" } NR > 1 { print row } { row = $0 } END { if (NR) print row }'
    printf '\n```\n%s\n```\n' "$(tr '\r' '\n' < "$out/$1.log" | grep -v '^|' | grep . | tail -n 20)"
}

skip() {
    printf '\n## %s\n\nskipped: %s\n' "$1" "$2" | tee -a "$report"
}

versions='import torch, importlib.metadata as m; v = torch.version.cuda, torch.backends.cudnn.version()
print("PyTorch {} CUDA {} cuDNN {}".format(torch.__version__, *v), *(d.name + " " + d.version for d in m.distributions() if d.name == "triton"))'

step versions 15 bash -c 'nvidia-smi; exec "$0" -c "$1"' "$python" "$versions"
step tests 80 "$python" -m pytest tests -m cuda -v --tb=short --continue-on-collection-errors -p no:cacheprovider "${collect[@]}"
[[ -n "${UPSTREAM:-}" ]] || skip original "UPSTREAM names no checkout of openai/vdvae"
train_step=("$python" -m benchmarks.cost.train_step --hps "$hps" --device "$device" "${rounds[@]}")
step train_step_$batch 110 "${train_step[@]}" --n_batch $batch --only switches "${upstream[@]}"
step resumed 75 "$python" -m benchmarks.faults.resumed "$out/runs" --hps "$hps" --dataset photos32 --device "$device" \
    --n_batch $batch --num_iters $updates --sigma_param explin "${graphs[@]}" "${exact[@]}"
step train_step_$large 70 "${train_step[@]}" --n_batch $large --only switches "${upstream[@]}"
step one_rank 35 "$python" -m torch.distributed.run --standalone --nproc_per_node 1 -m benchmarks.cost.one_rank \
    --hps "$hps" --n_batch $batch --device "$device"
step scales 30 "${train_step[@]}" --n_batch $batch --only scales
step table2 25 "$python" -m experiments.table2 --out "$out/table2" --device "$device" "${few[@]}"
if [[ -n "${MNIST:-}" ]]; then
    step table3 20 "$python" -m experiments.table3 --out "$out/table3" --device "$device" --data_root "$MNIST" --epochs $epochs
else
    skip table3 "MNIST names no folder with mnist.npz"
fi
step profile 20 "$python" -m benchmarks.cost.profile_step --hps "$hps" --n_batch $batch --device "$device" --sigma_param explin
printf '\n%s\n' "$report"
exit $failed
