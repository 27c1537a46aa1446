#!/usr/bin/env bash
# The three images of the cluster, with model, held-out rows and handout inside: built in the engine that `docker` talks to,
# tagged `dev` and with the beginning of their id, which stdout tells, one image a line. The checkout has to have a model:
# `just train`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly own=data/kubernetes
readonly context=$own/context
readonly handout=${CALSVC_HANDOUT_DIR:-handout_from DS_agent}

lay_out_context() {
    local needed
    for needed in data/bundle/bundle.json data/holdout/stream.csv "$handout/train.py"; do
        if [[ ! -e $needed ]]; then
            printf 'error: %s is missing: just train makes model and held-out rows of CALSVC_HANDOUT_DIR\n' "$needed" >&2
            exit 1
        fi
    done
    rm -rf "$context"
    mkdir -p "$context"
    cp -R "$(realpath data/bundle)" "$context/bundle" # a link to the version that is served
    cp data/holdout/stream.csv "$context/stream.csv"
    cp -R "$handout" "$context/handout"
    chmod -R a+rX "$context" # whoever runs it is another user
}

build() { # image, target of deploy/compose/Dockerfile
    local id sha
    sha=$(git rev-parse --verify HEAD 2>/dev/null || echo unknown)
    docker build --file deploy/compose/Dockerfile --target "$2" --tag "$1:dev" \
        --build-arg "GIT_SHA=$sha" --build-arg "INDEX_URL=${INDEX_URL:-}" . >&2
    docker build --file deploy/kustomize/Dockerfile --target "$1" --iidfile "$own/id" "$context" >&2
    id=$(<"$own/id")
    id=${id#sha256:}
    docker tag "$id" "$1:dev"
    docker tag "$id" "$1:${id:0:12}"
    printf '%s:%s\n' "$1" "${id:0:12}"
}

lay_out_context
build calsvc serve
build calsvc-streamsim streamsim
build calsvc-training training
