#include "profiles/trace_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "base/text.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;

/// What PyTorch marks around the step of an optimizer.
constexpr std::string_view kStep = "Optimizer.step#Adam";

bool is_step(const TorchCall& call) { return call.name.starts_with(kStep); }

bool is_fused_adam(const TorchCall& call) {
  return call.name.starts_with("aten::_fused_adam");
}

}  // namespace

std::optional<std::size_t> TraceRows::owner_of(
    const std::vector<std::size_t>& around) {
  std::optional<std::size_t> op, wrapper, step;
  for (const std::size_t i : around) {
    const TorchCall& call = calls_[i];
    if (is_step(call)) step = i;
    if (step && is_fused_adam(call)) return i;
    const TorchName kind = torch_name(call);
    if (kind == TorchName::op && !op) op = i;
    if (kind == TorchName::wrapper && !wrapper) wrapper = i;
  }
  if (step) return step;
  return op ? op : wrapper;
}

void TraceRows::add(const TraceKernel& kernel) {
  const auto call = owner_of(kernel.around);
  if (!call) {
    const std::string reason =
        kernel.around.empty()
            ? fmt::format("no recorded call launched it ({})",
                          excerpt(kernel.name, 80))
            : fmt::format("{}: no such operator here",
                          excerpt(calls_[kernel.around.back()].name));
    return leave_out(reason, kernel.seconds);
  }
  Owner& owner = owners_[*call];
  owner.device = kernel.device;
  owner.seconds += kernel.seconds;
  ++owner.kernels;
  if (kernel.seconds > owner.longest) {
    owner.longest = kernel.seconds;
    owner.longest_kernel = kernel.name;
  }
  // A step of many kernels: the update itself says how many elements.
  for (const std::size_t i : kernel.around) {
    const TorchCall& inner = calls_[i];
    if (is_step(calls_[*call]) && !inner.list_elements.empty() &&
        inner.name.starts_with("aten::_foreach_addcdiv")) {
      owner.elements = std::max(owner.elements, inner.list_elements[0]);
    }
  }
}

void TraceRows::add(const TraceCollective& c) { samples_.collectives.add(c); }

void TraceRows::add_host_copy(const CopyRow& copy, double seconds) {
  samples_.copies.add(copy, seconds);
}

void TraceRows::add_device_copy(const std::string& device, std::int64_t bytes,
                                double seconds) {
  if (bytes < 2 || bytes % 2 != 0) {
    return leave_out("a copy of an odd number of bytes", seconds);
  }
  OperatorRow row{.device = device, .op = {}};
  row.op = kernels::rows_by_columns(kernels::OpKind::copy, bytes / 2, 1,
                                    kernels::DType::bf16);
  samples_.operators.add(std::move(row), seconds);
}

void TraceRows::leave_out(const std::string& reason, double seconds) {
  samples_.leave_out(reason, seconds);
}

void TraceRows::close(std::size_t index, const Owner& owner) {
  const TorchCall& call = calls_[index];
  TorchMatch match;
  if (is_step(call)) {
    match.part = TorchPart{};
    match.part->op = {.kind = kernels::OpKind::optimizer,
                      .dtype = kernels::DType::fp32};
    match.part->op.dim[0] = owner.elements;
    if (owner.elements < 1) {
      match = {{}, "the sizes of the parameters are missing"};
    }
  } else {
    match = match_torch(call, kernel_dtype(owner.longest_kernel));
  }
  if (match.part) {
    parts_[{owner.device, *match.part}].push_back(owner.seconds);
    return;
  }
  samples_.leave_out(fmt::format("{}: {}", call.name, match.reason),
                     owner.seconds, owner.kernels);
}

void TraceRows::close_parts() {
  for (const auto& [key, times] : parts_) {
    const auto& [device, part] = key;
    if (part.part != 0) continue;
    OperatorRow row{.device = device, .op = part.op};
    // The others, all of which must be there; one call each.
    double rest = 0;
    bool whole = true;
    for (int p = 1; p < part.parts; ++p) {
      TorchPart other = part;
      other.part = p;
      const auto at = parts_.find({device, other});
      whole = whole && at != parts_.end();
      if (at != parts_.end()) rest += median_of(at->second);
    }
    if (!whole) {
      double sum = 0;
      for (const double t : times) sum += t;
      leave_out(fmt::format("{}: only a part of it was recorded",
                            kernels::to_string(part.op)),
                sum);
      continue;
    }
    for (const double t : times) samples_.operators.add(row, t + rest);
  }
}

TraceSamples TraceRows::finish() {
  for (const auto& [call, owner] : owners_) close(call, owner);
  close_parts();
  return std::move(samples_);
}

std::optional<Collective> collective_named(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  for (const std::string_view mark : {"nccl", "c10d"}) {
    if (plain.starts_with(mark)) plain.erase(0, mark.size());
  }
  // By the beginning: "allgatherbase", "allgatherintotensorcoalesced", ...
  constexpr std::pair<std::string_view, Collective> kNames[] = {
      {"allreduce", Collective::all_reduce},
      {"allgather", Collective::all_gather},
      {"reducescatter", Collective::reduce_scatter},
      {"alltoall", Collective::all_to_all},
      {"broadcast", Collective::broadcast},
      {"sendrecv", Collective::ring_shift},
      {"send", Collective::send_receive},
      {"recv", Collective::send_receive}};
  for (const auto& [beginning, collective] : kNames) {
    if (plain.starts_with(beginning)) return collective;
  }
  return {};
}

}  // namespace troupe::profiles
