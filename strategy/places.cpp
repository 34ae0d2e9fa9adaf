#include "strategy/places.h"

#include <fmt/format.h>

namespace troupe::strategy {
namespace {

/// "/a/b" of "/a/b/c", empty of "/a".
std::string_view parent(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view{}
                                         : path.substr(0, slash);
}

/// "c" of "/a/b/c".
std::string_view last_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

void Places::set(std::string native, std::string own, Follow follow) {
  places_.insert_or_assign(std::move(native), Place{std::move(own), follow});
}

void Places::set_leaf(std::string field, std::string own) {
  leaves_.insert_or_assign(std::move(field), std::move(own));
}

std::string Places::where(std::string_view native) const {
  std::string own(native);
  for (std::string_view part = native;; part = parent(part)) {
    const auto it = places_.find(part);
    if (it != places_.end()) {
      own = it->second.own;
      const std::string_view rest = native.substr(part.size());
      if (it->second.follow == Follow::rest) own += rest;
      if (it->second.follow == Follow::leaf && !rest.empty()) {
        own += rest.substr(rest.rfind('/'));
      }
      break;
    }
    const auto leaf = leaves_.find(last_of(part));
    if (leaf != leaves_.end()) {
      own = leaf->second;
      break;
    }
    if (part.empty()) break;
  }
  if (own.empty()) return file_;
  return file_.empty() ? own : fmt::format("{}: {}", file_, own);
}

bool Places::unread(std::string_view native) const {
  for (; !native.empty(); native = parent(native)) {
    if (unread_.contains(native)) return true;
  }
  return unread_.contains("");
}

}  // namespace troupe::strategy
