# An image for nodes with NVIDIA cards: docs/gpu.md. Not built on this base, and not run with a card yet: what was built, by
# buildah on 2026-11-28, are its steps on Debian 12 with a Python 3.12, 9.7 GB (docs/log.md).
#
#     docker build -t spct .
#     docker run --rm --gpus all --shm-size=64g -v "$PWD/runs:/spct/runs" -v "$HOME/.cache/huggingface:/root/.cache/huggingface" \
#         spct make demo
#
# Ray keeps the versions of the weights in /dev/shm, of which Docker gives 64 MB by default: --shm-size is the plan's line
# `store` (launch/run.py --config NAME --dry-run) and 2 GB for NCCL. --ipc=host gives all that the host has.
# The base without CUDA's libraries: they come as wheels, and nothing that is installed is linked with any other.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

# gcc and Python's headers: Triton builds the launchers of its kernels when they run for the first time.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev make python3.12 python3.12-dev python3.12-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /spct
COPY . .
RUN PIP_NO_CACHE_DIR=1 make install-gpu PYTHON=python3.12
ENV PATH=/spct/.venv/bin:$PATH
CMD ["bash"]
