#!/bin/bash
#SBATCH --nodes=4 --ntasks-per-node=1 --exclusive --time=01:00:00
# Four machines send one load, started by srun: docs/MACHINES.md. Written, and never run on Slurm.
#   sbatch slurm.sh --base-url http://gpu7:8000/v1 --name short_chat
# from the clone, which lies on a disk that all nodes see. srun hands the key, its standard input, to
# each of its tasks.
set -euo pipefail
PATH=$PWD/.venv/bin:$PATH
python bench/bench.py "$@" --plain --machines "$SLURM_NNODES" \
    --senders "srun --overlap --ntasks=$SLURM_NNODES --ntasks-per-node=1 --cpus-per-task=$SLURM_CPUS_ON_NODE python bench/sender.py"
