// Indices that are types: a device index is never a stage index.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace troupe {

/// A dense, zero-based index of one kind of thing.
template <typename Tag>
struct Id {
  std::int32_t v = -1;

  constexpr auto operator<=>(const Id&) const = default;
  constexpr explicit operator bool() const { return v >= 0; }
  /// Position in a vector; requires a valid id.
  constexpr std::size_t at() const { return static_cast<std::size_t>(v); }
};

/// The id of position `i` in a vector.
template <typename IdType>
constexpr IdType make_id(std::size_t i) {
  return IdType{static_cast<std::int32_t>(i)};
}

}  // namespace troupe

template <typename Tag>
struct std::hash<troupe::Id<Tag>> {
  std::size_t operator()(troupe::Id<Tag> id) const noexcept {
    return std::hash<std::int32_t>{}(id.v);
  }
};
