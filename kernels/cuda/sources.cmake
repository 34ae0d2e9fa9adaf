# The CUDA kernels, by file. They are compiled by nvcc into troupe_kernels,
# and by g++ for the tests that run them on the CPU.
set(TROUPE_CUDA_KERNELS)
# Plain C++ that belongs to them.
set(TROUPE_CUDA_LAUNCH launch.cpp absent.cpp no_attention.cpp)
