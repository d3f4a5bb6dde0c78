.RECIPEPREFIX = >
.DEFAULT_GOAL := help
SHELL := /bin/bash

# uv is used where it is installed, else fetched into build/ (needs python3 with venv, nothing else).
UV := $(shell command -v uv 2>/dev/null || echo build/uv/bin/uv)
NEEDS_UV := $(if $(findstring build/uv,$(UV)),build/uv/bin/uv)
RUN := $(UV) run --no-sync

# llama-cpp-python comes as source: this leaves out what the Python package never loads.
export CMAKE_ARGS ?= -DCMAKE_PROJECT_INCLUDE=$(CURDIR)/receiver/llama_build.cmake

export DEMO_SECONDS ?= 60
export DEMO_SOURCE ?=

.PHONY: help demo bench-decode bench-edge bench-vision bench-gate bench-line bench-whole chaos powercut soak test setup lint proto samples clean

help: ## lists the targets
> @grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(NEEDS_UV) ## two simulated shop cameras through the whole line; DEMO_SECONDS=60, DEMO_SOURCE=clip.mp4
> $(UV) sync --quiet --no-default-groups --inexact
> $(RUN) python demo/demo.py

test: setup ## everything: unit and contract tests, and the line end to end
> $(RUN) pytest

setup: $(NEEDS_UV) ## the development environment, llama-cpp-python included (compiles for some minutes, once)
> $(UV) sync --quiet --extra llama

lint: setup ## style, types, import contracts, protos
> $(RUN) ruff check
> $(RUN) ruff format --check
> $(RUN) mypy
> $(RUN) lint-imports
> $(RUN) buf lint proto

bench-line: setup ## from spool to durable acknowledgement, beside a raw socket and HTTP; BENCH_ROUNDS=3, BENCH_STATE_DIR=disk
> $(RUN) python bench/line/bench_line.py

bench-edge: setup ## CPU per camera beside ffmpeg, OpenCV and Frigate's way (needs ffmpeg); BENCH_SECONDS=10, BENCH_ROUNDS=3, BENCH_ONLY=name
> PYTHONPATH=bench/line $(RUN) python bench/edge/bench_edge.py

bench-vision: setup ## frames a second of the batched engine beside the chat handler and llama-server; BENCH_TEXT=1b, BENCH_TOWER=small
> PYTHONPATH=tests $(RUN) python bench/vision/bench_vision.py

bench-gate: setup ## how good gates are on the rendered shop's truth and on real clips (BENCH_CLIPS=../shared/clips)
> $(RUN) python bench/gate/gate_quality.py

bench-whole: setup ## frames a second through the whole line with the classic engine; BENCH_FRAMES=2000
> $(RUN) python bench/whole_line.py

bench-decode: setup ## what the receiver pays to decode a JPEG, an H.264 and an H.265 picture; BENCH_PICTURES=40
> $(RUN) python bench/decode_cost.py

chaos: setup ## kill -9 on two running lines, CHAOS_KILLS=300 times; then every frame is counted; CHAOS_SEED=1
> CHAOS_KILLS=$${CHAOS_KILLS:-300} CHAOS_LINES=$${CHAOS_LINES:-2} $(RUN) pytest tests/chaos -k cost -s

powercut: setup ## cuts the power of a disk that forgets what was not synced; POWERCUT_CUTS=200 on each end, POWERCUT_SEED=1
> POWERCUT_CUTS=$${POWERCUT_CUTS:-200} $(RUN) pytest tests/powercut -s

soak: setup build/soak.mp4 ## 64 cameras for ten minutes, 500 reconnects: nothing is lost, nothing grows; SOAK_SECONDS=600, SOAK_RECONNECTS=500
> SOAK_SECONDS=$${SOAK_SECONDS:-600} SOAK_RECONNECTS=$${SOAK_RECONNECTS:-500} SOAK_CLIP=build/soak.mp4 $(RUN) pytest tests/soak -s

build/soak.mp4:
> $(RUN) crow-sim render --view till --seconds 20 --fps 25 --noise 4 --out $@

proto: ## regenerates the committed stubs in shared/crow from proto/
> $(RUN) python -m grpc_tools.protoc -I proto --python_out=shared --mypy_out=shared proto/crow/spool/v1/*.proto proto/crow/capture/v1/*.proto
> $(RUN) python -m grpc_tools.protoc -I proto --python_out=shared --grpc_python_out=shared --mypy_out=shared --mypy_grpc_out=shared proto/crow/cctv/v1/*.proto

samples: ## regenerates the sample settings in config/ from the code's defaults
> $(RUN) crow-daemon check-config --sample > config/daemon.toml
> $(RUN) crow-receiver check-config --sample > config/receiver.toml

clean: ## removes what was built here
> rm -rf build .venv

build/uv/bin/uv:
> @echo "uv is not installed; fetching it into build/uv"
> @python3 -m venv build/uv || { echo "python3 with venv is needed (Debian: apt install python3-venv)"; exit 1; }
> @build/uv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9'
