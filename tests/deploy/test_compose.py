"""The compose files: what is published, what is pinned, what containers may do, what they are told."""

import re
from typing import Any

import pytest
import yaml

from calsvc.settings import Settings
from observability.otel_environment import HONOURED, check
from streamsim.cli import parser
from tests.deploy.composed import (
    ENV,
    FILES,
    FOLDER,
    SETTINGS,
    environments,
    filled,
    load,
    named_in,
    services,
    variables,
)
from tests.service_process import ROOT

EVERY = list(services())
every_service = pytest.mark.parametrize(
    ("name", "service"), [(name, service) for _, name, service in EVERY], ids=[name for _, name, _ in EVERY]
)
ONE_SHOT = {"champion", "training"}
UNASKABLE = {"collector", "jaeger", "pyroscope"}
"""Their images hold one program and nothing that could ask for its health."""
DEFAULTS = variables(ENV)


def test_the_layers_are_what_the_issue_asks_for():
    """One file alone, with the proxy that publishes the port; four on top of it."""
    assert [file.name for file in FILES] == [
        "compose.yaml",
        "compose.mlflow.yaml",
        "compose.observability.yaml",
        "compose.replicas.yaml",
        "compose.simulator.yaml",
    ]
    assert set(load(FOLDER / "compose.yaml")["services"]) == {"calsvc", "proxy"}


def test_the_service_is_reached_by_its_proxy_alone():
    """In no layer has it a port on this machine."""
    published = {name: service["ports"] for _, name, service in EVERY if "ports" in service}
    assert "calsvc" not in published
    assert published["proxy"] == ["127.0.0.1:${CALSVC_PUBLISHED}:8080"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_has_its_default_in_env(file: Any):
    """So that plain `docker compose` does what `just up` does, but for the threads of this machine."""
    assert named_in(file.read_text(encoding="utf-8")) <= set(DEFAULTS)


def test_env_has_no_variable_that_nobody_reads():
    """Each line of .env is used by some file."""
    assert set(DEFAULTS) == {name for file in FILES for name in named_in(file.read_text(encoding="utf-8"))}


@every_service
def test_ports_are_published_on_loopback_alone(name: str, service: dict[str, Any]):
    """Whatever is published, with the port that .env says."""
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{\w+_PUBLISHED\}:\d+", port), name
    assert "network_mode" not in service


@every_service
def test_images_come_from_env_and_are_pinned(name: str, service: dict[str, Any]):
    """Ours by CALSVC_TAG, others by one variable each; no `latest`, nothing without a tag."""
    image = service["image"]
    if "build" in service:
        assert re.fullmatch(r"calsvc(-\w+)?:\$\{CALSVC_TAG\}", image)
        assert service["build"]["args"]["BASE"] == "${BASE_IMAGE}"
    else:
        assert image == f"${{{name.upper() if name != 'proxy' else 'HAPROXY'}_IMAGE}}"
    tag = filled(image, DEFAULTS).partition(":")[2]
    assert tag
    assert "latest" not in tag


@every_service
def test_containers_may_do_little(name: str, service: dict[str, Any]):
    """Nothing is written but volumes and tmpfs, no capability, no way to new privileges, bounded in everything."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(each.startswith("/tmp:size=") for each in service["tmpfs"])  # noqa: S108 - the container's
    assert service["pids_limit"] > 0
    assert service["cpus"]
    assert service["mem_limit"] == service["memswap_limit"]
    assert service["logging"]["driver"] == "json-file"
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    if "build" not in service:
        user = re.fullmatch(r"(\d+):\d+", service["user"])
        assert user is not None, name
        assert int(user[1]) > 0


@every_service
def test_what_is_mounted_from_the_machine_is_there_and_read_only(name: str, service: dict[str, Any]):
    """A source that is missing is an error, and not made by the engine as an empty folder of root's."""
    for volume in service.get("volumes", []):
        if volume["type"] == "bind":
            assert volume["read_only"] is True, name
            assert volume["bind"]["create_host_path"] is False
            if not volume["source"].startswith("${"):
                assert (FOLDER / volume["source"]).exists(), volume["source"]


@every_service
def test_no_container_asks_through_a_proxy(name: str, service: dict[str, Any]):
    """What they ask is here; an empty variable keeps the engine's client from adding its own."""
    spellings = [f"{kind}_proxy" for kind in ("http", "https", "all")]
    assert [service["environment"].get(each) for each in spellings + [each.upper() for each in spellings]] == [
        ""
    ] * 6, name


@every_service
def test_volumes_are_named_and_declared(name: str, service: dict[str, Any]):
    """In the file that uses them, so that `just down volumes` finds them."""
    declared = {volume for file in FILES for volume in load(file).get("volumes", {})}
    assert {volume["source"] for volume in service.get("volumes", []) if volume["type"] == "volume"} <= declared, name


@every_service
def test_everything_that_stays_says_whether_it_is_well(name: str, service: dict[str, Any]):
    """By a check of the layer's, or by that of our own image."""
    if name in ONE_SHOT:
        assert service["restart"] == "no"
    elif name not in UNASKABLE:
        dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
        target = service.get("build", {}).get("target")
        stage = re.search(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM |\Z)", dockerfile, re.MULTILINE | re.DOTALL)
        assert "healthcheck" in service or (stage is not None and "\nHEALTHCHECK " in stage[1]), name


@every_service
def test_nothing_waits_for_what_cannot_tell_that_it_is_well(name: str, service: dict[str, Any]):
    """Start order by health: each condition is one that the other one can meet."""
    for other, wanted in service.get("depends_on", {}).items():
        expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
        assert wanted == {"condition": expected}, name
        assert other not in UNASKABLE


def test_calsvc_has_longer_to_leave_than_it_can_take():
    """The drain delay, requests in flight, spans and profiles that nobody takes: all before the engine kills it."""
    from calsvc.server import CLOSE_TIMEOUT  # noqa: PLC0415 - it loads the server

    settings = Settings.from_env(variables(SETTINGS / "calsvc.env"))
    grace = float(load(FOLDER / "compose.yaml")["services"]["calsvc"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain_delay + CLOSE_TIMEOUT + 10 + 3


def test_calsvc_is_told_only_what_it_knows():
    """Every key is a setting, every value one that it accepts, layer by layer and all together."""
    known = Settings.variables().keys() | HONOURED.keys()
    together: dict[str, str] = {}
    for file, told in environments("calsvc"):
        assert set(told) <= known, file
        together |= told
        Settings.from_env(together)
        assert check(together) == []
    assert Settings.from_env(together).store.get_secret_value().startswith("redis://")


@pytest.mark.parametrize("name", ["champion", "training", "mlflow"])
def test_trainings_are_told_only_what_they_know(name: str):
    """The same settings as the service's; MLflow has one of its own."""
    known = set(Settings.variables())
    for _, told in environments(name):
        assert {key for key in told if not key.startswith("MLFLOW_SERVER_")} <= known


def test_the_simulator_takes_its_command_line():
    """With what .env says; and it goes on with what it owes after a restart."""
    command = load(FOLDER / "compose.simulator.yaml")["services"]["streamsim"]["command"]
    options = parser().parse_args(filled(command, DEFAULTS))
    assert (options.command, options.url, options.resume) == ("stream", "http://proxy:8080", True)
    assert options.duration is not None


def test_prometheus_is_configured_as_everywhere_else():
    """The same but for how the targets are found."""

    def without_discovery(config: Any) -> Any:
        jobs = [{key: job[key] for key in job if not key.endswith("_configs")} for job in config["scrape_configs"]]
        return config | {"scrape_configs": jobs}

    everywhere = yaml.safe_load((ROOT / "observability/stack/prometheus.yaml").read_text(encoding="utf-8"))
    assert without_discovery(load(FOLDER / "prometheus.yaml")) == without_discovery(everywhere)


def test_the_collector_is_of_the_release_that_its_configuration_is_written_for():
    """The tests build that release (tests/go_programs.py), compose takes its image."""
    built = load(ROOT / "observability/stack/collector-builder.yaml")["dist"]["version"]
    assert DEFAULTS["COLLECTOR_IMAGE"].rpartition(":")[2] == built


def test_grafana_lets_nobody_in_who_could_change_anything():
    """No administrator with a known password: there is none at all, and no form to log in."""
    ((_, told),) = [(file, told) for file, told in environments("grafana") if told]
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert told["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert told["GF_AUTH_BASIC_ENABLED"] == "false"
    assert not any("PASSWORD" in key for key in told)


def test_no_program_of_others_sends_usage_data_or_looks_for_news():
    """Those that would: Pyroscope, and Grafana, whose plugins, keys, pictures and snapshots are outside, too."""
    told = variables(ROOT / "observability/stack/grafana/grafana.env")
    off = ("ANALYTICS_REPORTING", "NEWS_NEWS_FEED", "PLUGINS_PLUGIN_ADMIN", "SNAPSHOTS_EXTERNAL")
    assert {told[f"GF_{name}_ENABLED"] for name in off} == {"false"}
    assert {told[f"GF_ANALYTICS_CHECK_FOR_{name}UPDATES"] for name in ("", "PLUGIN_")} == {"false"}
    disabled = ("PLUGINS_PREINSTALL_DISABLED", "PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED", "SECURITY_DISABLE_GRAVATAR")
    assert {told[f"GF_{name}"] for name in disabled} == {"true"}
    (pyroscope,) = [service["command"] for _, name, service in EVERY if name == "pyroscope"]
    assert {"-usage-stats.enabled=false", "-self-profiling.disable-push=true"} <= set(pyroscope)


def test_the_settings_are_shared_with_the_cluster():
    """One file each, that compose and kustomize both read."""
    generated = load(SETTINGS / "kustomization.yaml")["configMapGenerator"]
    assert {file for each in generated for file in each["envs"]} == {file.name for file in SETTINGS.glob("*.env")}
    used = {
        each for file in FILES for service in load(file)["services"].values() for each in service.get("env_file", [])
    }
    assert {f"../settings/{file.name}" for file in SETTINGS.glob("*.env")} <= used
