# The CUDA kernels run on the CPU by g++ (everywhere), and on a GPU (where
# CUDA is built in; the tests skip where no GPU is found).
include(${PROJECT_SOURCE_DIR}/kernels/cuda/sources.cmake)
list(TRANSFORM TROUPE_CUDA_KERNELS
     PREPEND ${PROJECT_SOURCE_DIR}/kernels/cuda/)
list(TRANSFORM TROUPE_CUDA_LAUNCH PREPEND ${PROJECT_SOURCE_DIR}/kernels/cuda/)

# Kernels are written in CUDA C++'s loose way with integer sizes.
add_library(troupe_kernels_on_host OBJECT ${TROUPE_CUDA_KERNELS}
  ${TROUPE_CUDA_LAUNCH} cuda_on_host/fibre.cpp cuda_on_host/machine.cpp
  cuda_on_host/matrix.cpp)
set_source_files_properties(${TROUPE_CUDA_KERNELS} PROPERTIES LANGUAGE CXX)
target_include_directories(troupe_kernels_on_host PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(troupe_kernels_on_host PRIVATE tl::expected)
target_compile_options(troupe_kernels_on_host PRIVATE
  -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-maybe-uninitialized
  -fno-strict-aliasing -O1)

# What is compared, and with what.
add_library(troupe_kernel_cases STATIC cuda_attention_cases.cpp
  cuda_compare.cpp cuda_gemm_cases.cpp cuda_operator_cases.cpp)
target_link_libraries(troupe_kernel_cases PUBLIC troupe_kernels
  PRIVATE troupe_warnings)
target_compile_options(troupe_kernel_cases PRIVATE -O1)

troupe_test(kernels_on_host
  APART cuda_on_host/machine_test.cpp cuda_attention_test.cpp
    cuda_attention_operands_test.cpp cuda_copy_plan_test.cpp
    cuda_on_host_test.cpp cuda_training_test.cpp
  SOURCES $<TARGET_OBJECTS:troupe_kernels_on_host>
  LINK troupe_kernel_cases troupe_emu)
troupe_test(kernels_cuda
  APART cuda_perform.cpp cuda_test.cpp
  LINK troupe_kernel_cases
  LABELS gpu)

# A table of errors on a GPU machine without a test framework.
find_package(nlohmann_json REQUIRED)
add_executable(kernel_check kernel_check.cpp attention_bodies.cpp cuda_perform.cpp
  gemm_best.cpp)
target_link_libraries(kernel_check PRIVATE troupe_kernel_cases
  nlohmann_json::nlohmann_json fmt::fmt troupe_warnings)
