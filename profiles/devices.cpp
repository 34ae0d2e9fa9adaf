#include "profiles/devices.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace troupe::profiles {
namespace {

/// Longer beginnings before shorter ones.
constexpr std::pair<std::string_view, std::string_view> kArchitectures[] = {
    {"p100", "pascal"},    {"v100", "volta"},     {"titan-v", "volta"},
    {"t4", "turing"},      {"rtx-20", "turing"},  {"titan-rtx", "turing"},
    {"a100", "ampere"},    {"a800", "ampere"},    {"a10", "ampere"},
    {"a30", "ampere"},     {"a40", "ampere"},     {"rtx-30", "ampere"},
    {"l20", "ada"},        {"l4", "ada"},         {"rtx-40", "ada"},
    {"h100", "hopper"},    {"h200", "hopper"},    {"h20", "hopper"},
    {"h800", "hopper"},    {"gh200", "hopper"},   {"b100", "blackwell"},
    {"b200", "blackwell"}, {"b300", "blackwell"}, {"gb200", "blackwell"},
    {"gb300", "blackwell"}};

/// Spellings of FASOP, AMP, Sailor, vTrain, Vidur and SimuMax.
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"a100", "a100-sxm-40"},
    {"a100-40", "a100-sxm-40"},
    {"a100-80", "a100-sxm-80"},
    {"a100_dgx", "a100-sxm-80"},
    {"a100_pairwise_nvlink", "a100-pcie-80"},
    {"a100_pcie", "a100-pcie-80"},
    {"h100", "h100-sxm"},
    {"h100_dgx", "h100-sxm"},
    {"h100_pairwise_nvlink", "h100-pcie"},
    {"b200", "b200"},
    {"a800", "a800-sxm-80"},
    {"a10", "a10"},
    {"a40", "a40"},
    {"t4", "t4"},
    {"t4 (g4dn.12xlarge)", "t4"},
    {"v100", "v100-sxm-16"},
    {"v100-16", "v100-sxm-16"},
    {"v100 (p3.8xlarge)", "v100-sxm-16"},
    {"gh-96", "gh200-96"},
    {"rtx3090", "rtx-3090"},
    {"rtx-3090", "rtx-3090"},
    {"rtx-2080", "rtx-2080"},
    {"titan-rtx", "titan-rtx"},
    // As the driver names them (PyTorch, Nsight Systems, nccl-tests).
    {"nvidia b200", "b200"},
    {"nvidia h200", "h200"},
    {"nvidia h100 80gb hbm3", "h100-sxm"},
    {"nvidia h100 pcie", "h100-pcie"},
    {"nvidia h800", "h800-sxm"},
    {"nvidia h20", "h20"},
    {"nvidia gh200 120gb", "gh200-96"},
    {"nvidia gh200 480gb", "gh200-96"},
    {"nvidia a100-sxm4-40gb", "a100-sxm-40"},
    {"nvidia a100-sxm4-80gb", "a100-sxm-80"},
    {"nvidia a100-pcie-40gb", "a100-pcie-40"},
    {"nvidia a100 80gb pcie", "a100-pcie-80"},
    {"nvidia a800-sxm4-80gb", "a800-sxm-80"},
    {"nvidia a10", "a10"},
    {"nvidia a40", "a40"},
    {"nvidia l4", "l4"},
    {"nvidia l40s", "l40s"},
    {"nvidia geforce rtx 3080 ti", "rtx-3080ti"},
    {"nvidia geforce rtx 3090", "rtx-3090"},
    {"nvidia geforce rtx 4090", "rtx-4090"},
    {"nvidia geforce rtx 2080", "rtx-2080"},
    {"nvidia titan rtx", "titan-rtx"},
    {"tesla v100-sxm2-16gb", "v100-sxm-16"},
    {"tesla v100-sxm2-32gb", "v100-sxm-32"},
    {"tesla v100-pcie-16gb", "v100-pcie"},
    {"tesla t4", "t4"}};

}  // namespace

std::string_view architecture_of(std::string_view device) {
  for (const auto& [beginning, architecture] : kArchitectures) {
    if (device.starts_with(beginning)) return architecture;
  }
  return {};
}

std::string_view board_of(std::string_view device) {
  const std::size_t dash = device.rfind('-');
  if (dash == std::string_view::npos || dash + 1 == device.size()) {
    return device;
  }
  const std::string_view tail = device.substr(dash + 1);
  const bool memory =
      tail.size() <= 3 && std::ranges::all_of(tail, [](unsigned char c) {
        return std::isdigit(c) != 0;
      });
  return memory ? device.substr(0, dash) : device;
}

std::optional<std::string> device_alias(std::string_view foreign) {
  std::string lower(foreign);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) {
    return static_cast<char>(std::tolower(c));
  });
  for (const auto& [alias, name] : kAliases) {
    // Drivers before 470 leave the maker out ("A100-SXM4-40GB").
    if (alias == lower || alias == "nvidia " + lower) return std::string(name);
  }
  return {};
}

}  // namespace troupe::profiles
