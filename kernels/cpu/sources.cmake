# The bodies of the operators on the CPU, in host memory.
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
set(TROUPE_CPU_KERNELS attention.cpp attention_backward.cpp copies.cpp
  cross_entropy.cpp embedding.cpp gemm.cpp
  norm.cpp optimizer.cpp pointwise.cpp run.cpp)
list(TRANSFORM TROUPE_CPU_KERNELS PREPEND cpu/)
# Loops over elements gain a factor from being vectorised, which -O2 does
# not do where a loop has a remainder.
set_source_files_properties(${TROUPE_CPU_KERNELS} PROPERTIES
  COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>")
target_sources(troupe_kernels PRIVATE ${TROUPE_CPU_KERNELS})
target_link_libraries(troupe_kernels PRIVATE Eigen3::Eigen)
target_compile_definitions(troupe_kernels PRIVATE EIGEN_DONT_PARALLELIZE
  EIGEN_MPL2_ONLY)
