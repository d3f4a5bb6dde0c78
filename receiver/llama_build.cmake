# CMAKE_PROJECT_INCLUDE hook for building llama-cpp-python: leaves out what the Python package never loads, which halves
# the compile time, and what it must not do. A normal variable set here shadows the cache entry that the source
# distribution forces on (CMake policies CMP0077 and CMP0126).
set(LLAMA_BUILD_COMMON OFF)
set(LLAMA_OPENSSL OFF)
# Otherwise libmtmd starts ffmpeg as a subprocess on bytes that it cannot decode.
set(LLAMA_SUBPROCESS OFF)
# GCC 12 takes the stores of ggml's AMX tile configuration for dead (its `_tile_loadconfig` claims to read 8 of the 64
# bytes) and leaves them out; the process then ends with a general protection fault at the first batch. So dead stores
# stay. A process cannot see how its library was compiled: a file beside it says so (vision/llama/model.py looks).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options(-fno-tree-dse -fno-dse)
endif()
if(DEFINED SKBUILD_PLATLIB_DIR)
  file(WRITE ${CMAKE_BINARY_DIR}/amx-works "")
  install(FILES ${CMAKE_BINARY_DIR}/amx-works DESTINATION ${SKBUILD_PLATLIB_DIR}/llama_cpp/lib)
endif()
