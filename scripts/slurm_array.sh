#!/bin/bash
# Train one sweep on many machines of a SLURM cluster: every task of the array is a process of its
# own, takes blocks that nobody has from the folder that all see, and gives them back if it dies.
#
#     sbatch scripts/slurm_array.sh my_study.py runs/my_study
#     sbatch scripts/slurm_array.sh paper results         (an experiment: then measure it, see below)
#
# Send the same line again to go on with what a cancelled or dead job left. On a file system without
# locks, replace `claim` by "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" (study files only).
# Once all is trained:  ih-jax run paper --out results --resume
#SBATCH --job-name=ih_jax
#SBATCH --array=0-7
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=INT@120
set -eu
study=${1:?a study file or the name of an experiment}
folder=${2:?the folder for its results, on a file system that all machines see}
# exec: the signal before the time limit reaches ih-jax, which saves and stops.
exec srun --ntasks=1 ih-jax run "$study" --out "$folder" --share claim --quiet
