// Where in the user's own file each part of a strategy was written, so that
// a problem found in the expanded strategy is reported at its source.
//
// A part is named by its path in the full native form:
//   /phases/0/pipelines/2/stages/1/devices/3
// with the fields rule, micro_batches, micro_batch_size, seq_len,
// micro_batch_seq_lens of a pipeline and devices, tp, cp, layers, share,
// recompute of a stage.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace troupe::strategy {

/// What follows the part in the user's file.
enum class Follow : std::uint8_t {
  rest,  ///< the same fields as in the native form
  leaf,  ///< only the last field (short forms)
  stop,  ///< nothing: the part is one value there
};

class Places {
 public:
  Places() = default;
  explicit Places(std::string file) : file_(std::move(file)) {}

  /// The part `native` is at `own` ("" is the whole file) in the user's file.
  void set(std::string native, std::string own, Follow follow);
  /// Fields called `field` are at `own`, unless a nearer part has a place.
  void set_leaf(std::string field, std::string own);
  /// "file: /own/path" of a part, by its nearest known ancestor.
  std::string where(std::string_view native) const;

  /// A part whose reading failed; its consequences are not reported again.
  void mark_unread(std::string native) { unread_.insert(std::move(native)); }
  /// True for an unread part and everything in it.
  bool unread(std::string_view native) const;

  const std::string& file() const { return file_; }

 private:
  struct Place {
    std::string own;
    Follow follow = Follow::rest;
  };
  std::string file_;
  std::map<std::string, Place, std::less<>> places_;
  std::map<std::string, std::string, std::less<>> leaves_;
  std::set<std::string, std::less<>> unread_;
};

}  // namespace troupe::strategy
