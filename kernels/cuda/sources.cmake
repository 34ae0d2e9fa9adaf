# The CUDA kernels, by file. They are compiled by nvcc into troupe_kernels,
# and by g++ for the tests that run them on the CPU.
set(TROUPE_CUDA_KERNELS
  attention_backward.cu attention_forward.cu attention_operands.cu
  attention_plain.cu
  copy.cu cross_entropy.cu embedding.cu gemm.cu norm.cu optimizer.cu
  pointwise.cu reduce.cu rotary.cu spin.cu)
# Plain C++ that belongs to them.
set(TROUPE_CUDA_LAUNCH attention.cpp attention_shape.cpp copy_plan.cpp
  launch.cpp)
