// kernels/nccl.cpp declares NCCL's functions itself; where the header is
// installed, it must agree.
#include <nccl.h>

#include <type_traits>

static_assert(sizeof(ncclResult_t) == sizeof(int));
static_assert(sizeof(ncclDataType_t) == sizeof(int));
static_assert(sizeof(ncclRedOp_t) == sizeof(int));
static_assert(ncclSuccess == 0 && ncclInProgress == 7);
static_assert(ncclUint8 == 1 && ncclBfloat16 == 9 && ncclSum == 0);
static_assert(std::is_pointer_v<ncclComm_t> && std::is_pointer_v<cudaStream_t>);

template <typename F, typename... Arguments>
constexpr bool kTakes = std::is_same_v<F, ncclResult_t (*)(Arguments...)>;
using Size = size_t;
using Type = ncclDataType_t;
using Comm = ncclComm_t;
using Stream = cudaStream_t;
static_assert(kTakes<decltype(&ncclGetVersion), int*>);
static_assert(kTakes<decltype(&ncclCommInitAll), Comm*, int, const int*>);
static_assert(kTakes<decltype(&ncclCommDestroy), Comm>);
static_assert(kTakes<decltype(&ncclCommAbort), Comm>);
static_assert(kTakes<decltype(&ncclCommGetAsyncError), Comm, ncclResult_t*>);
static_assert(kTakes<decltype(&ncclAllReduce), const void*, void*, Size, Type,
                     ncclRedOp_t, Comm, Stream>);
static_assert(kTakes<decltype(&ncclReduceScatter), const void*, void*, Size,
                     Type, ncclRedOp_t, Comm, Stream>);
static_assert(kTakes<decltype(&ncclAllGather), const void*, void*, Size, Type,
                     Comm, Stream>);
static_assert(kTakes<decltype(&ncclBroadcast), const void*, void*, Size, Type,
                     int, Comm, Stream>);
static_assert(
    kTakes<decltype(&ncclSend), const void*, Size, Type, int, Comm, Stream>);
static_assert(
    kTakes<decltype(&ncclRecv), void*, Size, Type, int, Comm, Stream>);
