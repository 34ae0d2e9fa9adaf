// kernels/cuda/cudnn_abi.h repeats numbers of cuDNN's header; where the header
// is installed, they must agree.
#include "kernels/cuda/cudnn_abi.h"

#include <cudnn_graph.h>

#include <type_traits>

namespace {

using namespace troupe::kernels::cuda::cudnn;

static_assert(sizeof(cudnnStatus_t) == sizeof(Status));
static_assert(CUDNN_STATUS_SUCCESS == kSuccess);
static_assert(static_cast<int>(CUDNN_STATUS_NOT_SUPPORTED) == kNotSupported);
static_assert(CUDNN_HEUR_MODE_A == kHeuristicA);
static_assert(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC == kNondeterministic);
static_assert(CUDNN_NUMERICAL_NOTE_TYPE_COUNT == kNotes);

#define SAME(ours, theirs) \
  static_assert(static_cast<int>(ours) == static_cast<int>(theirs))

SAME(Data::float32, CUDNN_DATA_FLOAT);
SAME(Data::int32, CUDNN_DATA_INT32);
SAME(Data::bfloat16, CUDNN_DATA_BFLOAT16);
SAME(Data::int64, CUDNN_DATA_INT64);
SAME(Data::boolean, CUDNN_DATA_BOOLEAN);

SAME(Object::pointwise, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
SAME(Object::engine, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
SAME(Object::engine_config, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
SAME(Object::heuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
SAME(Object::plan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
SAME(Object::pointwise_operation, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
SAME(Object::graph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
SAME(Object::variant_pack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
SAME(Object::tensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
SAME(Object::matmul, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
SAME(Object::matmul_operation, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
SAME(Object::reduction, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
SAME(Object::reduction_operation, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
SAME(Object::reshape_operation, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
SAME(Object::device, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);

SAME(Type::handle, CUDNN_TYPE_HANDLE);
SAME(Type::data, CUDNN_TYPE_DATA_TYPE);
SAME(Type::boolean, CUDNN_TYPE_BOOLEAN);
SAME(Type::int64, CUDNN_TYPE_INT64);
SAME(Type::float64, CUDNN_TYPE_DOUBLE);
SAME(Type::pointer, CUDNN_TYPE_VOID_PTR);
SAME(Type::heuristic_mode, CUDNN_TYPE_HEUR_MODE);
SAME(Type::numerical_note, CUDNN_TYPE_NUMERICAL_NOTE);
SAME(Type::pointwise_mode, CUDNN_TYPE_POINTWISE_MODE);
SAME(Type::descriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR);
SAME(Type::reduction_operator, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE);
SAME(Type::int32, CUDNN_TYPE_INT32);
SAME(Type::text, CUDNN_TYPE_CHAR);

using A = Attribute;
SAME(A::pointwise_mode, CUDNN_ATTR_POINTWISE_MODE);
SAME(A::pointwise_precision, CUDNN_ATTR_POINTWISE_MATH_PREC);
SAME(A::pointwise_axis, CUDNN_ATTR_POINTWISE_AXIS);
SAME(A::heuristics_mode, CUDNN_ATTR_ENGINEHEUR_MODE);
SAME(A::heuristics_graph, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
SAME(A::heuristics_results, CUDNN_ATTR_ENGINEHEUR_RESULTS);
SAME(A::heuristics_device, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
SAME(A::config_engine, CUDNN_ATTR_ENGINECFG_ENGINE);
SAME(A::plan_config, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
SAME(A::plan_workspace, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
SAME(A::plan_device, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
SAME(A::pointwise_operation_pointwise,
     CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
SAME(A::pointwise_operation_x, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
SAME(A::pointwise_operation_b, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
SAME(A::pointwise_operation_y, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
SAME(A::pointwise_operation_t, CUDNN_ATTR_OPERATION_POINTWISE_TDESC);
SAME(A::graph_operations, CUDNN_ATTR_OPERATIONGRAPH_OPS);
SAME(A::tensor_alignment, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
SAME(A::tensor_type, CUDNN_ATTR_TENSOR_DATA_TYPE);
SAME(A::tensor_sizes, CUDNN_ATTR_TENSOR_DIMENSIONS);
SAME(A::tensor_strides, CUDNN_ATTR_TENSOR_STRIDES);
SAME(A::tensor_id, CUDNN_ATTR_TENSOR_UNIQUE_ID);
SAME(A::tensor_virtual, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
SAME(A::tensor_by_value, CUDNN_ATTR_TENSOR_IS_BY_VALUE);
SAME(A::tensor_offsets, CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC);
SAME(A::pack_ids, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
SAME(A::pack_pointers, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
SAME(A::pack_workspace, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
SAME(A::engine_notes, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE);
SAME(A::matmul_precision, CUDNN_ATTR_MATMUL_COMP_TYPE);
SAME(A::matmul_padding, CUDNN_ATTR_MATMUL_PADDING_VALUE);
SAME(A::matmul_operation_a, CUDNN_ATTR_OPERATION_MATMUL_ADESC);
SAME(A::matmul_operation_b, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
SAME(A::matmul_operation_c, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
SAME(A::matmul_operation_matmul, CUDNN_ATTR_OPERATION_MATMUL_DESC);
SAME(A::matmul_operation_m, CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC);
SAME(A::matmul_operation_n, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC);
SAME(A::matmul_operation_k, CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC);
SAME(A::reduction_operator, CUDNN_ATTR_REDUCTION_OPERATOR);
SAME(A::reduction_precision, CUDNN_ATTR_REDUCTION_COMP_TYPE);
SAME(A::reduction_operation_x, CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
SAME(A::reduction_operation_y, CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
SAME(A::reduction_operation_reduction, CUDNN_ATTR_OPERATION_REDUCTION_DESC);
SAME(A::reshape_operation_x, CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
SAME(A::reshape_operation_y, CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
SAME(A::device_ordinal, CUDNN_ATTR_DEVICEPROP_DEVICE_ID);
SAME(A::device_json, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
SAME(A::plan_handle, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
SAME(A::graph_handle, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
#pragma GCC diagnostic pop

SAME(Pointwise::add, CUDNN_POINTWISE_ADD);
SAME(Pointwise::multiply, CUDNN_POINTWISE_MUL);
SAME(Pointwise::divide, CUDNN_POINTWISE_DIV);
SAME(Pointwise::subtract, CUDNN_POINTWISE_SUB);
SAME(Pointwise::exponential, CUDNN_POINTWISE_EXP);
SAME(Pointwise::logarithm, CUDNN_POINTWISE_LOG);
SAME(Pointwise::identity, CUDNN_POINTWISE_IDENTITY);
SAME(Pointwise::greater, CUDNN_POINTWISE_CMP_GT);
SAME(Pointwise::greater_or_equal, CUDNN_POINTWISE_CMP_GE);
SAME(Pointwise::less, CUDNN_POINTWISE_CMP_LT);
SAME(Pointwise::logical_and, CUDNN_POINTWISE_LOGICAL_AND);
SAME(Pointwise::index, CUDNN_POINTWISE_GEN_INDEX);
SAME(Pointwise::select, CUDNN_POINTWISE_BINARY_SELECT);
SAME(Reduction::add, CUDNN_REDUCE_TENSOR_ADD);
SAME(Reduction::maximum, CUDNN_REDUCE_TENSOR_MAX);

static_assert(sizeof(cudnnBackendDescriptorType_t) == sizeof(Object));
static_assert(sizeof(cudnnBackendAttributeName_t) == sizeof(Attribute));
static_assert(sizeof(cudnnBackendAttributeType_t) == sizeof(Type));
static_assert(std::is_pointer_v<cudnnHandle_t> &&
              std::is_pointer_v<cudnnBackendDescriptor_t> &&
              std::is_pointer_v<cudaStream_t>);

}  // namespace
