"""server/docker-compose.yml: one launcher, one .env, one set of variables for both ways."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from serve import SETTINGS
from vllm_bench.env_file import parse_env

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "server" / "run_server.sh"
COMPOSE = ROOT / "server" / "docker-compose.yml"
LINK = ROOT / "server" / ".env"
EXAMPLE = ROOT / ".env.example"

VARIABLES = {*SETTINGS, "EXTRA_ARGS", "HF_TOKEN", "VLLM_API_KEY"}
# What a container needs beside what vLLM needs.
OF_DOCKER_ALONE = {"VLLM_IMAGE_TAG", "GPU_COUNT", "HF_HOME"}
OF_THE_MACHINE_ALONE = {"SIMULATOR", "VLLM_COMMAND"}  # the container has one build, its own
COMPOSE_COMMANDS = [
    command
    for command in (["docker-compose"], ["docker", "compose"])
    if shutil.which(command[0])
    and subprocess.run([*command, "version"], check=False, capture_output=True).returncode == 0
]


def text_without_comments(path: Path) -> str:
    lines = path.read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def service() -> dict[str, Any]:
    vllm = yaml.safe_load(COMPOSE.read_text())["services"]["vllm"]
    assert isinstance(vllm, dict)
    return vllm


def interpolated() -> dict[str, str]:
    """The variables of ${NAME:-default} in the compose file, with their defaults."""
    found = re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text_without_comments(COMPOSE))
    assert len(found) == text_without_comments(COMPOSE).count("$")
    return dict(found)


def handed_on() -> set[str]:
    return {name for name, value in service()["environment"].items() if value is None}


def examples_lines() -> dict[str, str]:
    """Every NAME=value of .env.example, those commented out included."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))


# --- the same set of variables ----------------------------------------------------------------


def test_the_compose_file_knows_every_variable_of_the_launcher() -> None:
    assert handed_on() | set(interpolated()) == VARIABLES | OF_DOCKER_ALONE
    assert VARIABLES - handed_on() == {"HOST", "PORT"}  # these are the machine's


def test_the_template_explains_every_variable() -> None:
    assert set(examples_lines()) == VARIABLES | OF_DOCKER_ALONE | OF_THE_MACHINE_ALONE


def test_every_line_of_the_template_stands_under_a_comment_that_names_its_default() -> None:
    paragraphs = EXAMPLE.read_text().split("\n\n")
    for name in examples_lines():
        [about] = [p for p in paragraphs if re.search(rf"^#?{name}=", p, re.MULTILINE)]
        assert re.search(r"[Dd]efault", about), name


def test_the_template_has_the_values_that_the_readme_promises() -> None:
    text = EXAMPLE.read_text()
    active = re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)
    assert dict(active) == {
        "HF_TOKEN": "hf_your_token_here",
        "MODEL": "gpt-oss-20",
        "PORT": "8000",
        "GPU_MEM_UTIL": "0.90",
        "MAX_MODEL_LEN": "4096",
        "KV_CACHE_DTYPE": "auto",
    }
    assert active[0][0] == "HF_TOKEN"


def test_the_template_names_the_defaults_of_the_compose_file() -> None:
    lines = examples_lines()
    for name in ("VLLM_IMAGE_TAG", "GPU_COUNT", "PORT", "HOST"):
        assert lines[name] == interpolated()[name]


def test_the_template_is_of_the_dialect_with_every_line_in_force() -> None:
    text = EXAMPLE.read_text()
    assert parse_env(re.sub(r"^#([A-Z_]+=)", r"\1", text, flags=re.MULTILINE)) == examples_lines()


# --- the service ------------------------------------------------------------------------------


def test_the_containers_entrypoint_is_the_launcher_itself() -> None:
    shell, script = service()["entrypoint"]
    assert shell == "sh"
    assert f"./{LAUNCHER.name}:{script}:ro" in service()["volumes"]
    root = script.removesuffix("/server/run_server.sh")
    assert f"../bench:{root}/bench:ro" in service()["volumes"]  # what it starts
    assert not [v for v in service()["volumes"] if ".env" in v]  # Compose has read it already


def test_the_server_is_published_on_this_machine_alone_by_default() -> None:
    assert service()["ports"] == ["${HOST:-127.0.0.1}:${PORT:-8000}:8000"]
    assert service()["environment"]["HOST"] == "0.0.0.0"
    assert service()["environment"]["PORT"] == "8000"


def test_both_caches_outlive_the_container() -> None:
    targets = {volume.rsplit(":", 1)[1] for volume in service()["volumes"]}
    assert {"/root/.cache/huggingface", "/root/.cache/vllm"} <= targets


def test_a_gpu_is_reserved_and_memory_is_shared() -> None:
    [device] = service()["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "${GPU_COUNT:-all}", "capabilities": ["gpu"]}
    assert service()["ipc"] == "host"


def test_the_image_is_a_fixed_release() -> None:
    assert re.fullmatch(r"v\d+\.\d+\.\d+", interpolated()["VLLM_IMAGE_TAG"])


@contextmanager
def health(status: int) -> Iterator[int]:
    """A server whose /health answers status; gives its port."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.process
@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_the_servers_answer(status: int, healthy: bool) -> None:
    check, python, *arguments = service()["healthcheck"]["test"]
    assert (check, python) == ("CMD", "python3")
    with health(status) as port:
        arguments[-1] = arguments[-1].replace(":8000", f":{port}")
        # A proxy that isn't there: the check has to go past it.
        env = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run(
            [sys.executable, *arguments], check=False, env=env, capture_output=True
        )
    assert (done.returncode == 0) is healthy


def test_the_health_check_waits_for_a_download_before_it_counts() -> None:
    assert re.fullmatch(r"\d+m", service()["healthcheck"]["start_period"])


# --- the specification ------------------------------------------------------------------------


def validate(path: Path) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("no check-jsonschema (it carries the compose specification's schema)")
    arguments = ["--builtin-schema", "vendor.compose-spec"]
    return subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *arguments, str(path)],
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.process
def test_the_compose_file_keeps_to_the_compose_specification() -> None:
    done = validate(COMPOSE)
    assert done.returncode == 0, done.stdout


@pytest.mark.process
def test_a_key_that_the_specification_lacks_would_be_found(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(COMPOSE.read_text().replace("    ipc: host", "    icp: host"))
    done = validate(broken)
    assert done.returncode != 0
    assert "icp" in done.stdout


# --- one .env, by Compose's own reading ---------------------------------------------------------


def test_the_link_beside_the_compose_file_leads_to_the_repositorys_env() -> None:
    assert LINK.is_symlink()
    assert LINK.readlink() == Path("../.env")


@pytest.fixture(params=COMPOSE_COMMANDS or [[]], ids=lambda c: " ".join(c) or "none")
def compose(request: pytest.FixtureRequest) -> list[str]:
    """Docker Compose, old or new; `config` needs no daemon."""
    command = request.param
    assert isinstance(command, list)
    if not command:
        pytest.skip("no docker-compose (Debian: apt-get install docker-compose)")
    return command


def config(
    compose: list[str], root: Path, dotenv: str | None, env: Mapping[str, str]
) -> dict[str, Any]:
    """The service as Compose sees it in a copy of the server's folder."""
    (root / "server").mkdir()
    for path in (COMPOSE, LAUNCHER, LINK):
        shutil.copy(path, root / "server", follow_symlinks=False)
    if dotenv is not None:
        (root / ".env").write_bytes(dotenv.encode())
    done = subprocess.run(
        [*compose, "config"],
        check=False,
        cwd=root / "server",
        env={"PATH": os.environ["PATH"], "HOME": str(root), **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    vllm = yaml.safe_load(done.stdout)["services"]["vllm"]
    assert isinstance(vllm, dict)
    return vllm


def published(vllm: dict[str, Any]) -> str:
    """ADDRESS:PORT, in the words of either Compose."""
    [port] = vllm["ports"]
    if isinstance(port, str):
        return port.rsplit(":", 1)[0]
    return f"{port['host_ip']}:{port['published']}"


@pytest.mark.process
def test_compose_takes_the_repositorys_env_from_the_servers_folder(
    compose: list[str], tmp_path: Path
) -> None:
    text = "MODEL=org/from-file\nPORT=9001\nHF_TOKEN=hf_x\nGPU_MEM_UTIL=\n"
    vllm = config(compose, tmp_path, text, {})
    assert vllm["environment"]["MODEL"] == "org/from-file"
    assert vllm["environment"]["HF_TOKEN"] == "hf_x"
    assert not vllm["environment"]["GPU_MEM_UTIL"]
    assert published(vllm) == "127.0.0.1:9001"


@pytest.mark.process
def test_compose_reads_the_dialect_as_the_launcher_does(compose: list[str], tmp_path: Path) -> None:
    values = [
        "plain",
        "a=b:c",
        'it\'s "bare"',
        "C:\\new",
        "`id`;(id) *",
        "'# $HOME \"'",
        '"# it\'s"',
    ]
    lines = [f"{name}={value}" for name, value in zip(sorted(handed_on()), values, strict=False)]
    text = "\r\n".join(["# it's $a comment", *lines, ""])
    seen = config(compose, tmp_path, f"\ufeff{text}", {"HOME": "/nowhere"})["environment"]
    found = {name: seen[name].replace("$$", "$") for name in parse_env(text)}
    assert found == parse_env(text)


@pytest.mark.process
def test_compose_lets_the_shell_win_over_the_env_file(compose: list[str], tmp_path: Path) -> None:
    shell = {"MODEL": "", "PORT": "9002", "HOST": "0.0.0.0"}
    vllm = config(compose, tmp_path, "MODEL=org/from-file\nPORT=9001\n", shell)
    assert vllm["environment"]["MODEL"] == ""
    assert published(vllm) == "0.0.0.0:9002"


@pytest.mark.process
def test_compose_goes_on_when_the_link_leads_nowhere(compose: list[str], tmp_path: Path) -> None:
    vllm = config(compose, tmp_path, None, {})
    assert vllm["environment"]["MODEL"] is None
    assert published(vllm) == "127.0.0.1:8000"
