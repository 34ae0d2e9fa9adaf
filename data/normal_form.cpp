#include "data/normal_form.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace troupe::data {
namespace {

int options_of(NormalForm form) {
  switch (form) {
    case NormalForm::nfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalForm::nfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalForm::nfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case NormalForm::nfkd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return 0;
}

struct FreeText {
  void operator()(utf8proc_uint8_t* p) const { std::free(p); }
};

}  // namespace

Result<std::string> normalized(std::string_view text, NormalForm form) {
  const auto plain = [](char c) { return static_cast<signed char>(c) >= 0; };
  if (std::ranges::all_of(text, plain)) return std::string(text);
  utf8proc_uint8_t* made = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &made,
                   static_cast<utf8proc_option_t>(options_of(form)));
  const std::unique_ptr<utf8proc_uint8_t, FreeText> owned(made);
  if (size < 0) {
    return fail(Fault::io, fmt::format("text cannot be normalized: {}",
                                       utf8proc_errmsg(size)));
  }
  return std::string(reinterpret_cast<const char*>(made),
                     static_cast<std::size_t>(size));
}

}  // namespace troupe::data
