"""The rules of the house, read off the imports: who may know whom, the clock, files, the server."""

from __future__ import annotations

import ast
import functools
import itertools
import statistics
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "bench" / "vllm_bench"
SIMULATOR = ROOT / "server" / "sim"
SCRIPTS = [*sorted((ROOT / "bench").glob("*.py")), ROOT / "inspect_prompts.py"]
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.parent != LIBRARY)
DOOR = sorted(LIBRARY.glob("*.py"))  # what scripts and rooms share: errors, .env, a script's end
SERVER = [*sorted(SIMULATOR.parent.glob("*.py")), *sorted(SIMULATOR.rglob("*.py"))]
EVERYTHING = [*SCRIPTS, *DOOR, *MODULES, *SERVER]
MOST_FILES, LONGEST_FUNCTION, MEDIAN_FUNCTION = 12, 40, 7
# `python -P` leaves a script's folder out of the path; without it no script finds its library.
OWN_FOLDER = "sys.path.insert(0, str(Path(__file__).resolve().parent))  # left out by python -P"
GROUND = {"records", "scenario"}
# Each room and what it may import, itself and `records` beside.
MEASURE = {
    "prompts": (),
    "reply": (),
    "vllm": ("reply",),
    "traces": ("prompts",),
    "sessions": ("prompts", "traces"),
    "plan": ("prompts", "reply", "vllm", "traces", "sessions"),
    "wire": ("reply",),
    "send": ("plan", "reply", "wire"),
    "live": ("reply", "plan", "send"),
    "watch": ("vllm",),
    "quality": ("prompts",),
    "crew": ("reply", "plan", "wire", "send", "live", "quality"),
    "machines": ("reply", "plan", "wire", "send", "live", "quality", "crew", "vllm"),
    "run": (
        *("prompts", "reply", "vllm", "plan", "wire", "send", "live", "watch", "quality"),
        *("crew", "machines"),
    ),
    "launch": ("vllm",),
}
JUDGED = ("stats", "figures", "serverside", "verdict", "answers", "summary")
JUDGE = {
    "stats": (),
    "figures": ("stats",),
    "serverside": ("stats", "figures"),
    "verdict": ("stats", "figures", "serverside"),
    "answers": ("stats", "verdict"),
    "summary": ("stats", "figures", "serverside", "verdict", "answers"),
    "classes": JUDGED,
    "compare": JUDGED,
    "search": JUDGED,
    "tables": (*JUDGED, "classes", "compare", "search"),
    "charts": (*JUDGED, "classes", "compare", "search", "tables"),
    "page": (*JUDGED, "classes", "compare", "search", "tables", "charts"),
    "planted": JUDGED,
    "peers": JUDGED,
}
ASK = {  # above both wings
    "experiments": (*MEASURE, *JUDGE),
    "tuning": (*MEASURE, *JUDGE, "experiments"),
}
ROOMS = {"records": (), "scenario": (), **MEASURE, **JUDGE, **ASK}


def dotted(path: Path) -> str:
    """The name that a file of one of the two packages is imported by."""
    package = LIBRARY.parent if path.is_relative_to(LIBRARY) else SIMULATOR.parent
    return ".".join(path.relative_to(package).with_suffix("").parts)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, as `package.room.module`, relative ones resolved."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = dotted(path).rsplit(".", node.level)[0] + "." if node.level else ""
            found = [f"{node.module}"] if node.module else [alias.name for alias in node.names]
            yield from (f"{above}{name}" for name in found)


@functools.cache
def names(path: Path) -> frozenset[str]:
    return frozenset(imports(path))


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def rooms(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    found = [name.split(".") for name in names(path) if name.startswith("vllm_bench.")]
    return {parts[1] for parts in found if parts[1] in ROOMS}


def room_of(path: Path) -> str:
    """A room may have rooms within; the rules are those of the outer one."""
    return path.relative_to(LIBRARY).parts[0]


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    assert rooms(path) <= {room, *GROUND, *ROOMS[room]}


def test_the_wings_meet_in_records_and_scenario_alone() -> None:
    for path in MODULES:
        room = room_of(path)
        other = JUDGE if room in MEASURE else MEASURE if room in JUDGE else {}
        assert not rooms(path) & other.keys(), path


@pytest.mark.parametrize("path", [*SCRIPTS, *MODULES], ids=ids([*SCRIPTS, *MODULES]))
def test_nothing_imports_a_script_or_edits_the_path(path: Path) -> None:
    scripts = {script.stem for script in SCRIPTS}
    assert not names(path) & scripts
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "sys.path" in line]
    assert lines == ([OWN_FOLDER] if path.parent == LIBRARY.parent else [])


@pytest.mark.parametrize("package", [LIBRARY, SIMULATOR], ids=["vllm_bench", "simulator"])
def test_there_are_no_circles_among_files(package: Path) -> None:
    edges = {dotted(p): names(p) for p in package.rglob("*.py")}
    files = {module: found & edges.keys() for module, found in edges.items()}
    TopologicalSorter(files).prepare()  # raises CycleError


def test_there_are_no_circles_among_rooms() -> None:
    below: set[str] = set()  # the table is in an order in which each room knows those before it
    for room, may in ROOMS.items():
        assert set(may) <= below, room
        below.add(room)


def test_a_room_holds_at_most_a_dozen_files() -> None:
    folders = {path.parent for path in [*EVERYTHING, *(ROOT / "tests").rglob("*.py")]}
    folders.remove(ROOT / "bench")  # of scripts, each for itself
    crowded = {
        str(f.relative_to(ROOT)): n for f in folders if (n := len([*f.glob("*.py")])) > MOST_FILES
    }
    assert not crowded


def lines_of_functions() -> dict[str, int]:
    return {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in EVERYTHING
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_fit_a_glance() -> None:
    lines = lines_of_functions()
    assert {name: n for name, n in lines.items() if n > LONGEST_FUNCTION} == {}
    assert statistics.median(lines.values()) <= MEDIAN_FUNCTION


MAY = {
    # who may talk to a server, know asyncio and the clock, know a file format
    "httpx": {"calls"},
    "httpcore": {"calls"},
    "httptools": {"connection"},
    "uvloop": {"worker"},
    "asyncio": {
        "opening",
        "streams",
        "lanes",
        "closed_loop",
        "open_loop",
        "session_loop",
        "timer",
        "loop_health",
        "worker",
    },
    "yaml": {"yaml_file"},
    "rich": {"screen", "terminal"},
    "argparse": set(),
    "ray": {"by_ray"},  # an extra, in a process of its own
}


@pytest.mark.parametrize(("library", "allowed"), MAY.items(), ids=MAY)
def test_each_library_has_its_place(library: str, allowed: set[str]) -> None:
    users = {p.stem for p in MODULES if library in {n.split(".")[0] for n in names(p)}}
    assert users <= allowed


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_only_scripts_print_exit_or_read_the_environment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    calls = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Call)]
    plain = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    to_a_stream = [c for c in plain if any(k.arg == "file" for k in c.keywords)]
    assert len(plain) == len(to_a_stream)
    assert "sys.exit" not in text
    assert "os.environ" not in text


def test_the_checks_can_fail() -> None:
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
    above = ROOMS["verdict"]
    assert "page" not in above
    assert rooms(LIBRARY / "page" / "page.py") - {"page", *GROUND, *above}


def test_help_needs_no_heavy_library() -> None:
    heavy = {"numpy", "pandas", "matplotlib", "datasets", "scipy", "httpx", "pydantic"}
    for script in SCRIPTS:
        top = [n for n in tree(script).body if isinstance(n, ast.Import | ast.ImportFrom)]
        found = itertools.chain.from_iterable(
            [a.name for a in n.names] if isinstance(n, ast.Import) else [n.module or ""]
            for n in top
        )
        assert not {name.split(".")[0] for name in found} & heavy
