# The client in a container: docs/MACHINES.md says how to run it.
#
#   docker build -t vllm-bench .
#   docker build -t vllm-bench-ray --build-arg RAY=yes .     also a node of a Ray cluster
#
# The digest is that of the tag's index, for all its platforms. Packages: constraints.txt.
FROM python:3.12.14-slim@sha256:e5c9fa26ffb76e11e0f054f30dc2523a2f9693f0c36c0cf1e39b27e152d899fc

ARG RAY=no
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /vllm-bench

# Without the packages' own tests (50 MB), and compiled (105 MB): the user that runs it can't write
# here, and would compile again at each start. KubeRay's job submission and probes want ray[default].
COPY requirements*.txt constraints.txt ./
RUN set -- -r requirements.txt && \
    case "$RAY" in \
        yes) set -- "$@" -r requirements-ray.txt 'ray[default]' ;; \
        no) ;; \
        *) echo "RAY=$RAY: must be yes or no" >&2; exit 1 ;; \
    esac && \
    pip install --no-cache-dir --no-compile -c constraints.txt "$@" && \
    find /usr/local/lib/python3.12/site-packages -type d -name tests -prune -exec rm -rf {} + && \
    python -m compileall -q /usr/local/lib/python3.12

COPY . .
RUN python -m compileall -q bench server

# A user of its own, and folders that any other may write too (docker run --user): results, and a
# home for what is downloaded and cached.
ENV HOME=/home/bench
RUN useradd --uid 1000 --home-dir "$HOME" --create-home bench && \
    mkdir results && chmod 1777 results "$HOME"
USER 1000:1000

ENTRYPOINT ["python"]
CMD ["bench/bench.py", "--help"]
