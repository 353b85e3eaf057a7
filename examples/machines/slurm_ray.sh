#!/bin/bash
#SBATCH --nodes=4 --ntasks-per-node=1 --exclusive --time=01:00:00
#SBATCH --no-requeue
# Four machines send one load, placed by Ray: docs/MACHINES.md. Written, and never run on Slurm.
#   sbatch slurm_ray.sh --base-url http://gpu7:8000/v1 --name short_chat
# from the clone, which lies on a disk that all nodes see. At the end symmetric-run calls `ray stop`,
# which ends all that you run with Ray on these nodes: hence --exclusive.
set -euo pipefail
PATH=$PWD/.venv/bin:$PATH
export RAY_worker_niceness=0 RAY_AUTH_MODE=token RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=120
ray get-auth-token --generate >/dev/null     # in ~/.ray, which all nodes see
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --ntasks-per-node=1 ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_NNODES" \
    --resources '{"sender": 1}' -- \
    python bench/bench.py "$@" --plain --ray auto --machines "$SLURM_NNODES"
