# Run `./justw` instead of `just` on a machine that has only Python 3.11+: it brings just and uv along.

set positional-arguments

# What a shell has set for other projects would change which one uv runs, and with which packages.
unexport PYTHONHOME
unexport PYTHONPATH
unexport UV_NO_BINARY
unexport UV_NO_DEFAULT_GROUPS
unexport UV_NO_DEV
unexport UV_NO_EDITABLE
unexport UV_NO_GROUP
unexport UV_NO_PROJECT
unexport UV_NO_SYNC
unexport UV_PROJECT
unexport UV_PROJECT_ENVIRONMENT
unexport UV_WORKING_DIR

python := "uv run --frozen --all-extras python"

# For commands that are given paths: relative ones are of the folder in which just was called
command := "env JUST_INVOCATION_DIRECTORY=" + quote(invocation_directory()) + " " + python

# Show this list
[private]
default:
    @just --list --unsorted

# Train, serve, stream for a minute, and compare the service's numbers with the same computed offline
[group('see it')]
demo *args:
    @{{ command }} -m streamsim demo "$@"

# Serve the model on http://127.0.0.1:8000, training it first where there is none (docs/settings.md)
[group('run')]
serve:
    @exec {{ command }} -m calsvc

# Replay held-out rows in bursts and send each truth when it is due: just stream --rps 20 --on 5 --off 25
[group('run')]
stream *args:
    @exec {{ command }} -m streamsim stream "$@"

# Load the service for a minute, open loop, and write an HTML report: just stress 500 --p99 50ms --errors 0.1%
[group('run')]
stress *args:
    @exec {{ command }} -m streamsim stress "$@"

# Run it in containers, with any of simulator, observability, mlflow, replicas: just up observability simulator
[group('run')]
up *args:
    @{{ command }} deploy/compose/stack.py up "$@"

# Remove the containers of all layers; with `volumes` also what they have stored
[group('run')]
down *args:
    @{{ command }} deploy/compose/stack.py down "$@"

# Follow what the containers say, all of them or some: just logs calsvc
[group('run')]
logs *args:
    @{{ command }} deploy/compose/stack.py logs "$@"

# Start a cluster in minikube with everything in it, replicas by load, and say how to get in (docs/kubernetes.md)
[group('run')]
k8s-up:
    @deploy/kustomize/up.sh {{ python }}

# Remove that cluster, with all that it has stored
[group('run')]
k8s-down:
    @deploy/kustomize/down.sh

# Load that cluster from a Job in it; the report has replicas and CPU over time: just k8s-stress 500 --duration 300
[group('run')]
k8s-stress *args:
    @exec {{ command }} -m streamsim.cluster "$@"

# Set rows aside that the model never sees, for streaming: just holdout --data FILE
[group('model')]
holdout *args:
    @{{ command }} -m calsvc.training.holdout "$@"

# Run the handout's own train.py on the rest, prove the fast scorer against it, publish the bundle
[group('model')]
train *args:
    @{{ command }} -m calsvc.training.train "$@"

# Make the challenger champion, if it is not worse on the held-out rows (docs/registry.md)
[group('model')]
promote *args:
    @{{ command }} -m calsvc.training.promote "$@"

# Make the champion of before champion again
[group('model')]
rollback *args:
    @{{ command }} -m calsvc.training.rollback "$@"

# Look at runs, plots and versions on http://127.0.0.1:5000
[group('model')]
mlflow *args:
    @exec {{ command }} -m calsvc.training.mlflow_ui "$@"

# Score a CSV with the bundle: just predict --data FILE --out predictions.csv
[group('model')]
predict *args:
    @{{ command }} -m calsvc.training.predict "$@"

# Run the quick tests, or some: just test tests/feedback -k window; `just test all` runs everything that it can here
[group('develop')]
test *args:
    @{{ python }} -m tests "$@"

# Look for inputs that break a property, at random, fifty times as many as in the tests: just search tests/feedback
[group('develop')]
search *args:
    @{{ python }} -m pytest --numprocesses=auto --timeout=0 --hypothesis-profile=search -m hypothesis "$@"

# Format, lint, types, and whether the docs say what the code does
[group('develop')]
check:
    uv run --frozen ruff format --check .
    uv run --frozen ruff check .
    {{ python }} -m mypy
    {{ python }} -m pytest -q tests/docs

# Whether the libraries are those of the lock, unaltered, and what is known against them (docs/security.md)
[group('develop')]
audit:
    @{{ python }} -m tests.audit

# Measure what each part costs, in five minutes, or some of it: just bench ladder scorer (docs/performance.md)
[group('develop')]
bench *args:
    @{{ python }} -m tests.bench "$@"

# Measure known model servers beside calsvc, each in a venv of its own in data/peers: just bench-peers --only mlserver
[group('develop')]
bench-peers *args:
    @{{ python }} -m tests.bench.peers "$@"

# Make each fault against real processes under load, or some: just chaos store-killed idle (docs/reliability.md)
[group('develop')]
chaos *args:
    @{{ python }} -m tests.chaos "$@"

# Load the service for half an hour, and see whether memory and files stay what they are (docs/soak.md)
[group('develop')]
soak *args:
    @{{ python }} -m tests.chaos.soak "$@"
