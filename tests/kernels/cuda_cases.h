// Operators to be run on two devices and compared: fresh random operands,
// sizes that are odd on purpose, poisoned outputs. The same list serves the
// kernels run on the CPU (cuda_on_host), those run on a GPU, and the program
// kernel_check.
//
// The reference is the CPU's body in fp64 on the very values that the device
// sees, so a tolerance has to cover the device's rounding only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/call.h"

namespace troupe::kernels::testing {

/// The type of an operand's elements: `value` is the call's dtype,
/// `statistic` its S; `scratch` is as large as `workspace` says.
enum class Kind : std::uint8_t { value, statistic, index, fp64, scratch };
enum class Role : std::uint8_t { in, out, in_out };

struct Operand {
  Kind kind = Kind::value;
  Role role = Role::in;
  std::vector<double> values{};         ///< what it holds; its size for `out`
  std::vector<std::int32_t> indices{};  ///< of Kind::index
};

/// Makes the call once its operands have addresses (null for an empty one).
using MakeCall = std::function<Call(DType, std::span<void* const>)>;

struct Case {
  std::string name;  ///< "norm_forward 33x1000 rms"
  std::vector<Operand> operands;
  MakeCall call;
  /// Longest sum of the case: fp32 sums of n terms are off by about
  /// 2^-24 sqrt(n) of the operands' norm.
  double terms = 1;
  /// Roundings to dtype before the last one (probabilities in bf16), and
  /// what the formula itself loses (cancellation), as a relative error.
  double extra = 0;
  /// Size of the terms that an output is the difference of: errors of smaller
  /// outputs are measured against this.
  double floor = 0;
};

/// Operand bytes in host memory, exactly as large as the operands.
using Memory = std::vector<std::vector<std::byte>>;
/// Runs a call: operands go to the device, the call runs, they come back.
using Perform = std::function<Result<void>(
    Memory& operands, const std::function<Call(std::span<void* const>)>&)>;

struct Outcome {
  std::string name{};
  DType dtype = DType::bf16;
  double error = 0;      ///< largest norm(out - ref) / norm(ref) of an output
  double tolerance = 0;  ///< of that output
  std::string note{};    ///< why not ok; empty when ok
  bool ok() const { return note.empty(); }
};

/// Largest relative error allowed of an output of `kind`.
double tolerance(const Case& one, Kind kind, DType dtype);

/// Runs the case on the CPU in fp64 and by `device` in `dtype`. Elements
/// that the reference leaves alone must be left alone by the device.
/// Errors: what either answers.
Result<Outcome> compare(const Case& one, DType dtype, const Perform& device);

/// Operands for writing cases.
class Values {
 public:
  explicit Values(std::uint64_t seed) : random_(seed) {}
  Operand normal(std::int64_t n, double scale = 1, double mean = 0);
  Operand uniform(std::int64_t n, double low, double high);
  Operand indices(std::int64_t n, std::int32_t low, std::int32_t high);
  static Operand given(std::vector<std::int32_t> indices);
  static Operand out(std::int64_t n);
  static Operand scratch();
  static Operand none();
  static Operand as(Operand operand, Kind kind, Role role = Role::in);
  std::int64_t pick(std::int64_t low, std::int64_t high);

 private:
  std::mt19937_64 random_;
};

/// All cases of the operators but attention.
std::vector<Case> operator_cases(std::uint64_t seed);
std::vector<Case> gemm_cases(std::uint64_t seed);
/// Of attention; see cuda_attention_cases.cpp.
std::vector<Case> attention_cases(std::uint64_t seed);

}  // namespace troupe::kernels::testing
