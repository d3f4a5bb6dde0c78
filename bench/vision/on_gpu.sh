#!/bin/sh
# The benchmark on a machine with an NVIDIA GPU, in one command:
#     bench/vision/on_gpu.sh
# Builds llama-cpp-python and llama-server with CUDA for the GPU that is there (half an hour on a few cores), then
# measures the 4B and the 12B shape, with the true vision tower and with a small one, with up to 64 frames at once: frames a
# second, and how many cameras one GPU carries at a frame each 1, 5 and 10 s. Results: bench/results/vision.json, and
# tables on standard output. Wants a driver, CUDA's compiler, network, 40 GB of disk and 24 GB of memory; on an Ubuntu with a driver:
#     sudo apt install build-essential cmake python3-venv cuda-toolkit    # NVIDIA's own: Ubuntu's is too old for new GPUs
# What does not fit on the GPU is left out and said so. CUDA_VISIBLE_DEVICES chooses one of several GPUs;
# BENCH_SHAPES=4b, BENCH_TOWERS=siglip and BENCH_SLOTS=1,64 measure less; BENCH_GPU_READ_GBS=3350 (an H100's data sheet)
# adds the floor.
set -eu
cd "$(dirname "$0")/../.."
if [ -d /usr/local/cuda/bin ]; then
    PATH="$PATH:/usr/local/cuda/bin"  # where NVIDIA's own packages put it
fi
missing=""
for tool in nvidia-smi nvcc g++ cmake make python3; do
    command -v "$tool" >/dev/null || missing="$missing $tool"
done
if [ -n "$missing" ]; then
    echo "not found:$missing" >&2
    exit 1
fi
export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"
capability=$(nvidia-smi -i "$CUDA_VISIBLE_DEVICES" --query-gpu=compute_cap --format=csv,noheader | tr -d .)
export BENCH_CMAKE="GGML_CUDA=ON CMAKE_CUDA_ARCHITECTURES=$capability"
export CMAKE_ARGS="-DCMAKE_PROJECT_INCLUDE=$PWD/receiver/llama_build.cmake -DGGML_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=$capability"
# A cache and an environment of their own: uv would take a wheel that was built without CUDA.
export UV_CACHE_DIR="$PWD/build/uv-cache-cuda" UV_PROJECT_ENVIRONMENT="$PWD/build/venv-cuda"
echo "building llama-cpp-python with CUDA for compute capability $capability"
make setup
export BENCH_GPU_LAYERS=-1 BENCH_TOGETHER=0 BENCH_CONTEXT=1024 BENCH_BATCH=2048 BENCH_CAMERAS="${BENCH_CAMERAS:-64}"
export BENCH_SLOTS="${BENCH_SLOTS:-1,4,8,16,32,64}" BENCH_ALONE_FRAMES="${BENCH_ALONE_FRAMES:-4}"
for text in ${BENCH_SHAPES:-4b 12b}; do
    for tower in ${BENCH_TOWERS:-small siglip}; do
        BENCH_TEXT=$text BENCH_TOWER=$tower make bench-vision
    done
done
