// Finds the first thing wrong with a call.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "kernels/check.h"

namespace troupe::kernels {

/// One size or option with its name.
struct Field {
  std::string_view name;
  std::int64_t value;
};
struct Operand {
  std::string_view name;
  const void* at;
};

// Remembers the first complaint; text is made only then.
class Checker {
 public:
  Checker(std::string_view name, Side side) : name_(name), side_(side) {}
  bool on_host() const { return side_ == Side::host; }

  void type(std::string_view field, DType type) {
    if (!on_host()) return;
    if (type == DType::fp32 || type == DType::fp64 || type == DType::bf16) {
      return;
    }
    complain(field, name_of(type), "the CPU knows fp64, fp32 and bf16");
  }
  void sizes(std::initializer_list<Field> fields, std::int64_t least = 0) {
    for (const auto& [name, value] : fields) {
      if (value >= least) continue;
      complain(name, std::to_string(value),
               "it must be at least " + std::to_string(least));
    }
  }
  // Arrays stay below 2^59 elements, so that no byte offset overflows.
  void volume(std::initializer_list<Field> fields) {
    std::int64_t all = 1;
    for (const auto& [name, value] : fields) {
      if (value <= 0) return;
    }
    for (const auto& [name, value] : fields) {
      if (!__builtin_mul_overflow(all, value, &all) && all < kMost) continue;
      complain(name, std::to_string(value),
               "the operand would have over 2^59 elements");
    }
  }
  void stride(std::string_view name, std::int64_t ld, std::int64_t row) {
    if (ld == 0 || (ld > 0 && ld >= row)) return;
    complain(name, std::to_string(ld),
             "a row has " + std::to_string(row) + " elements");
  }
  void pointers(bool needed, std::initializer_list<Operand> operands) {
    if (!needed) return;
    for (const auto& [name, at] : operands) {
      if (at == nullptr) complain(name, "null", "the operand is not empty");
    }
  }
  // Bodies on a GPU put partial sums there; those on the CPU need none.
  template <typename C>
  void scratch(const C& call) {
    if (on_host() || !good() || call.workspace != nullptr) return;
    const Bytes needed = workspace(call);
    if (needed.v <= 0) return;
    complain("workspace", "null",
             std::to_string(needed.v) + " bytes are needed");
  }
  void finite(std::string_view name, double value) {
    if (!std::isfinite(value)) number(name, value, "it must be finite");
  }
  // low <= value < high
  void range(std::string_view name, double value, double low, double high) {
    if (value >= low && value < high) return;
    number(name, value,
           "it must be in [" + std::to_string(low) + ", " +
               std::to_string(high) + ")");
  }
  void complain(std::string_view field, std::string_view value,
                std::string_view why) {
    if (!message_.empty()) return;
    message_.append(name_).append(": ").append(field).append(" is ");
    message_.append(value).append("; ").append(why);
  }
  bool good() const { return message_.empty(); }
  Result<void> done() {
    if (message_.empty()) return {};
    return fail(Fault::input, std::move(message_));
  }

 private:
  static constexpr std::int64_t kMost = std::int64_t{1} << 59;
  void number(std::string_view name, double value, std::string_view why) {
    complain(name, std::to_string(value), why);
  }
  std::string_view name_;
  Side side_;
  std::string message_;
};

Result<void> check(const AttentionForward& call, Side side);
Result<void> check(const AttentionBackward& call, Side side);
Result<void> check(const AttentionMerge& call, Side side);

}  // namespace troupe::kernels
