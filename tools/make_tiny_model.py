#!/usr/bin/env python3
"""Write a model that vLLM can serve without a hub: a Llama of two layers, its weights left out.

    python tools/make_tiny_model.py FOLDER
    python tools/make_tiny_model.py --thinks FOLDER    with <think>, which its template opens

Runs in vLLM's own environment (it needs `tokenizers`). The tokenizer is trained on the source
of Python's standard library, which every machine has; vLLM fills in random weights
(`--load-format dummy`), so replies are random text, of any length asked for. One that thinks is
served with `--reasoning-parser`; it ends its thoughts by `thinking_token_budget`.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

VOCABULARY = 4096
CONTEXT = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


MARKS = ["<think>", "</think>"]
THOUGHT = "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"


def main() -> int:
    """Write tokenizer and configuration."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    thinks = words[:1] == ["--thinks"]
    words = words[thinks:]
    if len(words) != 1 or words[0].startswith("-"):
        return complain("must be called with one folder: make_tiny_model.py FOLDER", 2)
    try:
        write_model(Path(words[0]), MARKS if thinks else [])
    except ModuleNotFoundError as e:
        return complain(f"the library {e.name} is missing: run this in vLLM's own environment")
    except OSError as e:
        return complain(f"{e.filename or words[0]}: {e.strerror or e}")
    return 0


def complain(problem: str, status: int = 1) -> int:
    """Print what is wrong, and return the exit code; the project's own package may not be here."""
    print(f"make_tiny_model.py: {problem}", file=sys.stderr)
    return status


def write_model(folder: Path, marks: list[str]) -> None:
    """Write all files of the model, and `marks`. Raises OSError, ModuleNotFoundError."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_tokenizer(folder, marks)
    write_json(folder / "tokenizer_config.json", tokenizer_settings(thinks=bool(marks)))
    # Last: its presence shows that the model is complete.
    write_json(folder / "config.json", model_settings(vocabulary))


def write_tokenizer(folder: Path, marks: list[str]) -> int:
    """Train a byte-level BPE tokenizer and write it; return the size of its vocabulary.

    `marks` are words of their own, and no special ones: those are left out of a reply's text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(marks),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    tokenizer.train([str(path) for path in sources], trainer)
    tokenizer.add_tokens(marks)
    tokenizer.save(str(folder / "tokenizer.json"))
    return int(tokenizer.get_vocab_size())


def tokenizer_settings(*, thinks: bool) -> dict[str, object]:
    """Return the tokenizer's settings for transformers, with the chat template."""
    opening = "<|im_start|>assistant\n"
    template = CHAT_TEMPLATE.replace(opening, opening + THOUGHT) if thinks else CHAT_TEMPLATE
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }


def model_settings(vocabulary: int) -> dict[str, object]:
    """Return the smallest Llama that vLLM's CPU attention accepts."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
    }


def write_json(path: Path, content: object) -> None:
    """Write one of the model's files."""
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
