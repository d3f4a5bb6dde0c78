.RECIPEPREFIX = >
.PHONY: proto

proto:  ## regenerates the committed stubs from proto/
> uv run --no-sync python -m grpc_tools.protoc -I proto --python_out=shared --grpc_python_out=shared --mypy_out=shared --mypy_grpc_out=shared proto/crow/cctv/v1/*.proto
