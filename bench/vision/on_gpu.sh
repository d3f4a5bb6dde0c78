#!/bin/sh
# The benchmark on a machine with an NVIDIA GPU, its driver and CUDA's compiler, in one command:
#     bench/vision/on_gpu.sh
# Builds llama-cpp-python and llama-server with CUDA for the GPU that is there, then measures the 4B and the 12B shape
# with up to 64 frames at once. Results: bench/results/vision.json, and tables on standard output.
set -eu
cd "$(dirname "$0")/../.."
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
export BENCH_CMAKE="GGML_CUDA=ON CMAKE_CUDA_ARCHITECTURES=$capability"
export CMAKE_ARGS="-DCMAKE_PROJECT_INCLUDE=$PWD/receiver/llama_build.cmake -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=$capability"
# A cache and an environment of their own: uv would take a wheel that was built without CUDA.
export UV_CACHE_DIR="$PWD/build/uv-cache-cuda" UV_PROJECT_ENVIRONMENT="$PWD/build/venv-cuda"
uv sync --extra llama
export PYTHONPATH=tests BENCH_GPU_LAYERS=-1 BENCH_BATCH=2048 BENCH_CAMERAS="${BENCH_CAMERAS:-64}"
export BENCH_SLOTS="${BENCH_SLOTS:-1,4,8,16,32,64}" BENCH_ALONE_FRAMES="${BENCH_ALONE_FRAMES:-4}"
for text in ${BENCH_SHAPES:-4b 12b}; do
    for tower in ${BENCH_TOWERS:-small siglip}; do
        BENCH_TEXT=$text BENCH_TOWER=$tower uv run --no-sync python bench/vision/bench_vision.py
    done
done
