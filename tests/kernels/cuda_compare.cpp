#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu.h"
#include "tests/kernels/cuda_cases.h"

namespace troupe::kernels::testing {
namespace {

constexpr std::byte kPoison{0xFF};  // NaN in every float type

DType type_of(Kind kind, DType dtype) {
  switch (kind) {
    case Kind::value:
      return dtype;
    case Kind::statistic:
      return statistics_type(dtype);
    case Kind::index:
      return DType::int32;
    case Kind::fp64:
      return DType::fp64;
    case Kind::scratch:
      return DType::fp8;  // bytes
  }
  return dtype;
}

std::uint16_t to_bf16(double value) {
  const auto single = static_cast<float>(value);
  std::uint32_t bits = 0;
  std::memcpy(&bits, &single, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

void store(std::byte* at, DType type, double value) {
  if (type == DType::bf16) {
    const std::uint16_t bits = to_bf16(value);
    std::memcpy(at, &bits, sizeof bits);
  } else if (type == DType::fp32) {
    const auto single = static_cast<float>(value);
    std::memcpy(at, &single, sizeof single);
  } else {
    std::memcpy(at, &value, sizeof value);
  }
}

double load(const std::byte* at, DType type) {
  if (type == DType::bf16) {
    std::uint16_t half = 0;
    std::memcpy(&half, at, sizeof half);
    const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
    float single = 0;
    std::memcpy(&single, &bits, sizeof single);
    return static_cast<double>(single);
  }
  if (type == DType::fp32) {
    float single = 0;
    std::memcpy(&single, at, sizeof single);
    return static_cast<double>(single);
  }
  double value = 0;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::size_t width(DType type) {
  return static_cast<std::size_t>(size_of(type).v);
}

// The operand as the device under test sees it, in `type`, having gone
// through `seen` (both see the same values).
std::vector<std::byte> place(const Operand& operand, DType type, DType seen) {
  if (operand.kind == Kind::index) {
    std::vector<std::byte> bytes(4 * operand.indices.size());
    std::memcpy(bytes.data(), operand.indices.data(), bytes.size());
    return bytes;
  }
  const std::size_t w = width(type);
  std::vector<std::byte> bytes(w * operand.values.size(), kPoison);
  if (operand.role == Role::out) return bytes;
  std::byte rounded[8];
  for (std::size_t i = 0; i < operand.values.size(); ++i) {
    store(rounded, seen, operand.values[i]);
    store(bytes.data() + i * w, type, load(rounded, seen));
  }
  return bytes;
}

Memory place_all(const Case& one, DType dtype, DType seen) {
  Memory memory;
  for (const Operand& operand : one.operands) {
    memory.push_back(place(operand, type_of(operand.kind, dtype),
                           type_of(operand.kind, seen)));
  }
  std::vector<void*> addresses(memory.size());
  const Bytes scratch = workspace(one.call(dtype, addresses));
  for (std::size_t i = 0; i < memory.size(); ++i) {
    if (one.operands[i].kind != Kind::scratch) continue;
    memory[i].assign(static_cast<std::size_t>(scratch.v), kPoison);
  }
  return memory;
}

struct Difference {
  double error = 0;
  std::string note;
};

// norm(out - ref) / norm(ref); an element that is NaN or infinite in the
// reference (an untouched one) must be the same in the output.
Difference difference(const std::vector<std::byte>& out, DType type,
                      const std::vector<std::byte>& ref, DType ref_type,
                      double floor) {
  double above = 0, below = 0, elements = 0;
  const std::size_t n = out.size() / width(type);
  for (std::size_t i = 0; i < n; ++i) {
    const double x = load(out.data() + i * width(type), type);
    const double r = load(ref.data() + i * width(ref_type), ref_type);
    if (!std::isfinite(r)) {
      if ((std::isnan(r) && std::isnan(x)) || x == r) continue;
      return {1, "element " + std::to_string(i) + " is " + std::to_string(x) +
                     " where the reference has " + std::to_string(r)};
    }
    if (!std::isfinite(x)) {
      return {1, "element " + std::to_string(i) + " is " + std::to_string(x) +
                     ", expected " + std::to_string(r)};
    }
    above += (x - r) * (x - r);
    below += r * r;
    ++elements;
  }
  below = std::max(below, floor * floor * elements);
  if (above == 0) return {};
  if (below == 0) return {std::sqrt(above), {}};
  return {std::sqrt(above / below), {}};
}

}  // namespace

double tolerance(const Case& one, Kind kind, DType dtype) {
  // Rounding to the 8 bits of bf16 is off by 2^-8 of the value at most; to
  // the 24 of fp32 by 2^-24, of which a formula of some operations takes
  // about eight.
  const double single = std::ldexp(1.0, -24);
  double bound = single * (8 + 2 * std::sqrt(one.terms)) + one.extra;
  if (kind == Kind::value && dtype == DType::bf16) {
    bound += std::ldexp(1.0, -8);
  }
  return bound;
}

Result<Outcome> compare(const Case& one, DType dtype, const Perform& device) {
  Memory reference = place_all(one, DType::fp64, dtype);
  std::vector<void*> addresses;
  for (auto& bytes : reference) {
    addresses.push_back(bytes.empty() ? nullptr : bytes.data());
  }
  TRY_DO(cpu::run(one.call(DType::fp64, addresses)));
  Memory memory = place_all(one, dtype, dtype);
  const Memory before = memory;
  TRY_DO(device(
      memory, [&](std::span<void* const> at) { return one.call(dtype, at); }));
  Outcome outcome{.name = one.name, .dtype = dtype};
  double worst = -1;
  for (std::size_t i = 0; i < memory.size(); ++i) {
    const Operand& operand = one.operands[i];
    if (operand.kind == Kind::scratch) continue;
    if (operand.role == Role::in) {
      if (memory[i] != before[i]) {
        outcome.note = "input " + std::to_string(i) + " was written to";
      }
      continue;
    }
    const Difference found =
        difference(memory[i], type_of(operand.kind, dtype), reference[i],
                   type_of(operand.kind, DType::fp64), one.floor);
    const double allowed = tolerance(one, operand.kind, dtype);
    if (found.error / allowed > worst) {
      worst = found.error / allowed;
      outcome.error = found.error;
      outcome.tolerance = allowed;
    }
    if (!found.note.empty()) {
      outcome.note = "output " + std::to_string(i) + ": " + found.note;
    } else if (found.error > allowed) {
      outcome.note = "output " + std::to_string(i) + " is off by " +
                     std::to_string(found.error / allowed) +
                     " times the tolerance";
    }
  }
  return outcome;
}

Operand Values::normal(std::int64_t n, double scale, double mean) {
  Operand operand;
  std::normal_distribution<double> normal(mean, scale);
  operand.values.resize(static_cast<std::size_t>(n));
  for (double& value : operand.values) value = normal(random_);
  return operand;
}

Operand Values::uniform(std::int64_t n, double low, double high) {
  Operand operand;
  std::uniform_real_distribution<double> uniform(low, high);
  operand.values.resize(static_cast<std::size_t>(n));
  for (double& value : operand.values) value = uniform(random_);
  return operand;
}

Operand Values::indices(std::int64_t n, std::int32_t low, std::int32_t high) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(n));
  for (auto& index : all) index = static_cast<std::int32_t>(pick(low, high));
  return given(std::move(all));
}

Operand Values::given(std::vector<std::int32_t> indices) {
  return {.kind = Kind::index, .indices = std::move(indices)};
}

Operand Values::out(std::int64_t n) {
  Operand operand{.role = Role::out};
  operand.values.resize(static_cast<std::size_t>(n));
  return operand;
}

Operand Values::scratch() { return {.kind = Kind::scratch, .role = Role::out}; }

Operand Values::none() { return {}; }

Operand Values::as(Operand operand, Kind kind, Role role) {
  operand.kind = kind;
  operand.role = role;
  return operand;
}

std::int64_t Values::pick(std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
}

}  // namespace troupe::kernels::testing
