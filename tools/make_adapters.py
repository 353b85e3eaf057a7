#!/usr/bin/env python3
"""Write random LoRA adapters for the model of make_tiny_model.py, which vLLM can serve beside it.

    python tools/make_adapters.py MODEL FOLDER NAME ...

Writes FOLDER/NAME for each name: rank 8, the attention's four matrices, weights drawn by the name's
place. Runs in vLLM's own environment (it needs torch and safetensors). Then:

    sh tools/vllm_cpu.sh --enable-lora --max-loras 2 --max-lora-rank 8 --lora-modules red=FOLDER/red
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RANK, SCALE = 8, 0.5


def main() -> int:
    """Write the adapters."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    if len(words) < 3 or any(word.startswith("-") for word in words):
        return complain("must be called as make_adapters.py MODEL FOLDER NAME ...", 2)
    model, folder, *names = words
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        for seed, name in enumerate(names, start=1):
            write_adapter(Path(folder) / name, config, seed)
    except ModuleNotFoundError as e:
        return complain(f"the library {e.name} is missing: run this in vLLM's own environment")
    except (OSError, ValueError, KeyError) as e:
        return complain(f"{model}: {e}")
    return 0


def complain(problem: str, status: int = 1) -> int:
    """Print what is wrong, and return the exit code; the project's own package may not be here."""
    print(f"make_adapters.py: {problem}", file=sys.stderr)
    return status


def write_adapter(folder: Path, config: dict[str, Any], seed: int) -> None:
    """Write one adapter: its weights, and their description."""
    import torch
    from safetensors.torch import save_file

    drawn = torch.Generator().manual_seed(seed)

    def weights(rows: int, columns: int) -> Any:
        return (torch.randn(rows, columns, generator=drawn) * SCALE).to(torch.bfloat16)

    shapes, found = shapes_of(config), {}
    for layer in range(config["num_hidden_layers"]):
        for name, (inside, outside) in shapes.items():
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            found[f"{at}.lora_A.weight"] = weights(RANK, inside)
            found[f"{at}.lora_B.weight"] = weights(outside, RANK)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(found, str(folder / "adapter_model.safetensors"))
    described = {
        **{"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none"},
        **{"r": RANK, "lora_alpha": RANK, "lora_dropout": 0.0},
        **{"target_modules": sorted(shapes), "base_model_name_or_path": "tiny"},
    }
    text = json.dumps(described, indent=1)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return what goes into each matrix of the attention, and what comes out."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    queries, keys = heads * size, config["num_key_value_heads"] * size
    return {
        **{"q_proj": (hidden, queries), "o_proj": (queries, hidden)},
        **dict.fromkeys(("k_proj", "v_proj"), (hidden, keys)),
    }


if __name__ == "__main__":
    sys.exit(main())
