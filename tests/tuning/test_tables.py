"""What a tune leaves: tune.csv, tune.md, best.env; and what it says."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.env_file import parse_env
from vllm_bench.records.row import column_docs, columns
from vllm_bench.tuning.answer import Answer
from vllm_bench.tuning.best_env import best_env, setting_words
from vllm_bench.tuning.configurations import Configuration
from vllm_bench.tuning.ranking import Placed, ranked
from vllm_bench.tuning.tables import TuneRow, to_csv, to_markdown
from vllm_bench.tuning.trials import Highest, Tried
from vllm_bench.tuning.words import exit_code, in_words

from tests.tuning.made_trials import made_run, made_trial, tried

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hf_xSECRETx"


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_a_run_is_a_row_and_a_start_that_failed_is_one(tmp_path: Path) -> None:
    run = made_run(tmp_path, "one-cc4")
    fine = tried(tmp_path, made_trial("seqs 8", run_ids=(run,)))
    dead = made_trial(
        "seqs 9", why="ended before it was ready", log=("ValueError: no room",), ready_s=None
    )
    first, second = rows(to_csv([fine, tried(tmp_path, dead)]))
    assert first["run_id"] == "one-cc4"
    assert first["kv_cache_tokens"] == "1000"
    assert float(first["kv_cache_requests"]) == 4.5
    assert float(first["ready_s"]) == 2.5
    assert float(first["output_tokens_per_s"]) > 0
    assert first["problem"] == ""
    assert second["run_id"] == second["ready_s"] == second["ttft_p50_ms"] == ""
    assert {"ended before it was ready", "ValueError: no room"} == {*second["problem"].split(" | ")}


def test_the_page_explains_each_column() -> None:
    page = (ROOT / "docs" / "jobs" / "SETTINGS.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z0-9_]+)` \| (.*) \|$", page, re.MULTILINE) == column_docs(TuneRow)
    assert len(column_docs(TuneRow)) == len(columns(TuneRow))


def test_the_trade_offs_are_filled_with_what_was_measured(tmp_path: Path) -> None:
    runs = (made_run(tmp_path, "one-cc4"), made_run(tmp_path, "one-cc8", concurrency=8))
    fine = tried(tmp_path, made_trial("seqs 8", run_ids=runs))
    hostile = tried(tmp_path, made_trial("<b>|`x`", why="a | b\x1b[31m"))
    page = to_markdown("2 configurations", "seqs 8 is better", [fine, hostile], simulated=False)
    table = page.split("## Trade-offs")[1].split("##")[0]
    assert re.search(r"`seqs 8` \| .*4.50.* \| 100 ms at 4 streams, 100 ms at 8 streams", table)
    assert len({line.count("|") for line in table.splitlines() if line.startswith("|")}) == 1
    assert "\x1b" not in page
    assert "<b>" not in page
    assert "simulator" not in page
    assert "simulator" in to_markdown("2", "w", [fine], simulated=True)


# ---- the answer and the exit code ----


def placed(tmp_path: Path, name: str, **changes: object) -> Placed:
    run = made_run(tmp_path, f"{name}-cc4", **changes)
    return ranked("throughput", [tried(tmp_path, made_trial(name, run_ids=(run,)))])[0]


def dead(tmp_path: Path, *, ready_s: float | None) -> Placed:
    trial = made_trial("dead", why="it died", ready_s=ready_s)
    return ranked("throughput", [tried(tmp_path, trial)])[0]


def test_the_exit_code_says_whether_there_is_an_answer(tmp_path: Path) -> None:
    fine, late = placed(tmp_path, "fine"), placed(tmp_path, "late", scenario=LATE)
    told = Answer("cannot tell", "fine", "late", "cannot tell between fine and late")
    nothing = Answer("nothing", "fine", "late", "cannot tell between fine and late: no pair")
    assert exit_code([fine], told) == 0
    assert exit_code([fine, dead(tmp_path, ready_s=None)], None) == 0
    assert exit_code([fine], nothing) == 4
    assert exit_code([late], told) == 3
    assert exit_code([dead(tmp_path, ready_s=None)], None) == 1
    assert exit_code([dead(tmp_path, ready_s=1.0)], None) == 4


LATE = {"slo": {"ttft_ms": {"p50": 1.0}}}


def test_no_load_that_meets_the_objectives_is_an_objective_missed(tmp_path: Path) -> None:
    highest = Highest(value=None, unit="streams", words="doesn't meet even at 1", below=True)
    found = ranked("capacity", [tried(tmp_path, made_trial("a", capacity=highest))])
    assert exit_code(found, None) == 3
    assert "even at 1" in in_words(found, None)


def test_of_capacities_the_answer_has_what_the_searches_found(tmp_path: Path) -> None:
    def at(name: str, value: float) -> Tried:
        highest = Highest(value=value, unit="requests/s", words=f"meets up to {value:g}")
        return tried(tmp_path, made_trial(name, capacity=highest))

    told = Answer("cannot tell", "b", "a", "cannot tell between b and a")
    words = in_words(ranked("capacity", [at("a", 20.0), at("b", 40.25)]), told)
    assert "b 40.25 requests/s, a 20 requests/s" in words
    assert "found" not in in_words([placed(tmp_path, "c")], told)


def test_what_was_measured_once_is_said_to_be_chance(tmp_path: Path) -> None:
    words = in_words([placed(tmp_path, "a"), placed(tmp_path, "b", concurrency=8)], None)
    assert "chance" in words
    assert "only" in in_words([placed(tmp_path, "c"), dead(tmp_path, ready_s=None)], None)


# ---- best.env ----


def test_no_secret_reaches_best_env() -> None:
    values = {
        "HF_TOKEN": SECRET,
        "VLLM_API_KEY": SECRET,
        "EXTRA_ARGS": f"--enforce-eager --api-key {SECRET}",
        "MODEL": "m",
    }
    made = best_env(values, "a is better")
    assert SECRET not in made
    assert parse_env(made) == {"MODEL": "m"}
    assert SECRET not in setting_words(values)


def test_the_words_of_an_answer_stay_a_comment() -> None:
    assert parse_env(best_env({"MODEL": "m"}, "a\nMODEL=evil")) == {"MODEL": "m"}


def test_what_the_best_empties_is_empty_over_what_env_sets() -> None:
    base = {"KV_CACHE_DTYPE": "fp8", "EXTRA_ARGS": "--enforce-eager", "MODEL": "m"}
    best = Configuration("kv default", "kv", {"KV_CACHE_DTYPE": ""})
    file = "\n".join(f"{name}={value}" for name, value in base.items())
    found = parse_env(f"{file}\n{best_env(best.started_with(base), 'words')}")
    assert found == {**base, "KV_CACHE_DTYPE": ""}


names = st.sampled_from(["MODEL", "MAX_NUM_SEQS", "EXTRA_ARGS", "VLLM_ATTENTION_BACKEND"])
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=40
)


@given(st.dictionaries(names, texts, min_size=1))
def test_what_best_env_sets_is_what_was_tried(values: dict[str, str]) -> None:
    found = parse_env(best_env(values, "words"))
    assert found.items() <= values.items()
    left_out = values.keys() - found.keys()
    assert all(
        {"'", '"', "\\", "$"} & {*values[n]}
        or "***" in setting_words({n: values[n]})
        or values[n] != values[n].strip()
        for n in left_out
    )
