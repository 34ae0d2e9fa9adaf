#include "base/file.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "base/text.h"

namespace troupe {
namespace {

namespace fs = std::filesystem;

/// Closes a descriptor when the scope ends.
struct Descriptor {
  int fd = -1;
  explicit Descriptor(int f) : fd(f) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

/// Writes all of it, whatever the system takes at a time.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

/// /dev/stdout, a pipe: written to, never replaced by a file.
Result<void> write_device(const fs::path& path, std::string_view text) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.fd < 0 || !write_all(file.fd, text)) {
    return fail(Fault::io, fmt::format("cannot write {}: {}", path.string(),
                                       std::strerror(errno)));
  }
  return {};
}

}  // namespace

Result<std::string> read_file(const fs::path& path, Bytes most) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd < 0) {
    return fail(Fault::input, fmt::format("cannot read {}: {}", path.string(),
                                          std::strerror(errno)));
  }
  struct stat info{};
  if (::fstat(file.fd, &info) == 0 && S_ISDIR(info.st_mode)) {
    return fail(Fault::input,
                fmt::format("{} is a folder, not a file", path.string()));
  }
  std::string text;
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const ssize_t n = ::read(file.fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return fail(Fault::io, fmt::format("cannot read {}: {}", path.string(),
                                         std::strerror(errno)));
    }
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
    if (static_cast<std::int64_t>(text.size()) > most.v) {
      return fail(Fault::input, fmt::format("{} is larger than {}",
                                            path.string(), human(most)));
    }
  }
}

Result<void> write_file(const fs::path& given, std::string_view text) {
  std::error_code ignored;
  // A link is followed, so that what it names is replaced, not the link.
  const fs::path target = fs::is_symlink(given, ignored)
                              ? fs::weakly_canonical(given, ignored)
                              : given;
  const fs::path& path = target.empty() ? given : target;
  if (fs::is_directory(path, ignored)) {
    return fail(Fault::io,
                fmt::format("{} is a folder, not a file", path.string()));
  }
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored)) {
    return write_device(path, text);
  }
  static std::atomic<int> counter{0};
  const std::string temporary = fmt::format("{}.tmp{}-{}", path.string(),
                                            ::getpid(), counter.fetch_add(1));
  const auto give_up = [&](const char* what) {
    const int reason = errno;
    ::unlink(temporary.c_str());
    return fail(Fault::io, fmt::format("cannot {} {}: {}", what, path.string(),
                                       std::strerror(reason)));
  };
  {
    Descriptor file(::open(temporary.c_str(),
                           O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.fd < 0) return give_up("create");
    if (!write_all(file.fd, text)) return give_up("write");
    // Some file systems report a full disk only here.
    if (::fsync(file.fd) != 0 && errno != EINVAL) return give_up("write");
    if (::close(std::exchange(file.fd, -1)) != 0) return give_up("write");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) return give_up("replace");
  return {};
}

fs::path data_root() {
  if (const char* set = std::getenv("TROUPE_DATA"); set && *set) return set;
  std::error_code ignored;
  const fs::path self = fs::read_symlink("/proc/self/exe", ignored);
  fs::path beside = self.parent_path().parent_path() / "share/troupe";
  if (fs::is_directory(beside, ignored)) return beside;
  return TROUPE_SOURCE_DIR;
}

fs::path home_root() {
  if (const char* set = std::getenv("TROUPE_HOME"); set && *set) return set;
  const char* home = std::getenv("HOME");
  return fs::path(home && *home ? home : ".") / ".troupe";
}

Result<fs::path> find_shipped(std::string_view path_or_name,
                              std::string_view folder) {
  std::error_code ignored;
  fs::path given(path_or_name);
  const bool is_path = path_or_name.find('/') != std::string_view::npos ||
                       given.extension() == ".json";
  if (is_path || fs::is_regular_file(given, ignored)) return given;
  const fs::path root = data_root() / folder;
  fs::path shipped = root / fmt::format("{}.json", path_or_name);
  if (fs::is_regular_file(shipped, ignored)) return shipped;
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(root, ignored)) {
    if (entry.path().extension() == ".json") {
      names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  return fail(Fault::input,
              fmt::format("no file and no shipped name '{}' in {}{}; shipped: "
                          "{}",
                          excerpt(path_or_name), folder,
                          did_you_mean(path_or_name, names), join(names)));
}

std::string content_hash(std::string_view bytes) {
  const XXH128_hash_t h = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", h.high64, h.low64);
}

}  // namespace troupe
