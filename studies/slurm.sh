#!/bin/bash
# A study as Slurm job arrays that share one directory; docs/job-arrays.md explains it.
#
#   bash studies/slurm.sh submit STUDY DIR SHARDS [options of sbatch]
#
# submits an array that prepares the candidates, an array that measures them, and one last job that
# does what is left: sizes, latency, the report. A task that was lost, or that found the work of
# another one missing, is repaired by submitting the same again: finished work is not done twice.
#
# Options of `shrinkproof run` such as --root and --limit come from the environment, which sbatch
# passes on: SHRINKPROOF_CIFAR10=/data/cifar10, SHRINKPROOF_RUN_LIMIT=1000.

#SBATCH --job-name=shrinkproof
#SBATCH --output=shrinkproof-%j.log
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --time=08:00:00

set -euo pipefail

usage() {
    sed -n 's/^# \{0,1\}//; 2,12p' "$0"
    exit 2
}

# Number of worker processes: of a node's cores only those of this task may be used. With
# `threads: 2` in the study, take half.
workers=${SLURM_CPUS_PER_TASK:-1}

run() {
    # srun passes the signals of a time limit on; newer ones must be told the cores once more.
    srun --cpus-per-task="$workers" shrinkproof run "$@" --workers "$workers"
}

submit() {
    [ $# -ge 3 ] || usage
    local study=$1 folder=$2 shards=$3 prepared measured last
    shift 3
    # afterany, not afterok: a candidate that fails makes its task exit with 1, and the others are
    # measured all the same. A task that finds a candidate neither prepared nor failed stops.
    prepared=$(sbatch --parsable --array="1-$shards" "$@" \
        "$0" prepare "$study" "$folder" "$shards")
    measured=$(sbatch --parsable --array="1-$shards" --dependency="afterany:${prepared%%;*}" "$@" \
        "$0" measure "$study" "$folder" "$shards")
    last=$(sbatch --parsable --dependency="afterany:${measured%%;*}" "$@" \
        "$0" finish "$study" "$folder")
    echo "prepare: job ${prepared%%;*}, measure: job ${measured%%;*}, finish: job ${last%%;*}"
}

[ $# -ge 1 ] || usage
what=$1
shift
case $what in
submit)
    submit "$@"
    ;;
prepare | measure)
    # The number of shards is an argument, because SLURM_ARRAY_TASK_COUNT is smaller where only
    # some tasks of an array are submitted again.
    run "$1" --out "$2" --stage "$what" --shard "$SLURM_ARRAY_TASK_ID/$3"
    ;;
finish)
    run "$1" --out "$2"
    ;;
*)
    usage
    ;;
esac
