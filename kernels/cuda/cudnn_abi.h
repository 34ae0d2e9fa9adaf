// The part of cuDNN 9's backend interface that is used, by the numbers of its
// header: no header is needed to build, as the library is none.
// tests/kernels/cudnn_abi_test.cpp compares where the header is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace troupe::kernels::cuda::cudnn {

using Status = int;
inline constexpr Status kSuccess = 0, kNotSupported = 3000;

enum class Data : int {
  float32 = 0,
  int32 = 4,
  bfloat16 = 9,
  int64 = 10,
  boolean = 11
};

/// Kinds of descriptors.
enum class Object : int {
  pointwise = 0,
  engine = 2,
  engine_config = 3,
  heuristics = 4,
  plan = 5,
  pointwise_operation = 13,
  graph = 15,
  variant_pack = 16,
  tensor = 17,
  matmul = 18,
  matmul_operation = 19,
  reduction = 21,
  reduction_operation = 22,
  reshape_operation = 31,
  device = 38
};

/// Types of an attribute's elements.
enum class Type : int {
  handle = 0,
  data = 1,
  boolean = 2,
  int64 = 3,
  float64 = 5,
  pointer = 6,
  heuristic_mode = 8,
  numerical_note = 11,
  pointwise_mode = 14,
  descriptor = 15,
  reduction_operator = 18,
  int32 = 23,
  text = 24
};

enum class Attribute : int {
  pointwise_mode = 0,
  pointwise_precision = 1,
  pointwise_axis = 9,
  heuristics_mode = 200,
  heuristics_graph = 201,
  heuristics_results = 202,
  heuristics_device = 204,
  config_engine = 300,
  plan_handle = 400,
  plan_config = 401,
  plan_workspace = 402,
  plan_device = 407,
  pointwise_operation_pointwise = 750,
  pointwise_operation_x = 751,
  pointwise_operation_b = 752,
  pointwise_operation_y = 753,
  pointwise_operation_t = 758,
  graph_handle = 800,
  graph_operations = 801,
  tensor_alignment = 900,
  tensor_type = 901,
  tensor_sizes = 902,
  tensor_strides = 903,
  tensor_id = 906,
  tensor_virtual = 907,
  tensor_by_value = 908,
  tensor_offsets = 913,
  pack_ids = 1000,
  pack_pointers = 1001,
  pack_workspace = 1003,
  engine_notes = 1303,
  matmul_precision = 1500,
  matmul_padding = 1503,
  matmul_operation_a = 1520,
  matmul_operation_b = 1521,
  matmul_operation_c = 1522,
  matmul_operation_matmul = 1523,
  matmul_operation_m = 1525,
  matmul_operation_n = 1526,
  matmul_operation_k = 1527,
  reduction_operator = 1600,
  reduction_precision = 1601,
  reduction_operation_x = 1610,
  reduction_operation_y = 1611,
  reduction_operation_reduction = 1612,
  reshape_operation_x = 2200,
  reshape_operation_y = 2201,
  device_ordinal = 2700,
  device_json = 2702
};

enum class Pointwise : int {
  add = 0,
  multiply = 1,
  divide = 6,
  subtract = 9,
  exponential = 13,
  logarithm = 15,
  identity = 21,
  greater = 302,
  greater_or_equal = 303,
  less = 304,
  logical_and = 400,
  index = 501,
  select = 601
};

enum class Reduction : int { add = 0, maximum = 3 };

inline constexpr int kHeuristicA = 3;
inline constexpr int kNondeterministic = 4;  ///< a numerical note
inline constexpr int kNotes = 10;            ///< there are that many

/// Functions of the library, by name; tensors, graphs and plans are all
/// "descriptors" (void*).
struct Functions {
  std::size_t (*version)() = nullptr;
  void (*last_error)(char*, std::size_t) = nullptr;
  Status (*create)(void**) = nullptr;
  Status (*destroy)(void*) = nullptr;
  Status (*set_stream)(void*, void*) = nullptr;
  Status (*create_descriptor)(Object, void**) = nullptr;
  Status (*destroy_descriptor)(void*) = nullptr;
  Status (*set_attribute)(void*, Attribute, Type, std::int64_t,
                          const void*) = nullptr;
  Status (*get_attribute)(void*, Attribute, Type, std::int64_t, std::int64_t*,
                          void*) = nullptr;
  Status (*finalize)(void*) = nullptr;
  Status (*execute)(void*, void*, void*) = nullptr;
};

}  // namespace troupe::kernels::cuda::cudnn
