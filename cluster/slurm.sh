#!/usr/bin/env bash
# A Ray cluster inside a Slurm allocation, and one job on it: sbatch cluster/slurm.sh pipelines/label.py --images ...
# The repository and its .venv must be on a file system that all nodes share; submit from the repository's root.
#SBATCH --job-name=faceattr
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --mem=96G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

# shellcheck source=/dev/null
. .venv/bin/activate
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_idle_worker_killing_time_threshold_ms=60000
# One token an allocation, readable by its owner alone; every node of the allocation reads it from here.
umask 077
state="$HOME/.faceattr/slurm-$SLURM_JOB_ID"
mkdir -p "$state"
trap 'rm -rf "$state"' EXIT
export RAY_AUTH_TOKEN_PATH="$state/auth_token"
python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH"

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | cut -d ' ' -f 1)
port=$((20000 + SLURM_JOB_ID % 10000))

srun --nodes=1 --ntasks=1 --nodelist="$head_node" \
    ray start --head --block --node-ip-address="$head_ip" --port="$port" --dashboard-host=127.0.0.1 \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_ON_NODE" &
until srun --overlap --nodes=1 --ntasks=1 --nodelist="$head_node" ray health-check --address "$head_ip:$port"; do
    sleep 2
done
if ((SLURM_JOB_NUM_NODES > 1)); then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head_node" \
        ray start --block --address="$head_ip:$port" \
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="$SLURM_GPUS_ON_NODE" &
fi

# The driver runs on the head's node. At the end of the time limit it gets SIGTERM, puts things down, and the job is
# requeued: the same command resumes where it stopped.
RAY_ADDRESS="$head_ip:$port" srun --overlap --nodes=1 --ntasks=1 --nodelist="$head_node" python "$@" &
driver=$!
trap 'kill -TERM "$driver"; wait "$driver" || true; rm -rf "$state"; scontrol requeue "$SLURM_JOB_ID"; exit 0' TERM
wait "$driver"
