# CMAKE_PROJECT_INCLUDE hook for building llama-cpp-python: leaves out what the Python package never loads, which halves
# the compile time, and what it must not do. A normal variable set here shadows the cache entry that the source
# distribution forces on (CMake policies CMP0077 and CMP0126).
set(LLAMA_BUILD_COMMON OFF)
set(LLAMA_OPENSSL OFF)
# Otherwise libmtmd starts ffmpeg as a subprocess on bytes that it cannot decode.
set(LLAMA_SUBPROCESS OFF)
# GCC 12 takes the stores of ggml's AMX tile configuration for dead (its `_tile_loadconfig` claims to read 8 of the 64
# bytes), and the process ends with a general protection fault at the first batch. Undefined, since -march=native, which
# comes later on the command line, would switch the instructions on again. The kernels for AVX-512 take over.
add_compile_options(-U__AMX_TILE__ -U__AMX_INT8__ -U__AMX_BF16__)
