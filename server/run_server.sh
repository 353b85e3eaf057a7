#!/bin/sh
# Starts vLLM with the settings of the environment and of the repository's .env.
#
#   ./server/run_server.sh                       everything from .env
#   MODEL=Qwen/Qwen3-8B ./server/run_server.sh   the environment wins over .env
#   ./server/run_server.sh --dry-run             show the command, start nothing
#
# The same file is the entrypoint of the container in docker-compose.yml, so that a variable
# means the same in both. A variable that is empty, in the environment or in .env, is one that
# isn't given: vLLM's own default holds. HF_TOKEN and VLLM_API_KEY reach vLLM by environment
# only, since everybody on the machine can read a command line.
set -eu

newline='
'

usage() {
    cat <<'USAGE'
usage: run_server.sh [--dry-run]

Runs `vllm serve` with these variables, from the environment or else from .env:

  MODEL                   the model (gpt-oss-20, which means openai/gpt-oss-20b)
  HOST, PORT              where to listen (all interfaces, 8000)
  GPU_MEM_UTIL            --gpu-memory-utilization, above 0 up to 1
  MAX_MODEL_LEN           --max-model-len: tokens, 16k, or auto
  KV_CACHE_DTYPE          --kv-cache-dtype: auto, fp8, ...
  MAX_NUM_BATCHED_TOKENS  --max-num-batched-tokens: tokens, or 16k
  MAX_NUM_SEQS            --max-num-seqs
  TENSOR_PARALLEL_SIZE    --tensor-parallel-size
  STREAM_INTERVAL         --stream-interval
  EXTRA_ARGS              further arguments, quoted as for a shell
  HF_TOKEN, VLLM_API_KEY  secrets: handed on by environment, never on the command line

Other upper-case variables of .env (HF_HOME, VLLM_..., CUDA_...) go into vLLM's environment.

  --dry-run   print the command, secrets masked, and stop
  --help      print this
USAGE
}

warn() {
    printf 'run_server.sh: %s\n' "$*" >&2
}

die() { # exit status, message
    warn "$2"
    exit "$1"
}

# --- .env -----------------------------------------------------------------------------------
# Lines are parsed, never sourced: $(...), backquotes and ; in a value are only characters.
# Names are upper case because this script's own variables are lower case.

load_env() { # file
    [ -e "$1" ] || return 0
    if [ -d "$1" ] || [ ! -r "$1" ]; then
        die 1 "$1: not a file that can be read; make one with: make init-env"
    fi
    # What was set before the file is read: a later line of the file may override an earlier
    # one, and neither overrides these. awk, because a value in `env`'s output may hold lines.
    preset=$(awk 'BEGIN { for (name in ENVIRON) print name }')
    number=0
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        [ "$number" -gt 1 ] || line=${line#"$(printf '\357\273\277')"} # a byte-order mark
        if ! parse_line "$line"; then
            # The line itself stays unsaid: it may be a secret with a slip in it.
            warn "$1, line $number: not NAME=value (upper-case name, quotes closed), left out"
        elif [ -n "$name" ] && ! in_environment "$name"; then
            adopt "$name" "$value"
        fi
    done <"$1"
}

in_environment() { # name
    case $newline$preset$newline in
        *"$newline$1$newline"*) return 0 ;;
    esac
    return 1
}

adopt() { # name, value
    case $1 in
        # Changing these would break or stop the shell that reads this file.
        IFS | PATH | OPTIND | PPID | UID | EUID | SHELLOPTS | BASHOPTS | BASH_*)
            warn "$env_file, line $number: $1 belongs to the shell, left out"
            return
            ;;
        VLLM_IMAGE_TAG | GPU_COUNT) return ;; # Compose's; vLLM warns of VLLM_ names it lacks
    esac
    if [ -n "$2" ]; then
        export "$1=$2"
    else
        unset "$1"
    fi
}

# Sets $name and $value; $name is empty for a blank line or a comment. Fails on anything else.
parse_line() { # line
    name='' value=''
    rest=${1#"${1%%[![:space:]]*}"}
    case $rest in
        '' | '#'*) return 0 ;;
        export[[:blank:]]*)
            rest=${rest#export}
            rest=${rest#"${rest%%[![:space:]]*}"}
            ;;
    esac
    case $rest in
        *=*) ;;
        *) return 1 ;;
    esac
    name=${rest%%=*}
    name=${name%"${name##*[![:space:]]}"}
    case $name in
        http_proxy | https_proxy | no_proxy | all_proxy) ;; # lower case by custom
        '' | [0-9]* | *[!A-Z0-9_]*) return 1 ;;
    esac
    parse_value "${rest#*=}"
}

parse_value() { # what follows the =
    rest=${1#"${1%%[![:space:]]*}"}
    case $rest in
        \'*) parse_quoted "'" "${rest#?}" ;;
        \"*) parse_quoted '"' "${rest#?}" ;;
        '#'*)
            if [ "$rest" = "$1" ]; then
                parse_bare "$rest"
            else
                warn "$env_file, line $number: $name is only a comment, taken as empty;" \
                    "other readers of .env take the comment for the value: give it its own line"
            fi
            ;;
        *) parse_bare "$rest" ;;
    esac
}

parse_bare() { # value, and perhaps " # comment"
    value=${1%%[[:space:]]#*}
    value=${value%"${value##*[![:space:]]}"}
}

# The escapes are python-dotenv's (which the benchmark reads the same file with): \\ and \' in
# single quotes; in double quotes also \" and the control characters. Nothing is interpolated.
parse_quoted() { # the quote, what follows it
    rest=$2
    while :; do
        plain=${rest%%["$1"\\]*}
        [ "$plain" != "$rest" ] || return 1
        value=$value$plain
        rest=${rest#"$plain"}
        case $rest in
            "$1"*) break ;;
            \\[\\\']*) take_escape ;;
            \\[\"abfnrtv]*) if [ "$1" = '"' ]; then take_escape; else take_backslash; fi ;;
            *) take_backslash ;;
        esac
    done
    rest=${rest#?}
    rest=${rest#"${rest%%[![:space:]]*}"}
    case $rest in
        '' | '#'*) return 0 ;;
    esac
    return 1
}

take_backslash() {
    value=$value\\
    rest=${rest#?}
}

take_escape() {
    rest=${rest#?}
    case $rest in
        a*) value=$value$(printf '\a') ;;
        b*) value=$value$(printf '\b') ;;
        f*) value=$value$(printf '\f') ;;
        n*) value=$value$newline ;;
        r*) value=$value$(printf '\r') ;;
        t*) value=$value$(printf '\t') ;;
        v*) value=$value$(printf '\v') ;;
        *) value=$value${rest%"${rest#?}"} ;;
    esac
    rest=${rest#?}
}

# --- checks ---------------------------------------------------------------------------------

reject() { # name, value, what is allowed
    origin='the environment'
    [ -z "$preset" ] || in_environment "$1" || origin=$env_file
    die 2 "$1=$2 (from $origin): must be $3"
}

check_count() { # name, value
    case $2 in
        *[!0-9]*) ;;
        '' | *[1-9]*) return ;;
    esac
    reject "$1" "$2" 'a whole number above 0'
}

check_tokens() { # name, value, what is allowed; vLLM reads 16k, 25.6k and 16K as well
    tokens=${2%[kKmMgGtT]}
    case $tokens in
        *[!0-9.]* | *.*.* | .* | *.) ;;
        *.*) [ "$tokens" = "$2" ] || return 0 ;;
        *[1-9]*) return ;;
    esac
    [ -z "$2" ] || reject "$1" "$2" "$3"
}

check_port() { # value
    case $1 in
        '') return ;;
        *[!0-9]* | ??????*) ;;
        *) [ "$1" -lt 1 ] || [ "$1" -gt 65535 ] || return 0 ;;
    esac
    reject PORT "$1" 'a number from 1 to 65535'
}

check_fraction() { # name, value
    case $2 in
        '') return ;;
        *[!0-9.]* | *.*.*) ;;
        0.*[1-9]* | .*[1-9]*) return ;;
        1.*[1-9]*) ;;
        1 | 1.*) return ;;
    esac
    reject "$1" "$2" 'a fraction above 0, up to 1, such as 0.90'
}

check_settings() {
    case ${MODEL:-} in
        -* | *[[:space:]]*) reject MODEL "$MODEL" 'a model name or folder, without blanks' ;;
    esac
    check_port "${PORT:-}"
    check_fraction GPU_MEM_UTIL "${GPU_MEM_UTIL:-}"
    [ "${MAX_MODEL_LEN:-}" = auto ] ||
        check_tokens MAX_MODEL_LEN "${MAX_MODEL_LEN:-}" 'a number of tokens above 0, or auto'
    check_tokens MAX_NUM_BATCHED_TOKENS "${MAX_NUM_BATCHED_TOKENS:-}" 'a number of tokens above 0'
    check_count MAX_NUM_SEQS "${MAX_NUM_SEQS:-}"
    check_count TENSOR_PARALLEL_SIZE "${TENSOR_PARALLEL_SIZE:-}"
    check_count STREAM_INTERVAL "${STREAM_INTERVAL:-}"
}

# --- EXTRA_ARGS -----------------------------------------------------------------------------

# Takes a word off the front of $rest into $word; fails when none is left. The rules are a
# shell's for blanks, quotes and backslashes, and nothing is expanded.
next_word() {
    rest=${rest#"${rest%%[![:space:]]*}"}
    [ -n "$rest" ] || return 1
    word=''
    while :; do
        plain=${rest%%[[:space:]\'\"\\]*}
        word=$word$plain
        rest=${rest#"$plain"}
        case $rest in
            '' | [[:space:]]*) return 0 ;;
            \'*\'*)
                rest=${rest#?}
                word=$word${rest%%\'*}
                rest=${rest#*\'}
                ;;
            \"*) next_double_quoted ;;
            \\?*) next_escaped ;;
            *) die 2 'EXTRA_ARGS: a quote is left open, or a backslash ends it: complete it' ;;
        esac
    done
}

next_double_quoted() {
    rest=${rest#?}
    while :; do
        plain=${rest%%[\"\\]*}
        word=$word$plain
        rest=${rest#"$plain"}
        case $rest in
            \"*) break ;;
            \\[\"\\]*) next_escaped ;;
            \\?*)
                word=$word\\
                rest=${rest#?}
                ;;
            *) die 2 'EXTRA_ARGS: a quote is left open, or a backslash ends it: complete it' ;;
        esac
    done
    rest=${rest#?}
}

next_escaped() {
    rest=${rest#?}
    word=$word${rest%"${rest#?}"}
    rest=${rest#?}
}

# --- what is shown --------------------------------------------------------------------------

print_command() { # the command's words
    printf '# by environment, not on the command line: HF_TOKEN %s, VLLM_API_KEY %s\n' \
        "$(state_of "${HF_TOKEN:-}")" "$(state_of "${VLLM_API_KEY:-}")"
    secret=no separator=''
    for word; do
        case $word in
            --api[-_]k*=* | --hf[-_]t*=*) word="${word%%=*}=***" ;;
            --api[-_]k* | --hf[-_]t*) secret=yes ;;
            -*) secret=no ;;
            *) [ "$secret" = no ] || word='***' ;;
        esac
        printf '%s' "$separator"
        print_word "$word"
        separator=' '
    done
    printf '\n'
}

state_of() { # a secret
    if [ -n "$1" ]; then echo set; else echo 'not set'; fi
}

print_word() { # a word, so that a shell reads it back
    case $1 in
        '' | *[!A-Za-z0-9_./:=,@%+-]*) ;;
        *)
            printf '%s' "$1"
            return
            ;;
    esac
    rest=$1
    printf "'"
    while :; do
        case $rest in
            *\'*) printf "%s'\\\\''" "${rest%%\'*}" ;;
            *) break ;;
        esac
        rest=${rest#*\'}
    done
    printf "%s'" "$rest"
}

# --- the run --------------------------------------------------------------------------------

dry_run=no
for argument; do
    case $argument in
        --dry-run) dry_run=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) die 2 "unknown argument $argument: give --dry-run or --help; vLLM's go into EXTRA_ARGS" ;;
    esac
done

preset=''
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
env_file=${root%/}/.env
load_env "$env_file"
check_settings

case ${HF_TOKEN:-} in
    hf_your_*)
        warn 'HF_TOKEN is still the placeholder of .env.example: going on without a token'
        unset HF_TOKEN
        ;;
    '') unset HF_TOKEN ;;
esac
[ -n "${VLLM_API_KEY:-}" ] || unset VLLM_API_KEY

model=${MODEL:-gpt-oss-20}
case $model in
    # The hub has no gpt-oss-20. The hub's name comes first: replies and metrics carry it.
    gpt-oss-20 | gpt-oss-20b)
        set -- vllm serve openai/gpt-oss-20b --served-model-name openai/gpt-oss-20b "$model"
        ;;
    *) set -- vllm serve "$model" ;;
esac

cache=${KV_CACHE_DTYPE:-}
case $cache in
    [fF][pP]16)
        warn "KV_CACHE_DTYPE=$cache: vLLM has no such type; using auto, the model's own 16-bit type"
        cache=auto
        ;;
esac

[ -z "${HOST:-}" ] || set -- "$@" --host "$HOST"
[ -z "${PORT:-}" ] || set -- "$@" --port "$PORT"
[ -z "${GPU_MEM_UTIL:-}" ] || set -- "$@" --gpu-memory-utilization "$GPU_MEM_UTIL"
[ -z "${MAX_MODEL_LEN:-}" ] || set -- "$@" --max-model-len "$MAX_MODEL_LEN"
[ -z "$cache" ] || set -- "$@" --kv-cache-dtype "$cache"
[ -z "${MAX_NUM_BATCHED_TOKENS:-}" ] ||
    set -- "$@" --max-num-batched-tokens "$MAX_NUM_BATCHED_TOKENS"
[ -z "${MAX_NUM_SEQS:-}" ] || set -- "$@" --max-num-seqs "$MAX_NUM_SEQS"
[ -z "${TENSOR_PARALLEL_SIZE:-}" ] || set -- "$@" --tensor-parallel-size "$TENSOR_PARALLEL_SIZE"
[ -z "${STREAM_INTERVAL:-}" ] || set -- "$@" --stream-interval "$STREAM_INTERVAL"

# Last, so that a flag given here wins over the one of a variable.
visible='EXTRA_ARGS holds a secret that everybody on this machine can read in the process list'
rest=${EXTRA_ARGS:-}
while next_word; do
    case $word in
        --api[-_]k*) warn "$visible; set VLLM_API_KEY instead of --api-key" ;;
        --hf[-_]t*) warn "$visible; set HF_TOKEN instead of --hf-token" ;;
    esac
    set -- "$@" "$word"
done

if [ "$dry_run" = yes ]; then
    print_command "$@"
    exit 0
fi
install='https://docs.vllm.ai/en/latest/getting_started/installation/'
command -v vllm >/dev/null ||
    die 1 "no vllm on the PATH: pip install vllm ($install), or: cd server && docker-compose up"
exec "$@"
