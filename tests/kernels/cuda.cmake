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
  -Wall -Wextra -Werror -Wno-unknown-pragmas -O1)

set(cuda_on_host_tests cuda_on_host/machine_test.cpp)
if(EXISTS ${PROJECT_SOURCE_DIR}/kernels/cpu.h AND
   EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/cuda_operator_cases.cpp AND
   EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/cuda_gemm_cases.cpp)
  list(APPEND cuda_on_host_tests cuda_on_host_test.cpp cuda_compare.cpp
    cuda_operator_cases.cpp cuda_gemm_cases.cpp cuda_attention_cases.cpp
    cuda_attention_test.cpp)
endif()
troupe_test(kernels_on_host
  SOURCES ${cuda_on_host_tests} $<TARGET_OBJECTS:troupe_kernels_on_host>
  LINK troupe_kernels)
