// Nsight Systems exports (SQLite): kernels by the NVTX ranges that they were
// launched in, NCCL kernels by the sizes in NCCL's own ranges, copies.
#include <SQLiteCpp/SQLiteCpp.h>
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/progress.h"
#include "base/text.h"
#include "profiles/dates.h"
#include "profiles/nvtx_text.h"
#include "profiles/readers.h"
#include "profiles/spans.h"
#include "profiles/trace_rows.h"

namespace troupe::profiles {
namespace {

using clusters::Collective;

constexpr const char* kKernels = "CUPTI_ACTIVITY_KIND_KERNEL";
constexpr const char* kCalls = "CUPTI_ACTIVITY_KIND_RUNTIME";
constexpr const char* kCopies = "CUPTI_ACTIVITY_KIND_MEMCPY";
constexpr const char* kRanges = "NVTX_EVENTS";
constexpr const char* kStart = "TARGET_INFO_SESSION_START_TIME";
constexpr const char* kSystem = "TARGET_INFO_SYSTEM_ENV";
constexpr std::size_t kMostLibraries = 8;
/// Ids carry the process in their upper bytes, the thread in the lowest three.
constexpr std::int64_t kThreadBits = 0xFFFFFF;
/// CUpti_ActivityMemcpyKind.
constexpr int kHostToDevice = 1;
constexpr int kDeviceToHost = 2;
constexpr int kDeviceToDevice = 8;
constexpr int kPeer = 10;
/// CUpti_ActivityMemoryKind.
constexpr int kPageable = 1;
constexpr int kPinned = 2;

struct Interrupted {};

/// The database of a file that is not ours: read as it is, nothing written.
class Export {
 public:
  explicit Export(const std::string& path)
      : db_(uri(path), SQLite::OPEN_READONLY | SQLite::OPEN_URI) {
    db_.exec("PRAGMA trusted_schema = OFF");
    SQLite::Statement names(
        db_, "SELECT name FROM sqlite_master WHERE type = 'table'");
    while (names.executeStep()) {
      const std::string table = names.getColumn(0).getString();
      for (const char* known :
           {kKernels, kCalls, kCopies, kRanges, kStart, kSystem, "StringIds",
            "TARGET_INFO_GPU", "TARGET_INFO_CUDA_DEVICE"}) {
        if (table == known) read_columns(table);
      }
    }
  }

  bool has(const std::string& table) const { return columns_.contains(table); }
  bool has(const std::string& table, const std::string& column) const {
    const auto at = columns_.find(table);
    return at != columns_.end() && at->second.contains(column);
  }
  /// The column, or NULL where this version has none.
  std::string column(const std::string& table, const std::string& name) const {
    return has(table, name) ? fmt::format("\"{}\"", name) : "NULL";
  }

  /// Calls f(statement) for every row of columns of a table.
  template <typename F>
  void each(const std::string& table, std::initializer_list<const char*> names,
            F&& f) {
    std::string sql = "SELECT ";
    for (const char* name : names) sql += column(table, name) + ", ";
    sql.resize(sql.size() - 2);
    SQLite::Statement query(db_, sql + " FROM \"" + table + "\"");
    for (std::int64_t n = 0; query.executeStep(); ++n) {
      if (n % 4096 == 0 && interrupted()) throw Interrupted{};
      f(query);
    }
  }

 private:
  /// Immutable: no journal beside it is read, none is made.
  static std::string uri(const std::string& path) {
    std::string out = "file:";
    for (const char c : std::filesystem::absolute(path).string()) {
      const bool plain =
          std::isalnum(static_cast<unsigned char>(c)) != 0 ||
          std::string_view("/._-~").find(c) != std::string_view::npos;
      out += plain ? std::string(1, c)
                   : fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return out + "?immutable=1";
  }

  void read_columns(const std::string& table) {
    SQLite::Statement info(db_, "PRAGMA table_info(\"" + table + "\")");
    while (info.executeStep()) {
      columns_[table].insert(info.getColumn(1).getString());
    }
  }

  SQLite::Database db_;
  std::map<std::string, std::set<std::string>> columns_;
};

class Nsys {
 public:
  Nsys(Export& db, const Foreign& file) : db_(db), file_(file) {}

  void read(Gather& gather) {
    if (db_.has("StringIds")) {
      db_.each("StringIds", {"id", "value"}, [&](SQLite::Statement& s) {
        strings_[s.getColumn(0).getInt64()] = s.getColumn(1).getString();
      });
    }
    read_devices();
    read_ranges();
    read_launches();
    TraceRows rows(calls_);
    read_kernels(rows);
    read_copies(rows);
    if (spans_seen_ == 0) {
      gather.reject(file_.path,
                    "no NVTX ranges: which operators the kernels are of is "
                    "not known; record with torch.autograd.profiler."
                    "emit_nvtx(record_shapes=True) and nsys profile --trace "
                    "cuda,nvtx");
    }
    if (broken_ > 0) {
      gather.reject(file_.path, fmt::format("{} kernels or copies that end "
                                            "before they start",
                                            broken_));
    }
    rows.finish().into(gather, file_.path);
  }

  /// When the recording began, in seconds since 1970; 0 when it does not say.
  std::int64_t began() {
    std::int64_t seconds = 0;
    if (db_.has(kStart)) {
      db_.each(kStart, {"utcEpochNs"}, [&](SQLite::Statement& s) {
        seconds = s.getColumn(0).getInt64() / 1'000'000'000;
      });
    }
    return std::max<std::int64_t>(seconds, 0);
  }

  /// The driver, as far as the environment of the target says.
  std::string libraries() {
    std::vector<std::string> names;
    if (db_.has(kSystem)) {
      db_.each(kSystem, {"name", "value"}, [&](SQLite::Statement& s) {
        const std::string name = string_of(s.getColumn(0));
        const std::string value = string_of(s.getColumn(1));
        const bool tells = name.find("CUDA") != std::string::npos ||
                           name.find("Driver") != std::string::npos;
        if (tells && !value.empty() && names.size() < kMostLibraries) {
          names.push_back(excerpt(name) + " " + excerpt(value));
        }
      });
    }
    return join(names);
  }

 private:
  std::string string_of(const SQLite::Column& column) const {
    if (column.isText()) return column.getString();
    if (column.isNull()) return {};
    const auto at = strings_.find(column.getInt64());
    return at == strings_.end() ? std::string() : at->second;
  }

  void read_devices() {
    std::map<std::int64_t, std::string> names;
    if (db_.has("TARGET_INFO_GPU")) {
      db_.each("TARGET_INFO_GPU", {"id", "name"}, [&](SQLite::Statement& s) {
        names[s.getColumn(0).getInt64()] = string_of(s.getColumn(1));
      });
    }
    gpus_ = static_cast<int>(names.size());
    for (const auto& [id, name] : names) devices_[id] = name;
    if (!db_.has("TARGET_INFO_CUDA_DEVICE")) return;
    // A process may see the GPUs in another order.
    std::map<std::int64_t, std::string> seen;
    db_.each("TARGET_INFO_CUDA_DEVICE", {"cudaId", "gpuId"},
             [&](SQLite::Statement& s) {
               const auto at = names.find(s.getColumn(1).getInt64());
               if (at != names.end()) {
                 seen[s.getColumn(0).getInt64()] = at->second;
               }
             });
    for (const auto& [id, name] : seen) devices_[id] = name;
  }

  void read_ranges() {
    if (!db_.has(kRanges)) return;
    db_.each(kRanges,
             {"start", "end", "globalTid", "text", "textId", "jsonText",
              "jsonTextId"},
             [&](SQLite::Statement& s) {
               std::string text = string_of(s.getColumn(3));
               if (text.empty()) text = string_of(s.getColumn(4));
               std::string json = string_of(s.getColumn(5));
               if (json.empty()) json = string_of(s.getColumn(6));
               const std::int64_t thread = s.getColumn(2).getInt64();
               if (text.starts_with("ncclCommInit")) learn_group(json);
               if (s.getColumn(1).isNull() || text.empty()) return;
               ++spans_seen_;
               spans_.add(static_cast<std::uint64_t>(thread),
                          s.getColumn(0).getDouble(),
                          s.getColumn(1).getDouble(), calls_.size());
               calls_.push_back(read_nvtx_call(text));
               messages_.push_back(text.starts_with("nccl") ? json : "");
             });
    spans_.nest();
  }

  void learn_group(const std::string& json) {
    const auto message = read_nccl_payload(json);
    if (!message || message->ranks < 1) return;
    Group& group = groups_[message->communicator];
    group.ranks = message->ranks;
    group.here.insert(message->rank);
  }

  void read_launches() {
    if (!db_.has(kCalls)) return;
    db_.each(kCalls, {"correlationId", "globalTid", "start"},
             [&](SQLite::Statement& s) {
               const std::int64_t thread = s.getColumn(1).getInt64();
               launches_[{process_of(thread), s.getColumn(0).getInt64()}] = {
                   static_cast<std::uint64_t>(thread),
                   s.getColumn(2).getDouble()};
             });
  }

  /// 0 where kernels do not say theirs.
  std::int64_t process_of(std::int64_t thread) const {
    return db_.has(kKernels, "globalPid") ? thread & ~kThreadBits : 0;
  }

  Result<std::string> device_of(std::int64_t number) {
    if (const auto at = known_.find(number); at != known_.end()) {
      return at->second;
    }
    const auto name = devices_.find(number);
    TRY(std::string device,
        file_.device(name == devices_.end() ? std::string_view("not named")
                                            : std::string_view(name->second)));
    return known_[number] = std::move(device);
  }

  std::vector<std::size_t> around(std::int64_t process,
                                  std::int64_t correlation) const {
    const auto at = launches_.find({process & ~kThreadBits, correlation});
    if (at == launches_.end()) return {};
    return spans_.around(at->second.first, at->second.second);
  }

  void read_kernels(TraceRows& rows) {
    db_.each(kKernels,
             {"start", "end", "deviceId", "correlationId", "globalPid",
              "demangledName", "shortName", "name"},
             [&](SQLite::Statement& s) {
               std::string name;
               for (int i = 5; i < 8 && name.empty(); ++i) {
                 name = string_of(s.getColumn(i));
               }
               const double seconds = seconds_of(s);
               if (seconds < 0) return;
               const std::int64_t process = s.getColumn(4).getInt64();
               const std::int64_t number = s.getColumn(2).getInt64();
               const auto device = device_of(number);
               if (!device) {
                 return rows.leave_out(device.error().message, seconds);
               }
               const auto inside = around(process, s.getColumn(3).getInt64());
               if (!name.starts_with("nccl")) {
                 return rows.add(TraceKernel{*device, name, seconds, inside});
               }
               TraceCollective row{
                   .device = *device,
                   .seconds = seconds,
                   .start = s.getColumn(0).getDouble(),
                   .member = fmt::format("{}/{}", process, number)};
               const std::string problem = describe(inside, row);
               if (!problem.empty()) {
                 return rows.leave_out("NCCL kernels: " + problem, seconds);
               }
               rows.add(row);
             });
  }

  /// Negative, and counted, when it ends before it starts.
  double seconds_of(SQLite::Statement& s) {
    const double seconds = static_cast<double>(s.getColumn(1).getInt64() -
                                               s.getColumn(0).getInt64()) *
                           1e-9;
    if (seconds < 0 || s.getColumn(1).isNull()) {
      ++broken_;
      return -1;
    }
    return seconds;
  }

  std::string describe(const std::vector<std::size_t>& inside,
                       TraceCollective& row) const {
    for (const std::size_t i : inside) {
      const auto collective = collective_named(calls_[i].name);
      const auto payload = read_nccl_payload(messages_[i]);
      if (messages_[i].empty() || !collective || !payload) continue;
      const auto group = groups_.find(payload->communicator);
      if (group == groups_.end()) {
        return "the ranks of their communicator are not recorded";
      }
      const Group& g = group->second;
      row.collective = *collective;
      row.group = payload->communicator;
      row.ranks = *collective == Collective::send_receive ? 2 : g.ranks;
      // NCCL's size is a rank's share where a buffer is gathered or scattered.
      const bool share = *collective == Collective::all_gather ||
                         *collective == Collective::reduce_scatter ||
                         *collective == Collective::all_to_all;
      row.bytes = payload->bytes * (share ? g.ranks : 1);
      const bool all_here = static_cast<int>(g.here.size()) == g.ranks;
      if (!all_here) return "which ranks share a node is not recorded";
      row.per_node = row.ranks;
      if (row.bytes < 1) return "the size of the message is missing or wrong";
      return {};
    }
    return "the size of the message is not recorded (NCCL's NVTX ranges)";
  }

  void read_copies(TraceRows& rows) {
    if (!db_.has(kCopies)) return;
    db_.each(
        kCopies,
        {"start", "end", "deviceId", "copyKind", "bytes", "srcKind", "dstKind"},
        [&](SQLite::Statement& s) {
          const double seconds = seconds_of(s);
          if (seconds < 0) return;
          const auto device = device_of(s.getColumn(2).getInt64());
          if (!device) {
            return rows.leave_out(device.error().message, seconds);
          }
          const int kind = s.getColumn(3).getInt();
          const std::int64_t bytes = s.getColumn(4).getInt64();
          if (kind == kDeviceToDevice) {
            return rows.add_device_copy(*device, bytes, seconds);
          }
          if (kind == kPeer) {
            return rows.add(TraceCollective{*device, Collective::send_receive,
                                            2, 2, bytes, seconds});
          }
          if (kind != kHostToDevice && kind != kDeviceToHost) {
            return rows.leave_out("copies of another kind", seconds);
          }
          const int host = s.getColumn(kind == kHostToDevice ? 5 : 6).getInt();
          if (host != kPinned) {
            return rows.leave_out(host == kPageable
                                      ? "copies of pageable host memory: rows "
                                        "are of pinned memory"
                                      : "copies with the host that do not say "
                                        "whether its memory is pinned",
                                  seconds);
          }
          rows.add_host_copy(
              {.device = *device,
               .route = kind == kHostToDevice ? CopyRoute::host_to_device
                                              : CopyRoute::device_to_host,
               .bytes = bytes},
              seconds);
        });
  }

  struct Group {
    int ranks = 0;
    std::set<int> here;  ///< ranks that this export saw begin
  };

  Export& db_;
  const Foreign& file_;
  std::map<std::int64_t, std::string> strings_, devices_, known_;
  int gpus_ = 0;
  int broken_ = 0;
  std::int64_t spans_seen_ = 0;
  std::vector<TorchCall> calls_;
  std::vector<std::string> messages_;  ///< of NCCL's calls, parallel to calls_
  Spans spans_;
  std::map<std::string, Group> groups_;  ///< by communicator
  std::map<std::pair<std::int64_t, std::int64_t>,
           std::pair<std::uint64_t, double>>
      launches_;
};

}  // namespace

Result<void> read_nsys(const Foreign& file, Gather& gather) {
  try {
    Export db(file.path);
    if (!db.has(kKernels)) {
      return fail(Fault::input,
                  fmt::format("{}: an SQLite file without {}; expected an "
                              "export of Nsight Systems (nsys export --type "
                              "sqlite) of a run that used the GPU",
                              file.path, kKernels));
    }
    Source source = file.source("nsight systems");
    source.kind = "measured";
    source.note =
        "medians of kernel times; of collectives with the wait for the other "
        "ranks";
    Nsys nsys(db, file);
    if (const std::int64_t began = nsys.began(); began > 0) {
      source.date = utc(began);
    }
    source.libraries = nsys.libraries();
    gather.begin(std::move(source));
    nsys.read(gather);
    return {};
  } catch (const SQLite::Exception& e) {
    return fail(Fault::input, fmt::format("{}: {}", file.path, e.what()));
  } catch (const Interrupted&) {
    return fail(Fault::interrupted, "interrupted; nothing stored");
  }
}

}  // namespace troupe::profiles
