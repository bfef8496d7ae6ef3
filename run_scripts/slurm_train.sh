#!/bin/bash
# Trains on several machines under Slurm:  sbatch --nodes 4 run_scripts/slurm_train.sh --hps cifar10 --desc big
# Flags of sbatch win over these. Every rank must see all GPUs of its node: no --gpus-per-task, no --gpu-bind.
#SBATCH --job-name=vdvae
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --requeue

usage() {
    cat <<'TEXT'
usage: sbatch [SBATCH FLAGS] run_scripts/slurm_train.sh --desc NAME [FLAGS OF train.py]

Trains on the nodes of the job, one rank for each task, one task for each GPU (8 a node; for other nodes say both
--ntasks-per-node and --gpus-per-node). Start it in the project's folder, which all nodes must see, as they must see the
data. 300 seconds before the time limit the run saves, and the job goes back into the queue and goes on from there.

  sbatch --nodes 4 run_scripts/slurm_train.sh --hps cifar10 --sigma_param explin --desc big
  LAUNCHER=mpiexec sbatch --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 run_scripts/slurm_train.sh --hps my.toml --desc a

Environment: LAUNCHER, srun's --mpi (pmix, the default, pmi2, or another PMI of `srun --mpi=list`), or mpiexec;
PYTHON, the interpreter to use (default: .venv/bin/python).
TEXT
}

refuse() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

# Whether the arguments name the run: the default name may be another run's, which --resume auto would go on with.
names_run() {
    while [[ $# -gt 0 ]]; do
        [[ "$1" == --desc=?* || ( "$1" == --desc && -n "${2:-}" && "${2:-}" != --* ) ]] && return 0
        shift
    done
    return 1
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -eq 0 ]] && { usage >&2; refuse "no arguments for train.py"; }
names_run "$@" || refuse "no --desc NAME among the arguments: the run goes on by its name when the job is started again"
[[ -n "${SLURM_JOB_ID:-}" && -n "${SLURM_NTASKS:-}" ]] || refuse "no SLURM_JOB_ID or SLURM_NTASKS: start this with sbatch"
[[ -f train.py && -d vdvae ]] || refuse "$PWD has no train.py: start sbatch in the project's folder, or with --chdir"
python=${PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || refuse "$python is not there: make it (pip install -r requirements.txt) or set PYTHON"

launcher=${LAUNCHER:-pmix}
case "$launcher" in
    mpiexec) start=(mpiexec -n "$SLURM_NTASKS") ;;
    # Not --kill-on-bad-exit: after a save all ranks end with code 75, and the first would have the others killed.
    pmi* | cray*) start=(srun "--mpi=$launcher" --kill-on-bad-exit=0 --wait=60) ;;
    *) refuse "LAUNCHER is $launcher: mpiexec, or a PMI that \`srun --mpi=list\` shows" ;;
esac
# srun takes the number of cores from here alone.
[[ -z "${SLURM_CPUS_PER_TASK:-}" ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# SIGUSR1 comes to this shell alone; the launcher passes it on, and train.py saves and ends with code 75.
# SIGTERM (scancel) is not caught: it ends this shell, so that a cancelled run stays out of the queue.
child=""
signalled=""
pass_on() {
    signalled=yes
    [[ -z "$child" ]] || kill -USR1 "$child" 2>/dev/null
}
trap pass_on USR1
"${start[@]}" "$python" train.py --resume auto "$@" &
child=$!
while :; do
    signalled=""
    wait "$child"
    code=$?
    [[ -n "$signalled" ]] || break  # a signal ends the wait, not the run
done

if [[ "$code" -eq 75 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
