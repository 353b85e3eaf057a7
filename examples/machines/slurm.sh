#!/bin/bash
#SBATCH --nodes=4 --ntasks-per-node=1 --exclusive --time=01:00:00
# Four machines send one load, started by srun: docs/MACHINES.md. Written, and never run on Slurm.
#   sbatch slurm.sh http://gpu7:8000/v1 short_chat     from the clone, on a disk that all nodes see
set -euo pipefail
PATH=$PWD/.venv/bin:$PATH
# srun hands its standard input, the key, to each of its tasks, and names the nodes' own addresses.
python bench/bench.py --base-url "$1" --name "$2" --plain --machines "$SLURM_NNODES" \
    --senders "srun --overlap --ntasks=$SLURM_NNODES --ntasks-per-node=1 --cpus-per-task=$SLURM_CPUS_ON_NODE python bench/sender.py"
