#!/usr/bin/env bash
# `just k8s-up`: a minikube cluster of its own, called calsvc, with the images of this checkout; then minikube/ with secrets
# of your own, applied and waited for. What is there already is kept and brought up to date. The arguments are the Python
# that trains, where there is no model yet. docs/kubernetes.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly profile=calsvc      # of minikube, and kubectl's context
readonly own=data/kubernetes # not committed: secrets, and which images were built
readonly python=("${@:-python3}")

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

say() {
    printf '\n== %s\n' "$1"
}

check_programs() {
    local program lacking=()
    for program in docker minikube kubectl; do
        command -v "$program" >/dev/null || lacking+=("$program")
    done
    if ((${#lacking[@]})); then
        fail "not found on the PATH: ${lacking[*]}. How to install them: https://docs.docker.com/engine/install, \
https://minikube.sigs.k8s.io/docs/start, https://kubernetes.io/docs/tasks/tools"
    fi
    docker info >/dev/null 2>&1 || fail "docker is there, but its engine does not answer: start it; docker info says more"
}

# Half of the machine, but no less than minikube and everything in it need.
half_of() { # what there is, the least
    local half=$(($1 / 2))
    echo $((half > $2 ? half : $2))
}

start_cluster() {
    local cpus memory pages page
    cpus=$(half_of "$(getconf _NPROCESSORS_ONLN)" 2)
    pages=$(getconf _PHYS_PAGES 2>/dev/null || echo 0) # not known everywhere
    page=$(getconf PAGESIZE)
    memory=$(half_of $((pages * page / 1048576)) 4096)
    # Calico, because minikube's own network lets everybody talk to everybody, whatever the policies say.
    minikube start --profile "$profile" --cpus "$cpus" --memory "${memory}m" --cni calico --addons metrics-server
}

# minikube's own looks once a minute: bursts would be over before the autoscaler has heard of them.
look_at_cpu_often() {
    kubectl --context "$profile" --namespace kube-system get deployment metrics-server --output yaml |
        sed 's/--metric-resolution=[0-9]*s/--metric-resolution=15s/' |
        kubectl --context "$profile" replace --filename -
}

load_image() { # image:tag
    # Under a tag of its own, so that a Deployment notices; and as dev, for `kubectl apply -k` by hand.
    if ! minikube image ls --profile "$profile" | grep "$1\$" >/dev/null; then
        minikube image load --profile "$profile" "$1"
    fi
    minikube image tag --profile "$profile" "$1" "${1%:*}:dev"
}

random() {
    od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'
}

write_secrets() { # once: what is there stays
    (
        umask 077
        if [[ ! -e $own/calsvc.env ]]; then
            printf 'CALSVC_TOKEN=%s\n' "$(random)" >"$own/calsvc.env"
        fi
        if [[ ! -e $own/grafana.env ]]; then
            printf '%s\n' "GF_SECURITY_ADMIN_PASSWORD=$(random)" GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION=false \
                GF_AUTH_DISABLE_LOGIN_FORM=false GF_AUTH_BASIC_ENABLED=true >"$own/grafana.env"
        fi
    )
}

write_overlay() { # image:tag ...
    {
        cat <<'YAML'
# Written by deploy/kustomize/up.sh, anew each time: put changes of yours into an overlay over this one.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: calsvc
resources: [../../deploy/kustomize/minikube]
secretGenerator:
  - {name: calsvc-secrets, namespace: calsvc, behavior: merge, envs: [calsvc.env]}
  - {name: grafana-admin, namespace: calsvc, behavior: merge, envs: [grafana.env]}
images:
YAML
        local image
        for image in "$@"; do
            printf '  - {name: %s, newTag: "%s"}\n' "${image%:*}" "${image#*:}"
        done
    } >"$own/kustomization.yaml"
}

kube() {
    kubectl --context "$profile" --namespace calsvc "$@"
}

wait_for_all() {
    local workload
    for workload in $(kube get deployments,statefulsets --output name); do
        if ! kube rollout status "$workload" --timeout 10m; then
            kube get pods >&2
            fail "$workload does not become ready; why: kubectl --context $profile -n calsvc describe $workload"
        fi
    done
}

print_addresses() {
    local row name port what
    say 'Everything runs. Ways in, each for as long as its command runs, on 127.0.0.1 only:'
    for row in 'calsvc 8000 the live page, calls' 'grafana 3000 dashboards' 'prometheus 9090 queries, alerts' \
        'jaeger 16686 traces' 'pyroscope 4040 profiles' 'mlflow 5000 runs, model versions'; do
        read -r name port what <<<"$row"
        printf '  kubectl --context %s -n calsvc port-forward service/%-10s %-5s  # http://127.0.0.1:%s  %s\n' \
            "$profile" "$name" "$port" "$port" "$what"
    done
    cat <<TEXT
  kubectl --context $profile -n calsvc get pods,hpa --watch
Calls need the token in $own/calsvc.env. Looking at Grafana needs nothing, its user admin the password in
$own/grafana.env. To remove it all: just k8s-down
TEXT
}

main() {
    local image built=()
    check_programs
    mkdir -p "$own"
    say 'Model'
    "${python[@]}" -m calsvc.training.train --if-needed
    say 'Images'
    while read -r image; do
        built+=("$image")
    done < <(deploy/kustomize/images.sh)
    ((${#built[@]} == 3)) || fail "the images could not be built; what went wrong is above"
    say 'Cluster'
    start_cluster
    look_at_cpu_often
    for image in "${built[@]}"; do
        load_image "$image"
    done
    say 'Apply'
    write_secrets
    write_overlay "${built[@]}"
    kubectl --context "$profile" apply --kustomize "$own"
    wait_for_all
    print_addresses
}

main
