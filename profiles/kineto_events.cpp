#include "profiles/kineto_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>

#include "base/json.h"
#include "base/text.h"
#include "profiles/readers.h"

namespace troupe::profiles {
namespace {

constexpr int kDeepest = 64;
constexpr std::size_t kMostArguments = 64;
constexpr std::size_t kMostProcesses = 4096;

std::string text_of(const Json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>()
                                                : std::string();
}

std::int64_t whole_of(const Json* value, std::int64_t missing) {
  if (value == nullptr) return missing;
  return whole_number(*value).value_or(missing);
}

double real_of(const Json* value) {
  if (value == nullptr || !value->is_number()) return std::nan("");
  return value->get<double>();
}

/// The first of several spellings.
const Json* any_of(const Json* object,
                   std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (const Json* found = member(object, key)) return found;
  }
  return nullptr;
}

std::uint64_t id_of(const Json* value) {
  return static_cast<std::uint64_t>(whole_of(value, 0));
}

/// The sizes of a tensor; false for something else.
bool read_sizes(const Json& list, std::vector<std::int64_t>& sizes) {
  for (const Json& size : list) {
    const auto number = whole_number(size);
    if (!number) return false;
    sizes.push_back(*number);
  }
  return true;
}

std::int64_t elements_of_list(const Json& list) {
  double sum = 0;
  for (const Json& tensor : list) {
    std::vector<std::int64_t> sizes;
    if (!tensor.is_array() || !read_sizes(tensor, sizes)) return 0;
    double elements = 1;
    for (const std::int64_t s : sizes) elements *= static_cast<double>(s);
    sum += elements;
  }
  return sum >= 1 && sum < 1e15 ? static_cast<std::int64_t>(sum) : 0;
}

void read_arguments(const Json* args, TorchCall& call) {
  const Json* dims = any_of(args, {"Input Dims", "Input dims"});
  if (dims != nullptr && dims->is_array()) {
    for (const Json& argument : *dims) {
      if (call.sizes.size() == kMostArguments) break;
      auto& sizes = call.sizes.emplace_back();
      auto& elements = call.list_elements.emplace_back(0);
      if (!argument.is_array() || argument.empty()) continue;
      if (argument[0].is_array()) elements = elements_of_list(argument);
      if (argument[0].is_array() || !read_sizes(argument, sizes)) sizes.clear();
    }
  }
  const auto words = [](const Json* list, std::vector<std::string>& out) {
    if (list == nullptr || !list->is_array()) return;
    for (const Json& word : *list) {
      if (out.size() == kMostArguments) break;
      out.push_back(text_of(&word));
    }
  };
  words(any_of(args, {"Input type"}), call.types);
  words(any_of(args, {"Concrete Inputs"}), call.values);
}

class Reader {
 public:
  explicit Reader(KinetoTrace& trace) : trace_(trace) {}

  void event(const Json& event) {
    const std::string phase = text_of(member(&event, "ph"));
    if (phase != "X") return;
    std::string kind = text_of(member(&event, "cat"));
    std::ranges::transform(kind, kind.begin(), [](unsigned char c) {
      return static_cast<char>(std::tolower(c));
    });
    const bool call =
        kind == "cpu_op" || kind == "operator" || kind == "user_annotation";
    const bool kernel = kind == "kernel";
    const bool copy = kind == "gpu_memcpy" || kind == "memcpy";
    const bool launch = kind == "runtime" || kind.ends_with("_runtime") ||
                        kind.ends_with("_driver");
    if (!call && !kernel && !copy && !launch) return;
    const double start = real_of(member(&event, "ts"));
    const double micros = real_of(member(&event, "dur"));
    if (!std::isfinite(start) || !std::isfinite(micros) || micros < 0) {
      ++trace_.broken;
      return;
    }
    first_ = std::min(first_, start);
    const Json* args = member(&event, "args");
    if (launch) {
      add_launch(args,
                 {process_of(event), thread_of(event), start, start + micros});
    } else if (call) {
      add_call(event, args, start, micros);
    } else {
      add_kernel(event, args, start, micros, copy);
    }
  }

  /// The time of the first event, in microseconds.
  double first() const { return first_; }

 private:
  /// A driver's call inside a runtime's is one launch; so are the calls of one
  /// operator where only its number is recorded.
  void add_launch(const Json* args, const KinetoLaunch& launch) {
    auto& all = trace_.launches[launch_id(args)];
    const bool of_operator = member(args, "correlation") == nullptr;
    for (KinetoLaunch& known : all) {
      if (known.thread != launch.thread) continue;
      const bool inside = known.at <= launch.end && launch.at <= known.end;
      if (!inside && !of_operator) continue;
      if (launch.at < known.at) known = launch;
      return;
    }
    if (all.size() < kMostProcesses) all.push_back(launch);
  }

  static std::uint64_t launch_id(const Json* args) {
    // Old traces of AMD devices have only the other one, with this meaning.
    return id_of(any_of(args, {"correlation", "External id", "external id"}));
  }

  std::uint64_t process_of(const Json& event) {
    const Json* pid = member(&event, "pid");
    return processes_
        .try_emplace(pid == nullptr ? std::string() : pid->dump(),
                     processes_.size())
        .first->second;
  }

  std::uint64_t thread_of(const Json& event) {
    const auto word = [&](const char* key) {
      const Json* value = member(&event, key);
      return value == nullptr ? std::string() : value->dump();
    };
    const std::string name = word("pid") + "/" + word("tid");
    return threads_.try_emplace(name, threads_.size()).first->second;
  }

  void add_call(const Json& event, const Json* args, double start,
                double micros) {
    KinetoSpan span{process_of(event), thread_of(event), start, micros,
                    id_of(any_of(args, {"External id", "external id"}))};
    TorchCall& call = trace_.calls.emplace_back();
    call.name = text_of(member(&event, "name"));
    read_arguments(args, call);
    span.comms = comms_of(args);
    trace_.spans.push_back(span);
  }

  void add_kernel(const Json& event, const Json* args, double start,
                  double micros, bool copy) {
    KinetoKernel kernel{.name = text_of(member(&event, "name")),
                        .micros = micros,
                        .launch = launch_id(args),
                        .start = start,
                        .process = process_of(event)};
    kernel.external = id_of(any_of(args, {"External id", "external id"}));
    kernel.device = static_cast<int>(std::clamp<std::int64_t>(
        whole_of(any_of(args, {"device"}), -1), -1, 1 << 20));
    kernel.bytes = whole_of(any_of(args, {"bytes"}), -1);
    kernel.copy = copy;
    kernel.comms = comms_of(args);
    trace_.kernels.push_back(std::move(kernel));
  }

  std::optional<std::size_t> comms_of(const Json* args) {
    const std::string name = text_of(member(args, "Collective name"));
    if (name.empty()) return {};
    KinetoComms comms;
    comms.name = name;
    comms.in_elements = whole_of(member(args, "In msg nelems"), 0);
    comms.out_elements = whole_of(member(args, "Out msg nelems"), 0);
    comms.dtype = text_of(member(args, "dtype"));
    comms.group = static_cast<int>(std::clamp<std::int64_t>(
        whole_of(member(args, "Group size"), 0), 0, 1 << 20));
    comms.ranks = text_of(member(args, "Process Group Ranks"));
    comms.group_name = text_of(member(args, "Process Group Name"));
    for (const char* key : {"In split size", "Out split size"}) {
      const std::string split = text_of(member(args, key));
      comms.uneven = comms.uneven || (!split.empty() && split != "[]");
    }
    trace_.comms.push_back(std::move(comms));
    return trace_.comms.size() - 1;
  }

  KinetoTrace& trace_;
  double first_ = std::numeric_limits<double>::infinity();
  std::map<std::string, std::uint64_t> threads_, processes_;
};

/// 12040 as "12.4".
std::string cuda_version(const Json* value) {
  const std::int64_t version = whole_of(value, 0);
  if (version < 1000 || version > 1000000) return {};
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string libraries_of(const Json& root) {
  std::vector<std::string> names;
  const auto add = [&](const char* name, const std::string& version) {
    if (!version.empty()) names.push_back(fmt::format("{} {}", name, version));
  };
  add("CUDA", cuda_version(member(&root, "cuda_runtime_version")));
  add("driver of CUDA", cuda_version(member(&root, "cuda_driver_version")));
  const Json* nccl = member(member(&root, "distributedInfo"), "nccl_version");
  add("NCCL", excerpt(text_of(nccl)));
  return join(names);
}

/// The first event's time. Newer traces count from a base.
std::int64_t began_of(const Json& root, double first_micros) {
  const Json* base = member(&root, "baseTimeNanoseconds");
  const double seconds =
      first_micros * 1e-6 + (base != nullptr ? real_of(base) * 1e-9 : 0);
  // From 2000 to 2100; all else is the clock of a machine since its start.
  const bool plausible = seconds > 946684800.0 && seconds < 4102444800.0;
  return plausible ? static_cast<std::int64_t>(seconds) : 0;
}

void read_head(const Json& root, KinetoTrace& trace) {
  const Json* devices = member(&root, "deviceProperties");
  if (devices != nullptr && devices->is_array()) {
    for (const Json& device : *devices) {
      const std::int64_t id = whole_of(member(&device, "id"), -1);
      const std::string name = text_of(member(&device, "name"));
      if (id >= 0 && id < 4096 && !name.empty()) {
        trace.devices[static_cast<int>(id)] = name;
      }
    }
  }
  const Json* run = member(&root, "distributedInfo");
  const auto small = [&](const char* key, std::int64_t missing) {
    return static_cast<int>(std::clamp<std::int64_t>(
        whole_of(member(run, key), missing), -1, 1 << 20));
  };
  trace.world = std::max(0, small("world_size", 0));
  trace.rank = small("rank", -1);
  trace.backend = text_of(member(run, "backend"));
  trace.libraries = libraries_of(root);
}

}  // namespace

bool looks_like_kineto(std::string_view text) {
  return text.find("\"traceEvents\"") != std::string_view::npos;
}

Result<KinetoTrace> read_kineto_events(std::string_view text,
                                       const std::string& name) {
  KinetoTrace trace;
  Reader reader(trace);
  bool in_events = false, too_deep = false;
  const auto watch = [&](int depth, Json::parse_event_t what, Json& value) {
    using Event = Json::parse_event_t;
    if (depth > kDeepest) too_deep = true;
    if (too_deep) return false;
    if (what == Event::key && depth == 1) {
      in_events = value.get_ref<const std::string&>() == "traceEvents";
    }
    if (what == Event::object_end && depth == 2 && in_events) {
      reader.event(value);
      return false;  // read, and forgotten
    }
    return true;
  };
  try {
    const Json root = Json::parse(text.begin(), text.end(), watch);
    if (!too_deep) {
      read_head(root, trace);
      trace.began = began_of(root, reader.first());
    }
  } catch (const Json::exception& e) {
    return fail(Fault::input, fmt::format("{}: no JSON: {}", name, e.what()));
  }
  if (too_deep) {
    return fail(Fault::input,
                fmt::format("{}: nested over {} levels", name, kDeepest));
  }
  return trace;
}

}  // namespace troupe::profiles
