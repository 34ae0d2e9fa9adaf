#include "measure/memory.h"

#include <algorithm>
#include <chrono>

#include "base/progress.h"

namespace troupe::measure {
namespace {

// Operands begin at multiples of this, as arrays of a GPU do.
constexpr std::int64_t kAlignment = 512;
// Bytes of a pattern. Random contents repeat after so many.
constexpr std::int64_t kPatternBytes = std::int64_t{4} << 20;
// Operands of one kind begin at different places of their pattern, so many
// bytes apart: attention with queries equal to keys would be a special case.
constexpr std::int64_t kTurn = kAlignment * 1201;
// Less than this says nothing of how fast memory is filled.
constexpr std::int64_t kTelling = std::int64_t{16} << 20;
// A long copy is given out in such parts, to see an interruption between.
constexpr std::int64_t kPart = std::int64_t{256} << 20;

std::int64_t aligned(std::int64_t size) {
  return (size + kAlignment - 1) / kAlignment * kAlignment;
}

tl::unexpected<Error> stopped() {
  return fail(Fault::interrupted, "interrupted");
}

}  // namespace

Timer steady_timer() {
  return [] {
    return std::chrono::duration<double>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
}

Memory::Memory(Machine& machine, Timer clock)
    : machine_(machine), clock_(std::move(clock)) {}

Result<void> Memory::learn() {
  const Bytes size{std::min(4 * kTelling, machine_.info().memory.v / 4)};
  Operand operand{size, kernels::DType::fp32, Fill::normal, 0, {}};
  operand.bind = [](kernels::Call&, void*) {};
  const std::vector<CallPlan> plans{{{}, {operand}}};
  // Twice on new memory would not tell filling from the first touch.
  TRY_DO(pattern(operand.fill, operand.dtype));
  TRY_DO(place(plans));
  TRY_DO(place(plans));
  touched_.seconds =
      std::max(touched_.seconds - filled_.of(touched_.bytes), 0.0);
  return {};
}

Bytes Memory::size_of(const CallPlan& plan) {
  std::int64_t sum = 0;
  for (const Operand& operand : plan.operands) sum += aligned(operand.size.v);
  return {std::max(sum, kAlignment)};
}

double Memory::expected_s(Bytes size) const {
  const auto fresh =
      static_cast<double>(std::max<std::int64_t>(size.v - room_.v, 0));
  return filled_.of(static_cast<double>(size.v)) + touched_.of(fresh);
}

Result<std::byte*> Memory::begin(Bytes size) {
  began_ = clock_();
  fresh_ = {std::max<std::int64_t>(size.v - room_.v, 0)};
  // What one huge operator needed is not kept from what calls take for
  // themselves.
  const bool hoards =
      room_.v > machine_.info().memory.v / 2 && size.v < room_.v / 2;
  if (fresh_.v > 0 || hoards) {
    room_ = {};
    TRY_DO(machine_.enlarge(array_, size));
    room_ = size;
  }
  return static_cast<std::byte*>(array_->data());
}

Result<void> Memory::end(Bytes size) {
  TRY_DO(machine_.settle());
  if (size.v < kTelling) return {};
  const double took = std::max(clock_() - began_, 0.0);
  const auto bytes = static_cast<double>(size.v);
  if (fresh_.v < kTelling) {
    filled_.bytes += bytes;
    filled_.seconds += took;
  } else {
    touched_.bytes += static_cast<double>(fresh_.v);
    touched_.seconds += std::max(took - filled_.of(bytes), 0.0);
  }
  return {};
}

Result<std::vector<kernels::Call>> Memory::place(const CallPlan& plan,
                                                 int sets) {
  const std::int64_t stride = size_of(plan).v;
  const Bytes size{stride * sets};
  TRY(std::byte* const start, begin(size));
  std::vector<kernels::Call> calls;
  TRY(calls.emplace_back(), fill_set(plan, start));
  TRY_DO(double_up(start, {stride}, size));
  for (int set = 1; set < sets; ++set) {
    kernels::Call call = plan.call;
    std::byte* at = start + set * stride;
    for (const Operand& operand : plan.operands) {
      operand.bind(call, at);
      at += aligned(operand.size.v);
    }
    calls.push_back(std::move(call));
  }
  TRY_DO(end(size));
  return calls;
}

Result<std::vector<kernels::Call>> Memory::place(
    const std::vector<CallPlan>& plans) {
  Bytes size;
  for (const CallPlan& plan : plans) size += size_of(plan);
  TRY(std::byte * at, begin(size));
  std::vector<kernels::Call> calls;
  for (const CallPlan& plan : plans) {
    TRY(calls.emplace_back(), fill_set(plan, at));
    at += size_of(plan).v;
  }
  TRY_DO(end(size));
  return calls;
}

Result<kernels::Call> Memory::fill_set(const CallPlan& plan, std::byte* at) {
  kernels::Call call = plan.call;
  int turn = 0;
  for (const Operand& operand : plan.operands) {
    TRY_DO(fill(operand, at, turn++));
    operand.bind(call, at);
    at += aligned(operand.size.v);
  }
  return call;
}

Result<void> Memory::fill(const Operand& operand, std::byte* at, int turn) {
  if (operand.size.v == 0) return {};
  if (operand.fill == Fill::zeros) {
    for (std::int64_t done = 0; done < operand.size.v; done += kPart) {
      if (interrupted()) return stopped();
      TRY_DO(
          machine_.zero(at + done, {std::min(kPart, operand.size.v - done)}));
    }
    return {};
  }
  if (operand.fill != Fill::normal && operand.fill != Fill::ones) {
    return machine_.upload(
        at, contents(operand, static_cast<std::uint64_t>(turn) + 1));
  }
  TRY(const std::byte* const from, pattern(operand.fill, operand.dtype));
  const std::int64_t first = turn * kTurn % kPatternBytes;
  const std::int64_t head = std::min(operand.size.v, kPatternBytes - first);
  TRY_DO(machine_.copy(at, from + first, {head}));
  const std::int64_t tail = std::min(operand.size.v, kPatternBytes) - head;
  if (tail > 0) TRY_DO(machine_.copy(at + head, from, {tail}));
  return double_up(at, {head + tail}, operand.size);
}

Result<const std::byte*> Memory::pattern(Fill fill, kernels::DType dtype) {
  std::unique_ptr<Array>& known = patterns_[{fill, dtype}];
  if (known == nullptr) {
    TRY(auto made, machine_.allocate({kPatternBytes}));
    const Operand whole{{kPatternBytes}, dtype, fill, 0, {}};
    TRY_DO(machine_.upload(made->data(), contents(whole, 1)));
    known = std::move(made);
  }
  return static_cast<const std::byte*>(known->data());
}

Result<void> Memory::double_up(std::byte* at, Bytes have, Bytes size) {
  for (std::int64_t done = have.v; done < size.v;) {
    if (interrupted()) return stopped();
    // Whole repetitions of what is there, or the rest.
    const std::int64_t part =
        std::min({done, size.v - done,
                  std::max(kPart / have.v, std::int64_t{1}) * have.v});
    TRY_DO(machine_.copy(at + done, at, {part}));
    done += part;
  }
  return {};
}

}  // namespace troupe::measure
