"""GPUs watched and at full speed, a server by itself: each code on both sides of its limit."""

from __future__ import annotations

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.summary import facts_of as facts_of_run
from vllm_bench.verdict.verdict import judge

from tests.support.made_runs import gpu_row, made_info, made_record, write_gpu_rows, write_run
from tests.support.open_runs import facts_of, finding_of
from tests.verdict.judging import NOTE, SUSPECT, healthy, severity_of


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (None, None),
        ({"gpu_index": 1, "from_s": 10.0, "to_s": 13.0, "code": "late"}, None),  # not over 3 s
        ({"gpu_index": 1, "from_s": 10.0, "to_s": 13.1, "code": "late"}, SUSPECT),
        ({"gpu_index": 1, "from_s": 10.0, "to_s": None, "code": "lost"}, SUSPECT),
        ("nonsense", None),
    ],
)
def test_a_gpu_that_was_not_read_for_long_is_doubted(tmp_path, gap, expected):
    observed = {"gpu": {"gaps": [gap] if gap else []}}
    facts = facts_of(tmp_path, healthy(), observed=observed)
    assert severity_of(facts, "gpu_gap") == expected
    if expected:
        assert "GPU 1" in finding_of(facts, "gpu_gap").figures


@pytest.mark.parametrize(
    ("asked", "rows", "expected"),
    [(True, 0, SUSPECT), (True, None, SUSPECT), (True, 3, None), (False, None, None)],
)
def test_telemetry_that_was_asked_for_and_is_not_there_is_doubted(tmp_path, asked, rows, expected):
    why = {"code": "old_pynvml", "text": "pynvml.py is an old binding"}
    info = made_info(
        healthy(),
        scenario={"telemetry": asked},
        observed={"gpu": {"problems": [why]}} if asked else {},
    )
    path = write_run(tmp_path, healthy(), info)
    if rows is not None:
        write_gpu_rows(path, [gpu_row(float(n)) for n in range(rows)])
    facts = facts_of_run(load_run(path))
    assert severity_of(facts, "not_sampled") == expected
    assert judge(facts).level == "VALID"  # GPUs alone are doubted
    if expected:
        assert why["text"] in finding_of(facts, "not_sampled").figures


def test_a_gap_names_what_ended_the_sampler(tmp_path):
    gap = {"gpu_index": 0, "from_s": 10.0, "to_s": None, "code": "late"}
    told = {"code": "command", "text": "--telemetry-command ended early with status 255"}
    facts = facts_of(tmp_path, healthy(), observed={"gpu": {"gaps": [gap], "problems": [told]}})
    assert told["text"] in finding_of(facts, "gpu_gap").figures


@pytest.mark.parametrize(
    ("t_s", "reasons", "expected"),
    [
        (15.0, "none", None),
        (15.0, "gpu_idle", None),  # nothing to do is no throttling
        (15.0, "applications_clocks_setting", None),  # somebody wanted it so
        (15.0, "sw_power_cap", SUSPECT),
        (15.0, "gpu_idle|hw_thermal_slowdown", SUSPECT),
        (-0.3, "sw_power_cap", None),  # before the window
    ],
)
def test_a_gpu_whose_clocks_were_held_down_in_the_window_is_doubted(
    tmp_path, t_s, reasons, expected
):
    # Four at once from start to end, so that there is a window; the run takes 30 s.
    records = [made_record(i, t_sent_s=i // 4 * 0.3) for i in range(400)]
    path = write_run(tmp_path, records, made_info(records))
    write_gpu_rows(path, [gpu_row(t_s, gpu_index=3, throttle_reasons=reasons)])
    facts = facts_of_run(load_run(path))
    assert severity_of(facts, "gpu_throttled") == expected
    if expected:
        assert "GPU 3" in finding_of(facts, "gpu_throttled").figures


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_gpu_samples_that_are_none_are_refused_by_name(tmp_path, text):
    path = write_run(tmp_path, healthy(10), made_info(healthy(10)))
    (tmp_path / "telemetry").mkdir()
    (tmp_path / "telemetry" / path.name).write_text(text)
    run = load_run(path)
    assert facts_of_run(run).gpu_rows is None  # all the rest is there
    assert "not GPU samples" in run.problems[0]


@pytest.mark.parametrize(("told", "expected"), [(True, NOTE), (False, None)])
def test_client_and_server_on_one_machine_are_noted(tmp_path, told, expected):
    facts = facts_of(tmp_path, healthy(), server={"on_client_machine": told})
    assert severity_of(facts, "same_machine") == expected
