#!/usr/bin/env bash
# A run on two machines with four GPUs each that goes on by itself when its time is over: sbatch examples/slurm.sh
#SBATCH --job-name=thalweg
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=thalweg-%j.log
set -uo pipefail

# SIGTERM reaches the processes two minutes before the end: they finish the step under way and write a checkpoint. The job
# is then queued again, and the same command goes on. So the folder of the runs must be on a disk that all machines see.
srun --kill-on-bad-exit=1 thalweg train news.jsonl --model transformer --batch-size 256 --checkpoint-every 10m --keep 3
code=$?

# With torchrun, one task a machine (--ntasks-per-node=1); a killed process is then started again without the queue:
#   address=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
#   srun torchrun --nnodes 2 --nproc-per-node 4 --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint "$address:29400" \
#       -m thalweg train news.jsonl --model transformer --batch-size 256 --checkpoint-every 10m --keep 3

if [ "$code" -eq 143 ]; then # 128 + SIGTERM
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
