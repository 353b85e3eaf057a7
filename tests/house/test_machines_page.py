"""docs/MACHINES.md and examples/machines: each command could be given, each manifest be applied."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from vllm_bench.scenario.scenario import load_scenarios

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "machines"
PAGE = (ROOT / "docs" / "MACHINES.md").read_text(encoding="utf-8")
MANIFESTS = {p.name: list(yaml.safe_load_all(p.read_text())) for p in EXAMPLES.glob("*.yaml")}
SCRIPTS = {p.name: p.read_text() for p in EXAMPLES.glob("*.sh")}
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
OURS = re.compile(r"(?:^|/)bench/([a-z_]+)\.py$")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# What a caller gives, as it could be.
VALUES = {'"$@"': "--name short_chat", "$PWD": "here"}
KUBERAY = {  # the fields of version 1.7's definition of a RayJob, but for the pods' own
    "spec": {
        *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy"),
        *("entrypoint", "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId"),
        *("managedBy", "metadata", "preRunningDeadlineSeconds", "rayClusterSpec", "suspend"),
        *("runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig"),
        *("submitterPodTemplate", "ttlSecondsAfterFinished"),
    },
    "cluster": {
        *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "headGroupSpec"),
        *("gcsFaultToleranceOptions", "headServiceAnnotations", "historyServerOptions"),
        *("managedBy", "networkPolicy", "rayVersion", "suspend", "tlsOptions", "upgradeStrategy"),
        "workerGroupSpecs",
    },
    "head": {
        *("enableIngress", "headService", "ingressOptions", "labels", "rayStartParams"),
        *("resources", "serviceType", "template"),
    },
    "workers": {
        *("groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts"),
        *("priority", "rayStartParams", "replicas", "resources", "scaleStrategy", "suspend"),
        "template",
    },
}
RAYJOB = next(one for one in MANIFESTS["kuberay.yaml"] if one["kind"] == "RayJob")


# --- commands ---------------------------------------------------------------------------------


def lines(text: str) -> list[str]:
    """Return the lines of a shell's text, continued ones joined, variables filled in."""
    for name, value in VALUES.items():
        text = text.replace(name, value)
    text = re.sub(r"\$[A-Z_]+", "4", text.replace("\\\n", " "))
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def calls(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Find the script of ours that a command calls, and its words; also in words within words."""
    for place, word in enumerate(words):
        if " " in word and "sender.py" in word:  # a command that the head puts HOST:PORT behind
            behind = [] if "HOST:PORT" in word or "head:" in word else ["gpu7:7799"]
            yield from calls([*shlex.split(word.replace("<", " <")), *behind])
        elif found := OURS.search(word):
            rest = words[place + 1 :]
            ends = [n for n, w in enumerate(rest) if w.startswith("<") or w == "#"]
            yield found[1], rest[: ends[0]] if ends else rest
            yield from calls(rest)
            return


def of_text(text: str) -> list[tuple[str, list[str]]]:
    words = [shlex.split(line, comments=True) for line in lines(text) if "bench/" in line]
    return [call for line in words for call in calls(line)]


def of_manifest(objects: list[Any]) -> list[tuple[str, list[str]]]:
    found = []
    for one in objects:
        spec = one.get("spec", {})
        if "entrypoint" in spec:
            found += calls(shlex.split(spec["entrypoint"]))
        for container in spec.get("template", {}).get("spec", {}).get("containers", ()):
            found += calls([*container.get("command", ()), *container.get("args", ())])
    return found


COMMANDS = {
    "MACHINES.md": of_text(BLOCKS),
    **{name: of_text(text) for name, text in SCRIPTS.items()},
    **{name: of_manifest(objects) for name, objects in MANIFESTS.items()},
}


def test_every_file_that_starts_something_was_understood() -> None:
    started = {name: {script for script, _ in found} for name, found in COMMANDS.items()}
    assert started == {
        "MACHINES.md": {"bench", "sender"},
        "slurm.sh": {"bench", "sender"},
        "slurm_ray.sh": {"bench"},
        "indexed_job.yaml": {"bench", "sender"},
        "kuberay.yaml": {"bench"},
        "scenarios.yaml": set(),
    }


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_one_that_the_script_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for script, words in COMMANDS[name]:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
        importlib.import_module(script)._parse()  # a wrong word ends it


def test_a_command_with_a_flag_that_isnt_there_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [(script, words)] = of_text("python bench/bench.py --machine 4  # no such flag")
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *words])
    with pytest.raises(SystemExit):
        importlib.import_module(script)._parse()


@pytest.mark.process
def test_every_flag_in_the_pages_text_exists() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    named = {flag for code in re.findall(r"`[^`]*`", prose) for flag in re.findall(FLAG, code)}
    known = {"--network"}  # Docker's
    for script in ("bench", "sender"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "bench" / f"{script}.py"), "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        known |= set(re.findall(FLAG, done.stdout))
    assert named <= known


@pytest.mark.process
def test_every_flag_of_ray_start_exists() -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("no Ray here (make install-ray)")
    program = str(Path(sys.executable).with_name("ray"))
    for command in ("start", "symmetric-run", "get-auth-token"):
        told = subprocess.run(
            [program, command, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for line in lines("\n".join([BLOCKS, *SCRIPTS.values()])):
            given = line.partition(f"ray {command} ")[2].partition(" -- ")[0].partition("#")[0]
            for flag in re.findall(r"(?<!\S)--[a-z-]+", given):
                # `symmetric-run` takes those of `start` too, and doesn't list them
                assert flag in told or (command == "symmetric-run" and flag == "--resources")


# --- manifests --------------------------------------------------------------------------------


def validated(one: dict[str, Any]) -> None:
    """Hold an object against Kubernetes' own schema. Raises ValidationError."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate")
    kubernetes.validate(one, kubernetes.latest_version(), strict=True)


def pod_templates() -> list[dict[str, Any]]:
    cluster = RAYJOB["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    meta = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}}
    return [{**meta, "template": group["template"]} for group in groups]


@pytest.mark.parametrize("name", ["indexed_job.yaml", "kuberay.yaml"])
def test_a_manifest_keeps_to_kubernetes_schema(name: str) -> None:
    for one in MANIFESTS[name]:
        if one["kind"] != "RayJob":
            validated(one)
    for template in pod_templates():
        validated(template)


def test_a_field_that_kubernetes_lacks_would_be_found() -> None:
    [job] = [o for o in MANIFESTS["indexed_job.yaml"] if "completionMode" in o["spec"]]
    with pytest.raises(Exception, match="complitionMode"):
        validated({**job, "spec": {**job["spec"], "complitionMode": "Indexed"}})


def test_a_rayjob_has_the_fields_that_kuberay_knows() -> None:
    spec, cluster = RAYJOB["spec"], RAYJOB["spec"]["rayClusterSpec"]
    assert set(RAYJOB) == {"apiVersion", "kind", "metadata", "spec"}
    assert RAYJOB["apiVersion"] == "ray.io/v1"
    assert set(spec) <= KUBERAY["spec"]
    assert set(cluster) <= KUBERAY["cluster"]
    assert set(cluster["headGroupSpec"]) <= KUBERAY["head"]
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= KUBERAY["workers"]
        assert {"groupName", "minReplicas", "maxReplicas", "template"} <= set(group)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_a_load_is_not_sent_twice_unasked() -> None:
    [head] = [
        o
        for o in MANIFESTS["indexed_job.yaml"]
        if o["kind"] == "Job" and "completionMode" not in o["spec"]
    ]
    assert head["spec"]["backoffLimit"] == 0
    assert RAYJOB["spec"].get("backoffLimit", 0) == 0
    for name, text in SCRIPTS.items():  # Slurm starts a job of a lost node anew, by default
        words = [word for line in re.findall(r"^#SBATCH (.*)", text, re.M) for word in line.split()]
        assert "--no-requeue" in words, name


def test_the_cluster_is_of_the_version_that_the_image_has() -> None:
    pins = (ROOT / "constraints.txt").read_text()
    assert f"\nray=={RAYJOB['spec']['rayClusterSpec']['rayVersion']}\n" in pins
    assert RAYJOB["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_rays_workers_are_never_nice() -> None:
    for template in pod_templates():
        [container] = template["template"]["spec"]["containers"]
        assert {"name": "RAY_worker_niceness", "value": "0"} in container["env"]
    assert "RAY_worker_niceness=0" in SCRIPTS["slurm_ray.sh"]
    assert "RAY_worker_niceness=0" in BLOCKS


def test_a_sender_has_whole_cores_and_a_node_of_its_own() -> None:
    [job] = [o for o in MANIFESTS["indexed_job.yaml"] if "completionMode" in o["spec"]]
    for template in (job["spec"]["template"], pod_templates()[1]["template"]):
        [container] = template["spec"]["containers"]
        asked = container["resources"]
        assert asked["requests"] == asked["limits"]
        assert int(asked["limits"]["cpu"]) >= 1
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        [term] = template["spec"]["affinity"]["podAntiAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        meant = term["labelSelector"]["matchLabels"].items()
        assert meant <= template["metadata"]["labels"].items()


def test_every_file_agrees_with_itself_on_how_many_machines_there_are() -> None:
    [job] = [o for o in MANIFESTS["indexed_job.yaml"] if "completionMode" in o["spec"]]
    [head] = [words for script, words in COMMANDS["indexed_job.yaml"] if script == "bench"]
    many = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == many
    assert f"--machines={many}" in head
    [group] = RAYJOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    assert f"--machines {group['replicas']} " in RAYJOB["spec"]["entrypoint"]


def test_the_senders_dial_the_port_that_the_head_listens_at() -> None:
    [service] = [o for o in MANIFESTS["indexed_job.yaml"] if o["kind"] == "Service"]
    jobs = [o for o in MANIFESTS["indexed_job.yaml"] if o["kind"] == "Job"]
    [head] = [o for o in jobs if "completionMode" not in o["spec"]]
    [port] = service["spec"]["ports"]
    assert (
        service["spec"]["selector"].items()
        <= head["spec"]["template"]["metadata"]["labels"].items()
    )
    calls_ = dict(COMMANDS["indexed_job.yaml"])
    assert f"--listen=$(POD_IP):{port['port']}" in calls_["bench"]
    assert calls_["sender"][-1] == f"{service['metadata']['name']}:{port['port']}"


def test_the_scenario_of_the_manifests_is_one() -> None:
    found = load_scenarios(EXAMPLES / "scenarios.yaml", {})
    assert found


def test_every_file_is_named_on_the_page() -> None:
    for path in EXAMPLES.iterdir():
        assert path.name in PAGE, path.name
