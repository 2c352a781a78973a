"""The files in cluster/: they fit each other, pyproject, and what reads them."""

import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from ray.autoscaler._private.util import prepare_config, validate_config
from waiting import wait_until

from tism_scan.cli.run import command as run_command

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ["aws.yaml", "gcp.yaml"]
SCRIPTS = ["slurm.sbatch", "local.sh"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

_VERSION = r"(\d+(?:\.\d+)*)"
_IN_AN_IMAGES_NAME = rf"\bpy{_VERSION}-ray{_VERSION}-torch{_VERSION}-cuda{_VERSION}"
_IN_A_SCRIPT = rf"^python={_VERSION} ray={_VERSION} torch={_VERSION} cuda={_VERSION}$"
_IN_THE_DOCKERFILE = (
    rf"^ARG PYTHON={_VERSION}\nARG RAY={_VERSION}\nARG TORCH={_VERSION}\nARG CUDA={_VERSION}$"
)


def text_of(name):
    return (CLUSTER / name).read_text()


def versions_in(name):
    """Return each set of versions that a file names: Python, Ray, torch, CUDA."""
    patterns = (_IN_AN_IMAGES_NAME, _IN_A_SCRIPT, _IN_THE_DOCKERFILE)
    return {found for pattern in patterns for found in re.findall(pattern, text_of(name), re.MULTILINE)}


@pytest.mark.parametrize("name", [*LAUNCHERS, *SCRIPTS, "kuberay-job.yaml", "Dockerfile", "README.md"])
def test_all_files_name_the_same_versions(name):
    assert versions_in(name) == versions_in("Dockerfile")
    assert len(versions_in(name)) == 1


def test_versions_are_within_the_ranges_of_pyproject():
    ((python, ray, torch, cuda),) = versions_in("Dockerfile")
    needed = {need.name: need.specifier for need in map(Requirement, PROJECT["dependencies"])}
    assert Version(ray) in needed["ray"]
    assert Version(torch) in needed["torch"]
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]
    assert Version(python) in SpecifierSet(PROJECT["requires-python"])
    # torch's releases from PyPI: 2.11 to 2.13 bring CUDA 13.0.
    assert cuda == "13.0"


@pytest.mark.parametrize("name", [*LAUNCHERS, "kuberay-job.yaml"])
def test_other_mentions_of_ray_have_its_version(name):
    ((_, ray, _, _),) = versions_in(name)
    mentions = re.findall(rf"ray\[\w+\]=={_VERSION}|rayVersion: \"{_VERSION}\"", text_of(name))
    assert {version for found in mentions for version in found if version} == {ray}


def edits_of(name):
    """Return what each line that is marked for the user sets, such as `region` or `--time`."""
    lines = [line for line in text_of(name).splitlines() if re.search(r"# EDIT\b", line)]
    return {
        re.search(r"--?[\w-]+|[\w./-]*\w", line.replace("#SBATCH", ""))[0].split("=")[0] for line in lines
    }


@pytest.mark.parametrize("name", [*LAUNCHERS, *SCRIPTS, "kuberay-job.yaml"])
def test_readme_lists_the_lines_to_edit(name):
    (row,) = [line for line in text_of("README.md").splitlines() if line.startswith(f"| `{name}`")]
    assert edits_of(name)
    assert edits_of(name) <= set(re.findall(r"`([^`]+)`", row))


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def commands_in(name):
    """Return the options of `tism-scan run` that a file uses."""
    text = re.sub(r"\\\n", " ", text_of(name))
    if name in SCRIPTS:
        lines = re.findall(r"^scan=\(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL)
        lines += re.findall(r"^ *tism-scan run (.*)", text, re.MULTILINE)
    elif name.endswith(".yaml"):
        (job,) = [part for part in yaml.safe_load_all(text) if part["kind"] == "RayJob"]
        lines = [job["spec"]["entrypoint"].partition("tism-scan run ")[2]]
    else:
        lines = re.findall(r"tism-scan run (.*)", text)
    return lines


@pytest.mark.parametrize("name", [*SCRIPTS, "kuberay-job.yaml", "README.md"])
def test_commands_use_options_that_exist(name):
    known = {option for parameter in run_command.params for option in parameter.opts}
    used = set().union(*map(options_in, commands_in(name)))
    assert used <= known
    assert used


def prepared(name, change=lambda config: None):
    """Return a launcher's configuration as Ray completes and checks it."""
    config = yaml.safe_load(text_of(name))
    change(config)
    logging.disable(logging.INFO)
    try:
        config = prepare_config(config)
    finally:
        logging.disable(logging.NOTSET)
    validate_config(config)
    return config


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_accepts_the_launchers_configuration(name):
    config = prepared(name)
    assert config["provider"]["type"] == name.removesuffix(".yaml")


@pytest.mark.parametrize("name", LAUNCHERS)
def test_misspelt_setting_would_be_noticed(name):
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        prepared(name, lambda config: config.update(max_worker=3))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_head_computes_nothing_and_gpu_machines_come_and_go(name):
    types = prepared(name)["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["gpu"]["resources"]["GPU"] >= 1
    assert types["gpu"]["min_workers"] == 0 < types["gpu"]["max_workers"]
    machine = types["gpu"]["node_config"]
    spot = {
        "aws.yaml": ["InstanceMarketOptions", "MarketType"],
        "gcp.yaml": ["scheduling", "provisioningModel"],
    }
    for key in spot[name]:
        machine = machine[key]
    assert machine.lower() == "spot"


@pytest.mark.parametrize("name", LAUNCHERS)
def test_nobody_reaches_the_dashboard_without_ssh_or_ray_without_the_token(name):
    config = prepared(name)
    (start,) = [line for line in config["head_start_ray_commands"] if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in start
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    home = re.search(r"HOME=(\S+)", text_of("Dockerfile"))[1]
    assert config["file_mounts"] == {f"{home}/.ray/auth_token": "~/.ray/auth_token"}


def fields(required=(), **known):
    """Return the schema of a mapping that has these fields and no other."""
    return {"type": "object", "required": list(required), "properties": known, "additionalProperties": False}


def one_of(*values):
    return {"enum": list(values)}


NUMBER, TEXT, SWITCH = {"type": "integer", "minimum": 0}, {"type": "string"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
# The fields of a RayJob that we need, after the API reference of KubeRay (ray.io/v1) and of Kubernetes.
RESOURCES = fields(requests=TEXTS, limits=TEXTS)
CONTAINER = fields(
    ["name", "image"],
    name=TEXT,
    image=TEXT,
    resources=RESOURCES,
    securityContext=fields(
        runAsNonRoot=SWITCH,
        runAsUser=NUMBER,
        allowPrivilegeEscalation=SWITCH,
        capabilities=fields(drop={"type": "array", "items": TEXT}),
    ),
    ports={"type": "array", "items": fields(["containerPort"], containerPort=NUMBER, name=TEXT)},
    volumeMounts={
        "type": "array",
        "items": fields(["name", "mountPath"], name=TEXT, mountPath=TEXT, readOnly=SWITCH),
    },
)
POD = fields(
    ["spec"],
    metadata=fields(labels=TEXTS),
    spec=fields(
        ["containers"],
        containers={"type": "array", "items": CONTAINER, "minItems": 1},
        restartPolicy=one_of("Never", "OnFailure"),
        serviceAccountName=TEXT,
        securityContext=fields(fsGroup=NUMBER),
        nodeSelector=TEXTS,
        tolerations={
            "type": "array",
            "items": fields(key=TEXT, operator=one_of("Exists", "Equal"), value=TEXT, effect=TEXT),
        },
        terminationGracePeriodSeconds=NUMBER,
        volumes={
            "type": "array",
            "items": fields(
                ["name"],
                name=TEXT,
                persistentVolumeClaim=fields(["claimName"], claimName=TEXT, readOnly=SWITCH),
            ),
        },
    ),
)
RAY_CLUSTER = fields(
    ["headGroupSpec"],
    rayVersion=TEXT,
    authOptions=fields(mode=one_of("token", "disabled")),
    enableInTreeAutoscaling=SWITCH,
    autoscalerOptions=fields(
        idleTimeoutSeconds=NUMBER,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        resources=RESOURCES,
        securityContext=CONTAINER["properties"]["securityContext"],
    ),
    headGroupSpec=fields(
        ["rayStartParams", "template"],
        serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
        rayStartParams=TEXTS,
        template=POD,
    ),
    workerGroupSpecs={
        "type": "array",
        "items": fields(
            ["groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"],
            groupName=TEXT,
            replicas=NUMBER,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            rayStartParams=TEXTS,
            template=POD,
        ),
    },
)
RAY_JOB = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion=one_of("ray.io/v1"),
    kind=one_of("RayJob"),
    metadata=fields(["name"], name=TEXT),
    spec=fields(
        ["entrypoint", "rayClusterSpec"],
        jobId=TEXT,
        entrypoint=TEXT,
        backoffLimit=NUMBER,
        shutdownAfterJobFinishes=SWITCH,
        ttlSecondsAfterFinished=NUMBER,
        submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        submitterConfig=fields(backoffLimit=NUMBER),
        submitterPodTemplate=POD,
        rayClusterSpec=RAY_CLUSTER,
    ),
)


@pytest.fixture(scope="module")
def manifest():
    """The parts of kuberay-job.yaml, by kind."""
    return {part["kind"]: part for part in yaml.safe_load_all(text_of("kuberay-job.yaml"))}


@pytest.fixture(scope="module")
def pods(manifest):
    """The templates of all pods that the job starts, by what they are."""
    spec = manifest["RayJob"]["spec"]
    cluster = spec["rayClusterSpec"]
    (worker,) = cluster["workerGroupSpecs"]
    return {
        "submitter": spec["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        "worker": worker["template"],
    }


def test_job_has_the_fields_that_kuberay_documents_and_no_other(manifest):
    jsonschema.validate(manifest["RayJob"], RAY_JOB)


def test_job_resumes_on_a_new_cluster_and_leaves_none_behind(manifest):
    spec = manifest["RayJob"]["spec"]
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"]
    assert "--retry-failed" in spec["entrypoint"]


@pytest.mark.parametrize(
    ("code", "asked_to_stop"), [(0, []), (1, []), (2, ["tism-scan"]), (75, []), (130, [])]
)
def test_job_stops_itself_if_no_retry_can_mend_it(manifest, tmp_path, code, asked_to_stop):
    programs = {
        "tism-scan": 'printf "%s\\n" "$@" >"$FOLDER/arguments"; exit "$CODE"',
        "ray": 'echo "${@: -1}" >>"$FOLDER/stopped"',
        "sleep": "",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    spec = manifest["RayJob"]["spec"]
    # The operator puts the command into a shell of the submitter's; `ray job submit` quotes what arrives
    # there, and another shell carries that out.
    submitted = shlex.join(shlex.split(spec["entrypoint"]))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "FOLDER": str(tmp_path), "CODE": str(code)}
    run = subprocess.run(["bash", "-c", submitted], env=environment, cwd=tmp_path)
    assert run.returncode == code
    stopped = tmp_path / "stopped"
    assert (stopped.read_text().split() if stopped.exists() else []) == asked_to_stop
    assert asked_to_stop in ([], [spec["jobId"]])
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[0] == "run"
    assert arguments[arguments.index("--exclude-chroms") + 1] == "*_alt,*_random,chrUn_*"


def test_stopped_job_has_the_time_that_blocks_in_flight_get(dockerfile):
    (wait_s,) = [
        int(found)
        for value in values_of(dockerfile, "ENV")
        for found in re.findall(r"RAY_JOB_STOP_WAIT_TIME_S=(\d+)", value)
    ]
    assert wait_s > 30


def test_gpu_workers_come_with_the_work_and_no_more_than_the_scan_asks_for(manifest):
    spec = manifest["RayJob"]["spec"]
    cluster = spec["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"]
    assert workers["minReplicas"] == 0
    words = shlex.split(spec["entrypoint"])
    assert int(words[words.index("--max-actors") + 1]) == workers["maxReplicas"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_every_pod_is_confined_has_the_image_and_is_behind_the_policy(manifest, pods):
    selector = manifest["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert (
        manifest["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == selector
    )
    images = set()
    for pod in pods.values():
        assert pod["metadata"]["labels"] == selector
        (container,) = pod["spec"]["containers"]
        images.add(container["image"])
        assert container["securityContext"]["runAsNonRoot"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert len(images) == 1


def test_volume_with_the_genome_is_where_the_command_looks(manifest, pods):
    words = shlex.split(manifest["RayJob"]["spec"]["entrypoint"])
    genome = Path(words[words.index("--genome") + 1])
    for pod in (pods["head"], pods["worker"]):
        (mount,) = pod["spec"]["containers"][0]["volumeMounts"]
        (volume,) = pod["spec"]["volumes"]
        assert genome.is_relative_to(mount["mountPath"])
        assert volume["name"] == mount["name"]
        claim = volume["persistentVolumeClaim"]["claimName"]
        assert claim == manifest["PersistentVolumeClaim"]["metadata"]["name"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_pass_bash_and_shellcheck(name):
    shellcheck = shutil.which("shellcheck", path=sysconfig.get_path("scripts")) or "shellcheck"
    for command in (["bash", "-n"], [shellcheck]):
        run = subprocess.run([*command, CLUSTER / name], capture_output=True, text=True)
        assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_slurm_gives_the_scan_time_to_end_before_the_limit():
    signalled = re.search(r"^#SBATCH --signal=B:TERM@(\d+)$", text_of("slurm.sbatch"), re.MULTILINE)
    assert int(signalled[1]) >= 90  # half a minute for blocks in flight, and as much for Ray to end


@pytest.fixture(scope="module")
def dockerfile():
    """The instructions of the Dockerfile: word, and the rest on one line."""
    text = re.sub(r"^\s*#.*\n", "", text_of("Dockerfile"), flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines() if line.strip()]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def values_of(dockerfile, word):
    return [value for instruction, value in dockerfile if instruction == word]


def test_dockerfile_has_known_instructions_only(dockerfile):
    known = {"ARG", "FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {instruction for instruction, _ in dockerfile} <= known
    for word in ("ENTRYPOINT", "CMD"):
        (value,) = values_of(dockerfile, word)
        assert all(isinstance(part, str) for part in json.loads(value))


def test_image_is_pinned_and_not_of_root(dockerfile):
    for base in values_of(dockerfile, "FROM"):
        assert re.match(r"nvidia/cuda:\$\{CUDA\}\.\d+-base-ubuntu24\.04\b", base)
    users = [(word, value) for word, value in dockerfile if word in ("FROM", "USER")]
    assert users[-1] == ("USER", "1000")
    pip = [run for run in values_of(dockerfile, "RUN") if "pip install" in run]
    for package in shlex.split(" ".join(run.partition("pip install")[2] for run in pip)):
        assert "==" in package or package.startswith("/src") or package in ("&&",), package


def test_image_keeps_no_caches_or_tools_of_the_build(dockerfile):
    assert any("PIP_NO_CACHE_DIR=1" in value for value in values_of(dockerfile, "ENV"))
    for run in values_of(dockerfile, "RUN"):
        if "apt-get install" in run:
            assert "apt-get update" in run
            assert "--no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run
    last_stage = dockerfile[max(i for i, (word, _) in enumerate(dockerfile) if word == "FROM") :]
    assert not any("pip" in run or "-dev" in run for run in values_of(last_stage, "RUN"))


def test_image_is_given_what_the_package_is_built_from_and_nothing_else(dockerfile):
    copied = {
        source
        for value in values_of(dockerfile, "COPY")
        if not value.startswith("--from=")
        for source in value.split()[:-1]
    }
    assert all((ROOT / source).exists() for source in copied)
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "tism_scan"} == copied
    let_through = {line[1:] for line in text_of("Dockerfile.dockerignore").splitlines() if line[0] == "!"}
    assert let_through == copied


SSH = """#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift 2; done
echo "$1" >>"$FOLDER/hosts"
exec bash -c "$2"
"""
RAY = """#!/usr/bin/env python
import os, signal, socket, sys
def end(*_):
    print("ended", file=open(os.environ["FOLDER"] + "/ends", "a"))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print(os.environ["RAY_AUTH_TOKEN"], *sys.argv[1:], file=open(os.environ["FOLDER"] + "/nodes", "a"))
if "--head" in sys.argv:
    port = next(int(a.partition("=")[2]) for a in sys.argv if a.startswith("--port="))
    server = socket.create_server(("127.0.0.1", port))
signal.pause()
"""
SCAN = """#!/usr/bin/env bash
until [[ $(wc -l <"$FOLDER/nodes") == 3 ]]; do sleep 0.05; done
exit 130
"""


def test_scan_over_ssh_ends_its_nodes_and_keeps_the_secret_from_the_command_line(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    python = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    for name, text in {"ssh": SSH, "ray": RAY, "tism-scan": SCAN, "python": python}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    script = text_of("local.sh")
    for name, value in {"here": "127.0.0.1", "hosts": "(one two)", "environment": tmp_path}.items():
        script = re.sub(rf"^{name}=[^\n]*", f"{name}={value}", script, flags=re.MULTILINE)
    (tmp_path / "local.sh").write_text(script)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "FOLDER": str(tmp_path), "TISM_SCAN_PORT": "46379"}
    run = subprocess.run(["bash", tmp_path / "local.sh"], env=environment, capture_output=True, timeout=200)
    assert run.returncode == 130, run.stderr
    assert sorted((tmp_path / "hosts").read_text().split()) == ["one", "two"]
    nodes = [line.split() for line in (tmp_path / "nodes").read_text().splitlines()]
    tokens = {token for token, *_ in nodes}
    assert len(tokens) == 1
    assert not any(token in " ".join(arguments) for token, *arguments in nodes for token in tokens)
    ends = tmp_path / "ends"
    assert wait_until(lambda: ends.exists() and ends.read_text().split() == ["ended"] * 3)


def test_dashboard_shows_metrics_that_the_scan_exports():
    source = (ROOT / "tism_scan" / "ray_scan" / "metrics.py").read_text()
    counters = {f"ray_{name}_total" for name in re.findall(r'Counter\("(\w+)"', source)}
    gauges = {f"ray_{name}" for name in re.findall(r'Gauge\("(\w+)"', source)}
    panels = json.loads(text_of("grafana.json"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    shown = {name for query in queries for name in re.findall(r"\bray_\w+", query)}
    assert shown == counters | gauges
    assert len({panel["id"] for panel in panels}) == len(panels)
