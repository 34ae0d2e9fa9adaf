#include "data/sentencepiece_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>

namespace troupe::data {
namespace {

static_assert(std::endian::native == std::endian::little);

/// A field of a protocol buffer.
struct Field {
  std::uint64_t number = 0;
  int wire = 0;                   ///< 0 varint, 1 and 5 fixed, 2 bytes
  std::string_view content = {};  ///< of all but varints
};

std::optional<std::uint64_t> take_varint(std::string_view& text) {
  std::uint64_t out = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (text.empty()) return {};
    const auto byte = static_cast<unsigned char>(text[0]);
    text.remove_prefix(1);
    out |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return out;
  }
  return {};
}

/// Nothing for a field that is cut off or of a kind no model has.
std::optional<Field> take_field(std::string_view& text) {
  const auto tag = take_varint(text);
  if (!tag) return {};
  Field out{.number = *tag >> 3, .wire = static_cast<int>(*tag & 7)};
  std::uint64_t size = 0;
  if (out.wire == 1) size = 8;
  if (out.wire == 5) size = 4;
  if (out.wire == 0 || out.wire == 2) {
    const auto number = take_varint(text);
    if (!number) return {};
    if (out.wire == 2) size = *number;
  }
  if (out.wire == 3 || out.wire == 4 || out.wire > 5) return {};
  if (size > text.size()) return {};
  out.content = text.substr(0, static_cast<std::size_t>(size));
  text.remove_prefix(static_cast<std::size_t>(size));
  return out;
}

/// A unit of the trie.
struct Unit {
  std::uint32_t v = 0;
  bool has_value() const { return ((v >> 8) & 1) != 0; }
  std::size_t value() const { return v & 0x7FFFFFFFU; }
  std::size_t offset() const {
    return static_cast<std::size_t>(v >> 10) << ((v & (1U << 9)) >> 6);
  }
  bool is_node() const { return (v >> 31) == 0; }
};

/// Why a table of replaced characters cannot be used, or empty.
std::string table_problem(std::string_view table) {
  if (table.empty()) return {};
  std::uint32_t trie_size = 0;
  if (table.size() > 4) std::memcpy(&trie_size, table.data(), 4);
  table.remove_prefix(std::min<std::size_t>(table.size(), 4));
  if (trie_size < 4 || trie_size % 4 != 0 || trie_size >= table.size()) {
    return "its trie does not fit in it";
  }
  const std::string_view texts = table.substr(trie_size);
  const std::size_t count = trie_size / 4;
  const auto unit = [&](std::size_t i) {
    Unit out;
    std::memcpy(&out.v, table.data() + 4 * i, 4);
    return out;
  };
  if (texts.back() != '\0') return "its last text has no end";
  for (std::size_t i = 0; i < count; ++i) {
    const Unit u = unit(i);
    if (i > 0 && !u.is_node()) continue;
    const std::size_t next = i ^ u.offset();
    if ((next | 0xFF) >= count) return "its trie leads out of it";
    if (u.has_value() && unit(next).value() >= texts.size()) {
      return "its trie names a text outside";
    }
  }
  return {};
}

/// The first problem that `problem_of` sees in a field of `message`; or
/// `broken`, where its bytes are no fields.
template <typename ProblemOf>
std::string first_problem(std::string_view message, const char* broken,
                          const ProblemOf& problem_of) {
  while (!message.empty()) {
    const auto field = take_field(message);
    if (!field) return broken;
    std::string problem = problem_of(*field);
    if (!problem.empty()) return problem;
  }
  return {};
}

std::string score_problem(const Field& field) {
  if (field.number != 2 || field.wire != 5) return {};
  float score = 0;
  std::memcpy(&score, field.content.data(), 4);
  return std::isfinite(score) ? "" : "the score of a piece is no number";
}

std::string charsmap_problem(const Field& field) {
  if (field.number != 2 || field.wire != 2) return {};
  const std::string problem = table_problem(field.content);
  return problem.empty() ? "" : "precompiled_charsmap: " + problem;
}

std::string part_problem(const Field& field) {
  if (field.wire != 2) return {};
  switch (field.number) {
    case 1:
      return first_problem(field.content, "a piece is cut off", score_problem);
    case 3:
    case 5:
      return first_problem(field.content, "the normalizer is cut off",
                           charsmap_problem);
    default:
      return {};
  }
}

std::string model_problem(std::string_view content) {
  if (content.empty()) return "the file is empty";
  return first_problem(content, "a field is cut off or of no known kind",
                       part_problem);
}

}  // namespace

Result<void> check_sentencepiece(std::string_view content,
                                 const std::string& name) {
  const std::string problem = model_problem(content);
  if (problem.empty()) return {};
  return fail(Fault::input,
              fmt::format("{}: not a SentencePiece model: {}; expected a "
                          ".model file as spm_train writes it",
                          name, problem));
}

}  // namespace troupe::data
