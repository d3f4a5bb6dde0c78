# CMAKE_PROJECT_INCLUDE hook for building llama-cpp-python: leaves out what the Python package never loads, which halves
# the compile time, and what it must not do. A normal variable set here shadows the cache entry that the source
# distribution forces on (CMake policies CMP0077 and CMP0126).
set(LLAMA_BUILD_COMMON OFF)
set(LLAMA_OPENSSL OFF)
# Otherwise libmtmd starts ffmpeg as a subprocess on bytes that it cannot decode.
set(LLAMA_SUBPROCESS OFF)
