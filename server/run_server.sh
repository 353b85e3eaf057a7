#!/bin/sh
# Starts vLLM with the settings of the environment and of .env, here and in the container of
# docker-compose.yml; see --help. serve.py does the work. It needs only Python
# and no package, so that it runs before `make install` and in vLLM's image.
exec python3 "$(dirname -- "$0")/serve.py" "$@"
