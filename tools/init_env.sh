#!/bin/sh
# Copies .env.example to .env, readable only by its owner, and never over an existing file.
set -eu

cd -- "$(dirname -- "$0")/.."
if [ -e .env ]; then
    echo '.env is there already: left as it is'
    exit 0
fi
umask 077
set -C # no overwriting, even if two of these run at once
cat .env.example >.env
echo 'Wrote .env: put your HF_TOKEN into it, and the model that you want to serve'
