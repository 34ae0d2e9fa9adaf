#include "results/trace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <iterator>
#include <optional>

#include "results/text.h"

namespace troupe::results {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kFlushAt = 1 << 16;

/// Picoseconds as microseconds with all six decimals.
void append_microseconds(std::string& out, std::int64_t ps) {
  if (ps < 0) out += '-';
  const auto size =
      ps < 0 ? -static_cast<std::uint64_t>(ps) : static_cast<std::uint64_t>(ps);
  fmt::format_to(std::back_inserter(out), "{}.{:06}", size / 1'000'000,
                 size % 1'000'000);
}

/// Zero for a slice that ends before it starts; saturates.
std::int64_t duration(Time start, Time end) {
  if (end <= start) return 0;
  const std::uint64_t size =
      static_cast<std::uint64_t>(end.v) - static_cast<std::uint64_t>(start.v);
  return static_cast<std::int64_t>(
      std::min(size, static_cast<std::uint64_t>(kForever.v)));
}

void append_string(std::string& out, std::string_view text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
  });
  if (plain) {
    out += '"';
    out += text;
    out += '"';
  } else {
    out += json_string(text);
  }
}

void append_value(std::string& out, const TraceArg& arg) {
  if (const auto* whole = std::get_if<std::int64_t>(&arg.value)) {
    fmt::format_to(std::back_inserter(out), "{}", *whole);
  } else if (const auto* real = std::get_if<double>(&arg.value)) {
    out += exact(*real);
  } else {
    append_string(out, std::get<std::string_view>(arg.value));
  }
}

}  // namespace

/// The open file, its buffer and, after a failure, the reason. `temporary` is
/// empty when the target itself is written to.
struct TraceWriter::Output {
  fs::path path;
  std::string temporary;
  bool compress = false;
  int fd = -1;
  gzFile zip = nullptr;
  std::string buffer;
  std::string notes;
  std::string failure;
  bool any_event = false;
  std::int64_t slices = 0;
  std::int64_t most = 0;

  ~Output() {
    close();
    if (!temporary.empty()) ::unlink(temporary.c_str());
  }

  void fail_with(int reason) {
    if (failure.empty()) failure = std::strerror(reason);
  }

  void close() {
    if (zip) {
      errno = 0;
      if (::gzclose(zip) != Z_OK) fail_with(errno != 0 ? errno : EIO);
      zip = nullptr;
      fd = -1;
    } else if (fd >= 0) {
      if (::close(fd) != 0) fail_with(errno);
      fd = -1;
    }
  }

  bool write_some(std::string_view& text) {
    if (zip) {
      errno = 0;
      const auto size = static_cast<unsigned>(text.size());
      if (::gzwrite(zip, text.data(), size) != static_cast<int>(size)) {
        fail_with(errno != 0 ? errno : EIO);
        return false;
      }
      text = {};
      return true;
    }
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) return true;
    if (n < 0) {
      fail_with(errno);
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(n));
    return true;
  }

  void flush() {
    std::string_view rest = buffer;
    while (!rest.empty() && failure.empty() && write_some(rest)) {
    }
    buffer.clear();
  }

  void begin_event() {
    buffer += any_event ? ",\n" : "\n";
    any_event = true;
  }
  void end_event() {
    if (buffer.size() >= kFlushAt) flush();
  }

  void metadata(std::string_view what, int process, int track,
                std::string_view name) {
    begin_event();
    fmt::format_to(std::back_inserter(buffer),
                   "{{\"ph\":\"M\",\"name\":\"{}\",\"pid\":{},\"tid\":{},"
                   "\"args\":{{\"name\":",
                   what, process, track);
    append_string(buffer, name);
    buffer += "}}";
    end_event();
  }

  /// Perfetto sorts processes and tracks by this index, else by name.
  void sort_index(std::string_view what, int process, int track, int index) {
    begin_event();
    fmt::format_to(std::back_inserter(buffer),
                   "{{\"ph\":\"M\",\"name\":\"{}\",\"pid\":{},\"tid\":{},"
                   "\"args\":{{\"sort_index\":{}}}}}",
                   what, process, track, index);
    end_event();
  }
};

namespace {

/// The number in /dev/stdout, /dev/stderr, /dev/fd/N or /proc/self/fd/N.
std::optional<int> descriptor_of(const std::string& path) {
  if (path == "/dev/stdout") return 1;
  if (path == "/dev/stderr") return 2;
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"}) {
    if (!path.starts_with(folder)) continue;
    const char* begin = path.data() + folder.size();
    const char* end = path.data() + path.size();
    int number = -1;
    const auto [p, e] = std::from_chars(begin, end, number);
    if (e == std::errc{} && p == end && number >= 0) return number;
  }
  return {};
}

}  // namespace

/// Opens the temporary file of a regular target. What is open already, a pipe
/// or a device is written to as it is: replacing it would take it away.
Result<void> TraceWriter::open_target(const fs::path& given, Output& output) {
  std::error_code ignored;
  // A link is followed, so that what it names is replaced, not the link.
  const fs::path target = fs::is_symlink(given, ignored)
                              ? fs::weakly_canonical(given, ignored)
                              : given;
  output.path = target.empty() ? given : target;
  const auto descriptor = descriptor_of(given.string());
  if (descriptor) {
    output.path = given;
    output.fd = ::fcntl(*descriptor, F_DUPFD_CLOEXEC, 0);
  } else if (fs::is_directory(output.path, ignored)) {
    return fail(Fault::io,
                fmt::format("{} is a folder, not a file", given.string()));
  } else if (fs::exists(output.path, ignored) &&
             !fs::is_regular_file(output.path, ignored)) {
    output.fd = ::open(output.path.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    const std::string temporary =
        fmt::format("{}.tmp{}", output.path.string(), ::getpid());
    output.fd = ::open(temporary.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (output.fd >= 0) output.temporary = temporary;
  }
  if (output.fd >= 0) return {};
  return fail(Fault::io, fmt::format("cannot create {}: {}", given.string(),
                                     std::strerror(errno)));
}

TraceWriter::TraceWriter(std::unique_ptr<Output> output)
    : output_(std::move(output)) {}
TraceWriter::TraceWriter(TraceWriter&&) noexcept = default;
TraceWriter& TraceWriter::operator=(TraceWriter&&) noexcept = default;
TraceWriter::~TraceWriter() = default;

Result<TraceWriter> TraceWriter::open(const fs::path& path,
                                      const TraceOptions& options) {
  auto output = std::make_unique<Output>();
  output->most = options.most_slices;
  TRY_DO(open_target(path, *output));
  if (path.extension() == ".gz") {
    output->zip = ::gzdopen(output->fd, "wb6");
    if (!output->zip) {
      return fail(Fault::io, fmt::format("cannot compress {}", path.string()));
    }
  }
  output->buffer = "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[";
  return TraceWriter(std::move(output));
}

void TraceWriter::name_process(int process, std::string_view name) {
  output_->metadata("process_name", process, 0, name);
  output_->sort_index("process_sort_index", process, 0, process);
}

void TraceWriter::name_track(int process, int track, std::string_view name) {
  output_->metadata("thread_name", process, track, name);
  output_->sort_index("thread_sort_index", process, track, track);
}

void TraceWriter::add(const Slice& slice) {
  Output& out = *output_;
  if (++out.slices > out.most) return;
  out.begin_event();
  fmt::format_to(std::back_inserter(out.buffer),
                 "{{\"ph\":\"X\",\"pid\":{},\"tid\":{},\"ts\":", slice.process,
                 slice.track);
  append_microseconds(out.buffer, slice.start.v);
  out.buffer += ",\"dur\":";
  append_microseconds(out.buffer, duration(slice.start, slice.end));
  out.buffer += ",\"name\":";
  append_string(out.buffer, slice.name);
  out.buffer += ",\"cat\":";
  append_string(out.buffer, slice.category);
  if (!slice.args.empty()) {
    char before = '{';
    out.buffer += ",\"args\":";
    for (const TraceArg& arg : slice.args) {
      out.buffer += before;
      before = ',';
      append_string(out.buffer, arg.key);
      out.buffer += ':';
      append_value(out.buffer, arg);
    }
    out.buffer += '}';
  }
  out.buffer += '}';
  out.end_event();
}

void TraceWriter::note(std::string_view key, std::string_view text) {
  output_->notes += output_->notes.empty() ? "" : ",";
  append_string(output_->notes, key);
  output_->notes += ':';
  append_string(output_->notes, text);
}

std::int64_t TraceWriter::left_out() const {
  return std::max<std::int64_t>(0, output_->slices - output_->most);
}

Result<void> TraceWriter::finish() {
  Output& out = *output_;
  if (left_out() > 0) {
    const std::string cut =
        fmt::format("trace cut: {} of {} slices were left out",
                    thousands(left_out()), thousands(out.slices));
    note("cut", cut);
    out.begin_event();
    out.buffer +=
        "{\"ph\":\"i\",\"s\":\"g\",\"pid\":0,\"tid\":0,\"ts\":0,"
        "\"name\":\"" +
        cut + "\"}";
  }
  out.buffer += "\n],\"otherData\":{" + out.notes + "}}\n";
  out.flush();
  out.close();
  if (out.failure.empty() && !out.temporary.empty() &&
      ::rename(out.temporary.c_str(), out.path.c_str()) != 0) {
    out.fail_with(errno);
  }
  if (!out.failure.empty()) {
    return fail(Fault::io, fmt::format("cannot write {}: {}", out.path.string(),
                                       out.failure));
  }
  out.temporary.clear();
  return {};
}

}  // namespace troupe::results
