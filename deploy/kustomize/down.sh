#!/usr/bin/env bash
# `just k8s-down`: remove the cluster that `just k8s-up` has made, with its volumes: what waited for its truth, metrics,
# MLflow's runs. The secrets stay, in data/kubernetes, for the next one.
set -euo pipefail

if ! command -v minikube >/dev/null; then
    echo 'error: not found on the PATH: minikube. How to install it: https://minikube.sigs.k8s.io/docs/start' >&2
    exit 1
fi
minikube delete --profile calsvc
