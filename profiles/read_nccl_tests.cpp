// The text that nccl-tests (all_reduce_perf, ...) prints.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/text.h"
#include "profiles/readers.h"
#include "profiles/repeats.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (true) {
    const auto begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) return words;
    line.remove_prefix(begin);
    const auto end = std::min(line.find_first_of(" \t\r"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

/// What mpirun puts before a line: "[1,0]<stdout>:", "[0] ".
std::string_view without_prefix(std::string_view line) {
  if (!line.starts_with('[')) return line;
  const auto close = line.find(']');
  if (close == std::string_view::npos || close > 12) return line;
  std::string_view rest = line.substr(close + 1);
  for (const std::string_view mark : {"<stdout>:", "<stdout>", ":"}) {
    if (rest.starts_with(mark)) return rest.substr(mark.size());
  }
  return rest;
}

/// "all_reduce" of a word that ends in "all_reduce_perf" or
/// "all_reduce_perf_mpi".
std::string_view program_of(std::string_view word) {
  const auto at = word.find("_perf");
  if (at == std::string_view::npos) return {};
  const std::string_view name = word.substr(0, at);
  const auto slash = name.find_last_of("/ ");
  return slash == std::string_view::npos ? name : name.substr(slash + 1);
}

/// Sizes are of the whole buffer, as here; send-receive goes round a ring.
std::optional<Collective> collective_of(std::string_view program) {
  if (program == "sendrecv") return Collective::ring_shift;
  if (program == "alltoall") return Collective::all_to_all;
  const auto found = clusters::parse_collective(program);
  if (found == Collective::send_receive || found == Collective::ring_shift) {
    return {};
  }
  return found;
}

/// "mpirun -np 16 ... all_reduce_perf -n 20": the 16; nothing without a
/// launcher. What follows the program is its own.
std::optional<int> processes_of(const std::vector<std::string_view>& words) {
  bool launched = false;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word.find("_perf") != std::string_view::npos) break;
    launched = launched || word.ends_with("mpirun") ||
               word.ends_with("mpiexec") || word.ends_with("srun");
    int count = 0;
    if (launched && (word == "-np" || word == "-n" || word == "--ntasks") &&
        i + 1 < words.size() && from_text(words[i + 1], count) && count > 0) {
      return count;
    }
  }
  return {};
}

/// The number after a word; 0 where there is none.
int after(const std::vector<std::string_view>& words, std::string_view name) {
  const auto at = std::ranges::find(words, name);
  int value = 0;
  if (words.end() - at < 2 || !from_text(*(at + 1), value)) return 0;
  return std::clamp(value, 0, 1 << 20);
}

/// One run: its ranks, then its table.
struct Run {
  std::map<std::string, int> nodes;  ///< ranks by host
  std::set<int> ranks;
  std::set<std::string> devices;
  bool repeated = false;  ///< a rank is named twice
  int per_process = 0;    ///< ranks, of the header; 0 unknown
  std::vector<std::string> columns;
  int refused = 0;
};

class NcclTests {
 public:
  NcclTests(const Foreign& file, Gather& gather)
      : file_(file), gather_(gather) {
    program_ = program_of(file.name());
  }

  Result<void> read(std::string_view text) {
    while (!text.empty()) {
      ++number_;
      const auto end = text.find('\n');
      TRY_DO(line(without_prefix(text.substr(0, end))));
      text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    TRY_DO(close());
    if (!any_table_) {
      return fail(Fault::input, file_.path + ": no table of results in it");
    }
    rows_.into(gather_, file_.path);
    return {};
  }
  const std::string& version() const { return version_; }

 private:
  Result<void> line(std::string_view text) {
    const auto words = words_of(text);
    if (words.empty()) return {};
    note_program(words);
    note_version(text);
    if (const auto count = processes_of(words)) processes_ = *count;
    if (text.find("nThread") != std::string_view::npos &&
        text.find("minBytes") != std::string_view::npos) {
      // Every process prints it where they were built without MPI.
      if (!run_.columns.empty() || run_.ranks.empty()) TRY_DO(close());
      // At most 2^20 each: a product of 2^40 is refused as a row.
      run_.per_process = static_cast<int>(std::min<std::int64_t>(
          std::int64_t{after(words, "nThread")} * after(words, "nGpus"),
          1 << 20));
      return {};
    }
    const std::size_t first = words[0] == "#" ? 1 : 0;
    if (first < words.size() && words[first] == "Rank") {
      return rank(words, first);
    }
    if (words.size() > first + 3 && words[first] == "size" &&
        words[first + 1] == "count") {
      run_.columns.assign(words.begin() + static_cast<std::ptrdiff_t>(first),
                          words.end());
      return {};
    }
    if (words[0].starts_with('#') || run_.columns.empty()) return {};
    std::int64_t size = 0;
    if (!from_text(words[0], size)) return {};
    any_table_ = true;
    return row(words, size);
  }

  void note_program(const std::vector<std::string_view>& words) {
    for (const std::string_view word : words) {
      const std::string_view program = program_of(word);
      if (!program.empty()) program_ = program;
    }
  }

  void note_version(std::string_view text) {
    for (const std::string_view mark : {"NCCL version ", "nccl-library="}) {
      const auto at = text.find(mark);
      if (at == std::string_view::npos) continue;
      const auto words = words_of(text.substr(at + mark.size()));
      if (!words.empty()) version_ = excerpt(words[0], 40);
    }
  }

  /// "#  Rank  0 Group  0 Pid  1 on HOST device  0 [0x1b] NVIDIA H100 ..."
  Result<void> rank(const std::vector<std::string_view>& words,
                    std::size_t first) {
    if (!run_.columns.empty()) TRY_DO(close());
    const auto on = std::ranges::find(words, "on");
    int number = 0;
    if (first + 1 >= words.size() || words.end() - on < 6 ||
        !from_text(words[first + 1], number)) {
      gather_.reject(where(), "not the line of a rank");
      return {};
    }
    std::string device;
    for (auto word = on + 5; word != words.end(); ++word) {
      if (!device.empty()) device += ' ';
      device += *word;
    }
    run_.repeated = run_.repeated || !run_.ranks.insert(number).second;
    ++run_.nodes[std::string(*(on + 1))];
    run_.devices.insert(std::move(device));
    return {};
  }

  /// Where a column is, the `nth` of its name; nothing when there is none.
  std::optional<std::size_t> column(std::string_view name, int nth) const {
    for (std::size_t i = 0; i < run_.columns.size(); ++i) {
      if (run_.columns[i] == name && nth-- == 0) return i;
    }
    return {};
  }

  /// A cell, or nothing for "N/A".
  std::optional<double> cell(const std::vector<std::string_view>& words,
                             std::string_view name, int nth) const {
    const auto at = column(name, nth);
    double value = 0;
    if (!at || *at >= words.size() || !from_text(words[*at], value)) return {};
    return value;
  }

  Result<void> row(const std::vector<std::string_view>& words,
                   std::int64_t size) {
    if (words.size() != run_.columns.size()) {
      gather_.reject(where(), fmt::format("{} values for {} columns",
                                          words.size(), run_.columns.size()));
      return {};
    }
    for (const int pass : {0, 1}) {
      const double wrong = cell(words, "#wrong", pass).value_or(0);
      if (wrong != 0) {
        gather_.reject(where(), fmt::format("{} wrong results", wrong));
        return {};
      }
    }
    // In place, as training does it, where that was measured.
    auto micros = cell(words, "time", 1);
    if (!micros) micros = cell(words, "time", 0);
    const std::string problem = problem_of_run();
    if (!problem.empty()) {
      ++run_.refused;
      return {};
    }
    if (!micros) {
      gather_.reject(where(), "the time is no number");
      return {};
    }
    CollectiveRow made;
    made.collective = *collective_of(program_);
    TRY(made.device,
        file_.device(run_.devices.empty() ? "" : *run_.devices.begin()));
    made.ranks = ranks();
    made.per_node = per_node();
    made.bytes = size;
    made.time_s = *micros * 1e-6;
    if (problem_of_row(made)) return {};
    rows_.add(made, *micros * 1e-6);
    return {};
  }

  bool problem_of_row(const CollectiveRow& made) {
    const auto problem = problem_of(made);
    if (problem) gather_.reject(where(), *problem);
    return problem.has_value();
  }

  /// As listed, as told, or as the header and the launcher say; 0 unknown.
  int ranks() const {
    if (!run_.ranks.empty()) return static_cast<int>(run_.ranks.size());
    if (file_.options.ranks > 0) return file_.options.ranks;
    const std::int64_t all =
        std::int64_t{run_.per_process} * std::int64_t{processes_};
    return static_cast<int>(std::min<std::int64_t>(all, 1 << 20));
  }
  int per_node() const {
    if (file_.options.per_node > 0) return file_.options.per_node;
    return run_.nodes.empty() ? 0 : run_.nodes.begin()->second;
  }

  /// Why the numbers of ranks make no row; empty when they do.
  std::string problem_of_ranks() const {
    const int told = file_.options.ranks;
    if (!run_.ranks.empty() && told > 0 && told != ranks()) {
      return fmt::format("{} ranks are listed, --ranks says {}", ranks(), told);
    }
    if (ranks() == 0) {
      return "its ranks are not listed; say how many with --ranks N";
    }
    if (ranks() < 2) return "one rank alone communicates with nobody";
    if (per_node() == 0) {
      return fmt::format(
          "the nodes of its {} ranks are not listed; say how many ranks a "
          "node has with --per-node N",
          ranks());
    }
    if (per_node() > ranks() || ranks() % per_node() != 0) {
      return fmt::format("{} ranks do not make nodes of {}", ranks(),
                         per_node());
    }
    return {};
  }

  /// Why no line of this run can be a row.
  std::string problem_of_run() const {
    if (program_.empty()) {
      return "which collective is not said; name the file after the program, "
             "such as all_reduce_perf.txt";
    }
    if (!collective_of(program_)) {
      return fmt::format("{}: no such collective here", excerpt(program_));
    }
    if (run_.repeated) {
      return "a rank is listed twice: built without MPI, every process "
             "measured "
             "only itself";
    }
    if (run_.devices.size() > 1) return "its ranks are of several device kinds";
    for (const auto& [host, count] : run_.nodes) {
      if (file_.options.per_node > 0) break;
      if (count != run_.nodes.begin()->second) {
        return "its nodes hold unequal numbers of ranks";
      }
    }
    return problem_of_ranks();
  }

  Result<void> close() {
    if (run_.refused > 0) {
      gather_.reject(where(), fmt::format("{} sizes of {}: {}", run_.refused,
                                          program_.empty() ? "a run" : program_,
                                          problem_of_run()));
    }
    run_ = {};
    return {};
  }

  std::string where() const {
    return fmt::format("{}:{}", file_.path, number_);
  }

  const Foreign& file_;
  Gather& gather_;
  Run run_;
  std::string program_;
  std::string version_;
  int processes_ = 0;  ///< of the launcher's line; 0 unknown
  Repeats<CollectiveRow> rows_;
  int number_ = 0;
  bool any_table_ = false;
};

}  // namespace

Result<void> read_nccl_tests(std::string_view text, const Foreign& file,
                             Gather& gather) {
  Source source = file.source("nccl-tests");
  source.kind = "measured";
  source.citation = "https://github.com/NVIDIA/nccl-tests";
  source.note = "in place where that was measured";
  gather.begin(std::move(source));
  NcclTests reader(file, gather);
  TRY_DO(reader.read(text));
  if (!reader.version().empty()) {
    gather.sections.back().source.libraries = "NCCL " + reader.version();
  }
  return {};
}

}  // namespace troupe::profiles
