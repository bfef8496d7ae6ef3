#!/bin/bash
# Trains on several machines under Slurm:  sbatch --nodes 4 run_scripts/slurm_train.sh --hps cifar10 --desc big
# Flags of sbatch win over these. Each rank sees all GPUs of its node, or its own alone (--gpus-per-task, --gpu-bind).
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
data. 300 seconds before the time limit the run saves, and the job goes back into the queue and resumes from there.

  sbatch --nodes 4 run_scripts/slurm_train.sh --hps cifar10 --sigma_param explin --desc big
  LAUNCHER=mpiexec sbatch --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 run_scripts/slurm_train.sh --hps my.toml --desc a

Environment: LAUNCHER, srun's --mpi (pmix, the default, pmi2, or another PMI of `srun --mpi=list`; none for one rank), or
mpiexec; PYTHON, the interpreter to use (default: .venv/bin/python); TRAIN, the program to start (default: train.py).
TEXT
}

refuse() {
    printf 'error: %s\n' "$1" >&2
    exit 2
}

# Whether the arguments name the run: the default name may belong to another run, which --resume auto would continue.
names_run() {
    while [[ $# -gt 0 ]]; do
        [[ "$1" == --desc=?* || ( "$1" == --desc && -n "${2:-}" && "${2:-}" != --* ) ]] && return 0
        shift
    done
    return 1
}

[[ "${1:-}" == "--help" || "${1:-}" == "-h" ]] && { usage; exit 0; }
[[ $# -eq 0 ]] && { usage >&2; refuse "no arguments for train.py"; }
names_run "$@" || refuse "no --desc NAME among the arguments: by its name the run is found when the job starts again"
[[ -n "${SLURM_JOB_ID:-}" && -n "${SLURM_NTASKS:-}" ]] || refuse "no SLURM_JOB_ID or SLURM_NTASKS: start this with sbatch"
train=${TRAIN:-train.py}
[[ -f "$train" ]] || refuse "$PWD has no $train: start sbatch in the project's folder, or with --chdir"
python=${PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || refuse "$python is not there: install the project (pip install -r requirements.txt) or set PYTHON"

launcher=${LAUNCHER:-pmix}
case "$launcher" in
    mpiexec) start=(mpiexec -n "$SLURM_NTASKS") ;;
    # --kill-on-bad-exit=0: after a save all ranks end with code 75, and the first one must not get the others killed.
    pmi* | cray* | none) start=(srun "--mpi=$launcher" --kill-on-bad-exit=0 --wait=60) ;;
    *) refuse "LAUNCHER is $launcher: mpiexec, or a PMI that \`srun --mpi=list\` shows" ;;
esac
# srun takes the number of cores from here alone.
[[ -z "${SLURM_CPUS_PER_TASK:-}" ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# SIGUSR1 comes to this shell alone. The launcher passes it on, and train.py saves and ends with code 75.
# SIGTERM (scancel) is not caught: it ends this shell, so a cancelled run does not come back into the queue.
child=""
signalled=""
pass_on() {
    signalled=yes
    [[ -z "$child" ]] || kill -USR1 "$child" 2>/dev/null
}
trap pass_on USR1
"${start[@]}" "$python" "$train" --resume auto "$@" &
child=$!
while :; do
    signalled=""
    wait "$child"
    code=$?
    [[ -n "$signalled" ]] || break  # a signal ends the wait, not the run
done

if [[ "$code" -eq 75 ]]; then
    task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}  # the job's own id can mean the whole array
    scontrol requeue "${task:-$SLURM_JOB_ID}"
fi
exit "$code"
