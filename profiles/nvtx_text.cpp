#include "profiles/nvtx_text.h"

#include <algorithm>

#include "base/json.h"

namespace troupe::profiles {
namespace {

constexpr std::size_t kMostArguments = 64;

/// "[[16, 32], [], [8]]" up to its end; false when it is something else.
bool read_list(std::string_view text, TorchCall& call) {
  int depth = 0;
  std::string number;
  const auto end_number = [&] {
    if (number.empty()) return true;
    std::int64_t size = 0;
    if (depth != 2 || !from_text(number, size)) return false;
    call.sizes.back().push_back(size);
    number.clear();
    return true;
  };
  for (const char c : text) {
    if (c == '[') {
      ++depth;
      if (depth > 2 || call.sizes.size() == kMostArguments) return false;
      if (depth == 2) call.sizes.emplace_back();
    } else if (c == ']') {
      if (!end_number() || --depth < 0) return false;
      if (depth == 0) return true;
    } else if (c == ',' || c == ' ') {
      if (!end_number()) return false;
    } else if (c >= '0' && c <= '9') {
      number += c;
    } else {
      return false;
    }
  }
  return false;
}

}  // namespace

TorchCall read_nvtx_call(std::string_view text) {
  TorchCall call;
  call.op = read_nvtx_operator(text);
  call.name = text.substr(0, text.find(", "));
  const std::string_view mark = "sizes = ";
  const auto at = text.find(mark);
  if (at == std::string_view::npos) {
    call.name = text;
    if (text.starts_with("aten::")) call.name = text.substr(0, text.find(','));
    return call;
  }
  if (!read_list(text.substr(at + mark.size()), call)) call.sizes.clear();
  return call;
}

std::optional<kernels::OpShape> read_nvtx_operator(std::string_view text) {
  if (!text.starts_with("op=")) return {};
  kernels::OpShape op;
  bool kind = false, dtype = false, dims = false;
  while (!text.empty()) {
    const auto end = text.find(' ');
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const auto equals = word.find('=');
    if (equals == std::string_view::npos) return {};
    const std::string_view name = word.substr(0, equals);
    const std::string_view value = word.substr(equals + 1);
    if (name == "op") kind = from_text(value, op.kind);
    if (name == "dtype") dtype = from_text(value, op.dtype);
    if (name == "dims") dims = from_text(value, op.dim);
    if (name == "causal" && !from_text(value, op.causal)) return {};
    if (name == "gated" && !from_text(value, op.gated)) return {};
    if (name == "window" && !from_text(value, op.window)) return {};
  }
  return kind && dtype && dims ? std::optional(op) : std::nullopt;
}

std::optional<NcclPayload> read_nccl_payload(std::string_view json) {
  if (json.empty() || json.size() > 4096) return {};
  const auto parsed = parse_json(json, "payload");
  if (!parsed || !parsed->is_object()) return {};
  NcclPayload payload;
  for (const auto& [key, value] : parsed->items()) {
    const auto number = whole_number(value);
    if (key == "NCCL communicator ID") payload.communicator = value.dump();
    if (!number) continue;
    const auto small = std::clamp<std::int64_t>(*number, -1, 1 << 20);
    if (key.starts_with("Message size") && *number > 0 &&
        *number < std::int64_t{1} << 40) {
      payload.bytes = *number;
    }
    if (key == "No. of ranks") payload.ranks = static_cast<int>(small);
    if (key == "NCCL rank") payload.rank = static_cast<int>(small);
  }
  return payload;
}

}  // namespace troupe::profiles
