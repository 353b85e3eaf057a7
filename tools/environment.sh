#!/bin/sh
# Makes the Python environment in which the make verbs run, and prints its interpreter.
#
#   sh tools/environment.sh run     what the scripts need (requirements.txt)
#   sh tools/environment.sh dev     and what tests and checks need (requirements-dev.txt)
#   sh tools/environment.sh ray     and what several machines need, where Ray places them
#   sh tools/environment.sh how     makes it for the scripts, and says how to activate it
#
# With mamba on the PATH it is mamba's environment `vllm-bench` (Python 3.10); else .venv, by
# the system's python3, or by the one that PYTHON names. It isn't changed if it is up to date: a
# stamp in the environment has the checksum of what was installed.
set -eu

cd -- "$(dirname -- "$0")/.."

die() {
    printf 'environment.sh: %s\n' "$*" >&2
    exit 1
}

say() {
    printf '%s\n' "$*" >&2
}

case ${1:-run} in
    run | how) files='requirements.txt' ;;
    dev) files='requirements.txt requirements-dev.txt' ;;
    ray) files='requirements.txt requirements-ray.txt' ;;
    *) die "unknown environment ${1}: run, dev or ray (or how)" ;;
esac

use_mamba() {
    python=$(mamba run -n vllm-bench python -c 'import sys; print(sys.executable)' 2>/dev/null) ||
        make_mamba
    folder=${python%/bin/*}
}

make_mamba() {
    say 'Making the mamba environment vllm-bench …'
    mamba create -n vllm-bench python=3.10 -y >&2 || die 'mamba could not make vllm-bench'
    python=$(mamba run -n vllm-bench python -c 'import sys; print(sys.executable)')
}

use_venv() {
    folder=.venv
    python=$PWD/.venv/bin/python
    # If the interpreter is gone (after a system upgrade), its link leads nowhere.
    "$python" -c '' 2>/dev/null || make_venv
}

# Whether a folder may be emptied: it has nothing in it, or is an environment; none behind a link,
# which is somebody else's.
may_empty() {
    [ ! -h "$1" ] || return 1
    [ -d "$1" ] || [ ! -e "$1" ] || return 1
    [ -z "$(find "$1" -mindepth 1 -maxdepth 1 2>/dev/null)" ] ||
        [ -n "$(find "$1" -maxdepth 1 \( -name pyvenv.cfg -o -name '.vllm-bench-*' \))" ]
}

make_venv() {
    may_empty .venv ||
        die ".venv is no Python environment of this clone, and would be emptied:" \
            "move $PWD/.venv away"
    base=${PYTHON:-python3}
    command -v "$base" >/dev/null || die "no $base on the PATH: install Python 3.10 or newer"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "$("$base" --version) is too old: Python 3.10 or newer is needed (PYTHON=… names one)"
    say "Making .venv with $("$base" --version) …"
    "$base" -m venv --clear .venv >&2 || die 'no .venv: on Debian, apt-get install python3-venv'
}

if command -v mamba >/dev/null; then use_mamba; else use_venv; fi

# shellcheck disable=SC2086 # a list of files
sum=$(cat $files | cksum)
kind=${1:-run}
[ "$kind" != how ] || kind=run
stamp=$folder/.vllm-bench-$kind
if [ "$(cat "$stamp" 2>/dev/null)" != "$sum" ]; then
    say "Installing $files …"
    for file in $files; do
        "$python" -m pip install --quiet --disable-pip-version-check -r "$file" >&2 ||
            die "pip could not install $file: see above"
    done
    printf '%s\n' "$sum" >"$stamp"
fi
if [ "${1:-}" = how ]; then
    activate='. .venv/bin/activate'
    [ "$folder" = .venv ] || activate='mamba activate vllm-bench'
    printf 'Ready. The make verbs find it by themselves; to call the scripts: %s\n' "$activate"
else
    printf '%s\n' "$python"
fi
