#!/usr/bin/env bash
# Takes out of an environment what running does not need: the tools of developers, and, for nodes without a GPU, what only
# a GPU uses. The CUDA libraries that torch loads at import stay: the lock holds one build of torch, and no other imports
# beside its torchvision.
#
#   prune.sh VENV cpu|gpu
set -euo pipefail
venv=$1
accelerator=$2
site=$(echo "$venv"/lib/python3.*/site-packages)

rm -rf "$venv"/bin/{hadolint,shellcheck} "$site"/kubernetes_validate* "$site"/{mypy,mypyc,ruff,pytest,_pytest,hypothesis}
case $accelerator in
gpu) ;;
cpu)
    rm -rf "$site"/triton "$site"/nvidia/cusolverMg
    rm -f "$site"/nvidia/cu13/lib/{libcusolverMg,libnvrtc.alt,libnvperf}*.so* \
        "$site"/nvidia/cudnn/lib/libcudnn_{engines_precompiled,engines_runtime_compiled,heuristic,adv}.so*
    ;;
*)
    echo "ACCELERATOR: expected cpu or gpu, found $accelerator" >&2
    exit 2
    ;;
esac
