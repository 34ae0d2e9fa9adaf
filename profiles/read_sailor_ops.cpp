// Sailor's operator profiles (made by Aceso's profiler): products, collectives
// and messages between two GPUs.
#include <fmt/format.h>

#include <cmath>

#include "base/text.h"
#include "profiles/own_format.h"
#include "profiles/readers.h"
#include "profiles/repeats.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;

constexpr double kMegabyte = 1048576;
/// What the profiler writes where a run did not fit into memory.
constexpr double kFailed = 1e8;

Source source_of(const Foreign& file, std::string_view gpu) {
  Source source = file.source("sailor");
  source.name = fmt::format("sailor {} {} ({})", gpu, file.name(),
                            file.hash.substr(0, 8));
  source.kind = "measured";
  source.licence = "MIT (c) 2023- ETH Zurich";
  source.citation = "https://github.com/eth-easl/sailor";
  return source;
}

/// The folder of the GPU: GPU/profiled-data-fp16/FILE.
std::string gpu_of(const Foreign& file) {
  return std::filesystem::path(file.path)
      .parent_path()
      .parent_path()
      .filename()
      .string();
}

std::optional<kernels::DType> dtype_of(const Foreign& file) {
  const std::string folder = file.folder();
  const auto dash = folder.find_last_of('-');
  kernels::DType dtype{};
  if (dash == std::string::npos ||
      !from_text(std::string_view(folder).substr(dash + 1), dtype)) {
    return {};
  }
  return dtype;
}

/// The number between two words of a name: 2 of "OPT_mbs2_tp1" by "_mbs".
int number_after(std::string_view name, std::string_view mark) {
  const auto at = name.find(mark);
  if (at == std::string_view::npos) return 0;
  const std::string_view rest = name.substr(at + mark.size());
  int number = 0;
  const auto end = std::min(rest.find_first_not_of("0123456789"), rest.size());
  return from_text(rest.substr(0, end), number) ? number : 0;
}

/// Calls f(cells, where) for every line after the first.
template <typename F>
void each_line(std::string_view text, const Foreign& file, F&& f) {
  std::vector<std::string> cells;
  for (int number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (number == 1 || line.empty()) continue;
    cells.clear();
    split_csv(line, cells);
    f(cells, fmt::format("{}:{}", file.path, number));
  }
}

}  // namespace

Result<void> read_sailor_operators(std::string_view text, const Foreign& file,
                                   Gather& gather) {
  const std::string name = file.name();
  const ProfiledModel* model =
      profiled_model(name.substr(0, name.find("_mbs")));
  const int batch = number_after(name, "_mbs"), tp = number_after(name, "_tp");
  const auto dtype = dtype_of(file);
  if (model == nullptr || batch < 1 || tp < 1 || !dtype) {
    return fail(Fault::input,
                fmt::format("{}: expected a path GPU/profiled-data-fp16/"
                            "MODEL_mbsN_tpN_algoN.csv with a known model "
                            "(OPT-350, GPT-Neo-2.7, OPT-30)",
                            file.path));
  }
  TRY(const std::string device, file.device(gpu_of(file)));
  Source source = source_of(file, gpu_of(file));
  source.note =
      "products with their bias, forward, through PyTorch; the launch bounds "
      "small ones";
  gather.begin(std::move(source));
  const std::int64_t rows = std::int64_t{batch} * model->seq_len;
  const std::int64_t inner = std::int64_t{model->heads} * model->head_dim;
  struct Product {
    std::string_view name;
    std::int64_t n, k;
  };
  // Not that of Q, K and V: it also splits them into heads.
  const Product products[] = {{"enc-attention-dense", model->hidden, inner},
                              {"enc-MLP-GEMM-1", model->ffn, model->hidden},
                              {"enc-MLP-GEMM-2", model->hidden, model->ffn}};
  each_line(text, file, [&](const auto& cells, const std::string& where) {
    const Product* found = nullptr;
    for (const Product& p : products) {
      if (!cells.empty() && p.name == cells[0]) found = &p;
    }
    double micros = 0;
    if (cells.size() < 2 || !from_text(cells[1], micros)) {
      return gather.reject(where, "the forward time is no number");
    }
    if (found == nullptr) {
      return gather.reject(
          where, excerpt(cells[0]) + ": not one operator of those here");
    }
    if (tp > 1) {
      return gather.reject(where,
                           "with tp over 1 the time may hold a "
                           "collective");
    }
    OperatorRow row;
    row.device = device;
    row.op = kernels::gemm(rows, found->n, found->k, *dtype);
    row.time_s = rounded(micros * 1e-6, 7);
    gather.add(std::move(row), where);
  });
  return {};
}

Result<void> read_sailor_collectives(std::string_view text, const Foreign& file,
                                     Gather& gather) {
  const std::string name = file.name();
  std::optional<Collective> collective;
  for (const std::string_view word :
       {"all_reduce", "all_gather", "reduce_scatter", "all_to_all"}) {
    if (name.find(fmt::format("_{}_", word)) != std::string::npos) {
      collective = clusters::parse_collective(word);
    }
  }
  int ranks = 0;
  if (collective) {
    const std::string word(clusters::name_of(*collective));
    ranks = number_after(name, word + "_");
  }
  if (!collective || ranks < 2 || !name.ends_with("gpus.csv")) {
    return fail(
        Fault::input,
        file.path + ": expected a name prim_MODEL_COLLECTIVE_Ngpus.csv");
  }
  TRY(const std::string device, file.device(gpu_of(file)));
  Source source = source_of(file, gpu_of(file));
  source.note =
      "through PyTorch, one node; a gathered or scattered list of tensors is "
      "copied as part of it";
  gather.begin(std::move(source));
  Repeats<CollectiveRow> rows;
  each_line(text, file, [&](const auto& cells, const std::string& where) {
    double megabytes = 0, ms = 0;
    if (cells.size() != 2 || !from_text(cells[0], megabytes) ||
        !from_text(cells[1], ms) || !(megabytes > 0 && megabytes < 1e6)) {
      return gather.reject(where, "expected a size in MB and a time in ms");
    }
    if (ms > kFailed) return gather.reject(where, "not measured");
    // What is gathered is given as one rank's share: with the whole buffer,
    // gathering and scattering reach the same bandwidth on all devices.
    const double shares = collective == Collective::all_gather ? ranks : 1;
    CollectiveRow row{
        .device = device,
        .collective = *collective,
        .ranks = ranks,
        .per_node = ranks,
        .bytes = static_cast<std::int64_t>(megabytes * shares * kMegabyte),
        .time_s = ms * 1e-3};
    if (const auto problem = problem_of(row)) {
      return gather.reject(where, *problem);
    }
    rows.add(std::move(row), ms * 1e-3);
  });
  rows.into(gather, file.path);
  return {};
}

Result<void> read_sailor_messages(std::string_view text, const Foreign& file,
                                  Gather& gather) {
  const bool inter = file.name().find("inter_node") != std::string::npos;
  TRY(const std::string device, file.device(gpu_of(file)));
  Source source = source_of(file, gpu_of(file));
  source.note = "time from a bandwidth; MB of 2^20 bytes, GB of 1e9";
  gather.begin(std::move(source));
  std::vector<std::string> sizes, rates;
  split_csv(text.substr(0, text.find('\n')), sizes);
  each_line(text, file, [&](const auto& cells, const std::string& where) {
    rates = cells;
    if (rates.size() != sizes.size()) {
      return gather.reject(where, fmt::format("{} values for {} sizes",
                                              rates.size(), sizes.size()));
    }
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      double megabytes = 0, rate = 0;
      if (!from_text(sizes[i], megabytes) || !from_text(rates[i], rate) ||
          !(rate > 0) || !(megabytes > 0 && megabytes < 1e6)) {
        gather.reject(where, "a size or bandwidth is not positive");
        continue;
      }
      const double bytes = megabytes * kMegabyte;
      gather.add(CollectiveRow{.device = device,
                               .collective = Collective::send_receive,
                               .ranks = 2,
                               .per_node = inter ? 1 : 2,
                               .bytes = static_cast<std::int64_t>(bytes),
                               .time_s = rounded(bytes / (rate * 1e9), 6)},
                 where);
    }
  });
  return {};
}

}  // namespace troupe::profiles
