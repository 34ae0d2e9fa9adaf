#include "profiles/gunzip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <memory>

namespace troupe::profiles {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;
/// A gzip header, not zlib's own; the largest window.
constexpr int kGzipWindow = 15 + 16;

}  // namespace

bool is_gzip(std::string_view bytes) {
  return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
}

Result<std::string> gunzip(std::string_view bytes, std::string_view name,
                           Bytes most) {
  z_stream stream{};
  if (inflateInit2(&stream, kGzipWindow) != Z_OK) {
    return fail(Fault::io, "zlib cannot start");
  }
  const auto end = [](z_stream* s) { inflateEnd(s); };
  const std::unique_ptr<z_stream, decltype(end)> guard(&stream, end);
  std::string text;
  std::string chunk(kChunk, '\0');
  while (true) {
    if (stream.avail_in == 0) {
      const auto part =
          std::min<std::size_t>(bytes.size(), std::numeric_limits<uInt>::max());
      // zlib does not write through it, but its type says so.
      stream.next_in =
          reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
      stream.avail_in = static_cast<uInt>(part);
      bytes.remove_prefix(part);
    }
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = static_cast<uInt>(chunk.size());
    const int state = inflate(&stream, Z_NO_FLUSH);
    text.append(chunk, 0, chunk.size() - stream.avail_out);
    if (static_cast<std::int64_t>(text.size()) > most.v) {
      return fail(Fault::input, fmt::format("{}: expands to more than {} MiB",
                                            name, most.v >> 20));
    }
    if (state == Z_STREAM_END) {
      const bool more = stream.avail_in > 0 || !bytes.empty();
      if (!more) return text;
      if (inflateReset(&stream) != Z_OK) break;  // the next member
    } else if (state != Z_OK) {
      return fail(Fault::input,
                  fmt::format("{}: {} gzip file", name,
                              state == Z_BUF_ERROR ? "truncated" : "damaged"));
    }
  }
  return fail(Fault::input, fmt::format("{}: damaged gzip file", name));
}

}  // namespace troupe::profiles
