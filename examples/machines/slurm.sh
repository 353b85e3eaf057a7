#!/bin/bash
#SBATCH --nodes=4 --ntasks-per-node=1 --exclusive --time=01:00:00
#SBATCH --no-requeue --signal=B:TERM@60
# Four machines send one load, started by srun: docs/MACHINES.md.
#   sbatch slurm.sh --base-url http://gpu7:8000/v1 --name short_chat
# from the clone, which lies on a disk that all nodes see. srun hands the key, its standard input, to
# each of its tasks. A load is not sent twice unasked: no requeue. A minute before the time is over the
# head alone is told to end, as by Ctrl-C; scancel --batch --signal=TERM JOB does the same.
set -euo pipefail
PATH=$PWD/.venv/bin:$PATH
exec python bench/bench.py "$@" --plain --machines "$SLURM_NNODES" \
    --senders "srun --overlap --ntasks=$SLURM_NNODES --ntasks-per-node=1 --cpus-per-task=$SLURM_CPUS_ON_NODE python bench/sender.py"
