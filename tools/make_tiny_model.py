#!/usr/bin/env python3
"""Write a model that vLLM can serve without a hub: a Llama of two layers, its weights left out.

    python tools/make_tiny_model.py FOLDER
    python tools/make_tiny_model.py --thinks FOLDER    with <think>, which its template opens
    python tools/make_tiny_model.py --sees FOLDER      takes pictures: an Idefics3 of that Llama

Runs in vLLM's own environment (it needs `tokenizers`). The tokenizer is trained on the source
of Python's standard library, which every machine has; vLLM fills in random weights
(`--load-format dummy`), so replies are random text, of any length asked for. One that thinks is
served with `--reasoning-parser`; it ends its thoughts by `thinking_token_budget`. One that sees is
served with `--limit-mm-per-prompt '{"image": 2}'`, say; of the kinds that see, Idefics3's code is
one that does without torchvision, which vLLM's build for CPUs hasn't.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

VOCABULARY = 4096
CONTEXT = 2048
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THOUGHT = "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"
OPENING = "<|im_start|>assistant\n"
CONTENT = "{{ m['content'] }}"
PARTS = (
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
)
# A picture is cut into tiles of SIDE x SIDE pixels, at most TILES a side; each is patches of
# PATCH x PATCH, and SCALE x SCALE patches are a token.
SIDE, PATCH, SCALE, TILES = 56, 14, 2, 4
PICTURE = "Idefics3"


class Kind(NamedTuple):
    """What a model has beside the plain one."""

    marks: tuple[str, ...] = ()  # words of the vocabulary
    special: bool = False  # whether these are left out of a reply's text
    template: str = CHAT_TEMPLATE


SEES = "--sees"
KINDS = {
    "--thinks": Kind(
        ("<think>", "</think>"), template=CHAT_TEMPLATE.replace(OPENING, OPENING + THOUGHT)
    ),
    SEES: Kind(
        (
            *("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
            *(f"<row_{r}_col_{c}>" for r in range(1, TILES + 1) for c in range(1, TILES + 1)),
        ),
        special=True,
        template=CHAT_TEMPLATE.replace(CONTENT, PARTS),
    ),
}


def main() -> int:
    """Write tokenizer and configuration."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    asked = words.pop(0) if words and words[0] in KINDS else ""
    if len(words) != 1 or words[0].startswith("-"):
        return complain("must be called with one folder: make_tiny_model.py FOLDER", 2)
    try:
        write_model(Path(words[0]), asked)
    except ModuleNotFoundError as e:
        return complain(f"the library {e.name} is missing: run this in vLLM's own environment")
    except OSError as e:
        return complain(f"{e.filename or words[0]}: {e.strerror or e}")
    return 0


def complain(problem: str, status: int = 1) -> int:
    """Print what is wrong, and return the exit code; the project's own package may not be here."""
    print(f"make_tiny_model.py: {problem}", file=sys.stderr)
    return status


def write_model(folder: Path, asked: str) -> None:
    """Write all files of the kind of model. Raises OSError, ModuleNotFoundError."""
    kind = KINDS.get(asked, Kind())
    folder.mkdir(parents=True, exist_ok=True)
    words = write_tokenizer(folder, kind)
    write_json(folder / "tokenizer_config.json", tokenizer_settings(kind))
    settings = model_settings(len(words))
    if asked == SEES:
        write_json(folder / "preprocessor_config.json", picture_settings())
        write_json(folder / "processor_config.json", processor_settings())
        settings = seeing_settings(settings, words["<image>"])
    # Last: its presence shows that the model is complete.
    write_json(folder / "config.json", settings)


def write_tokenizer(folder: Path, kind: Kind) -> dict[str, int]:
    """Train a byte-level BPE tokenizer and write it; return its words with their ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(kind.marks),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    tokenizer.train([str(path) for path in sources], trainer)
    add = tokenizer.add_special_tokens if kind.special else tokenizer.add_tokens
    add(list(kind.marks))
    tokenizer.save(str(folder / "tokenizer.json"))
    words: dict[str, int] = tokenizer.get_vocab()
    return words


def tokenizer_settings(kind: Kind) -> dict[str, object]:
    """Return the tokenizer's settings for transformers, with the chat template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "chat_template": kind.template,
    }


def picture_settings() -> dict[str, object]:
    """Return how a picture becomes tiles."""
    steps = ("convert_rgb", "image_splitting", "normalize", "pad", "rescale", "resize")
    return {
        "processor_class": f"{PICTURE}Processor",
        "image_processor_type": f"{PICTURE}ImageProcessor",
        **{f"do_{step}": True for step in steps},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "rescale_factor": 1 / 255,
        "max_image_size": {"longest_edge": SIDE},
        "size": {"longest_edge": SIDE * TILES},
    }


def processor_settings() -> dict[str, object]:
    """Return how many tokens a tile has."""
    tokens = (SIDE // PATCH // SCALE) ** 2
    return {"processor_class": f"{PICTURE}Processor", "image_seq_len": tokens}


def seeing_settings(text: dict[str, object], image_token: int) -> dict[str, object]:
    """Return the settings of an Idefics3 with this language model."""
    eye = {
        "model_type": "idefics3_vision",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    return {
        "architectures": [f"{PICTURE}ForConditionalGeneration"],
        "model_type": "idefics3",
        "text_config": text,
        "vision_config": eye,
        "image_token_id": image_token,
        "scale_factor": SCALE,
        "pad_token_id": text["pad_token_id"],
        "tie_word_embeddings": False,
        "torch_dtype": text["torch_dtype"],
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
