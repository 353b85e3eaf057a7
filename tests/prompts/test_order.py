"""An order that a seed decides, the same in every process and for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.prompts.order import derive_seed, permutation

ROOT = Path(__file__).resolve().parents[2]


@given(st.integers(0, 200), st.integers(0, 2**63))
def test_a_permutation_holds_each_place_once(length: int, seed: int) -> None:
    assert sorted(permutation(length, seed)) == list(range(length))


def test_the_order_of_a_seed_is_fixed_for_ever() -> None:
    assert list(permutation(7, 1)) == [0, 6, 5, 4, 2, 3, 1]


def test_orders_are_spread_evenly() -> None:
    seen = Counter(tuple(permutation(3, seed)) for seed in range(6000))
    assert len(seen) == 6
    assert all(800 < number < 1200 for number in seen.values())


@pytest.mark.process
@pytest.mark.parametrize("fit", ["natural", "packed"])
def test_two_processes_with_other_hash_seeds_choose_the_same(tmp_path: Path, fit: str) -> None:
    texts = tmp_path / "prompts.txt"
    texts.write_text("\n".join(f"No{i} " + "word " * (i % 40) for i in range(100)))
    program = (
        "import sys; from pathlib import Path\n"
        "from vllm_bench.prompts.source import load_source\n"
        "from vllm_bench.prompts.order import derive_seed\n"
        "from vllm_bench.prompts.fit import Draw, choose_prompts\n"
        "from vllm_bench.prompts.count import best_counter\n"
        "source = load_source(sys.argv[1], cache_dir=Path())\n"
        "draw = Draw(source, 50, derive_seed(3, 'prompts'), best_counter())\n"
        "found = choose_prompts(draw, sys.argv[2], 40)\n"
        "print(found.sha256, *(p.id for p in found.prompts))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program, f"file:{texts}", fit],
            capture_output=True, text=True, check=True, cwd=ROOT / "bench",
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }  # fmt: skip
    assert len(said) == 1


def test_derived_seeds_are_fixed_for_ever_and_differ_by_purpose() -> None:
    assert derive_seed(0, "prompts") == 2156200471986163497
    assert derive_seed(0, "prompts") != derive_seed(0, "schedule")
    assert derive_seed(0, "prompts") != derive_seed(1, "prompts")
    assert all(0 <= derive_seed(n, "prompts") < 2**63 for n in range(100))
