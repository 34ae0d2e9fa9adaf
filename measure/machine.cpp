#include "measure/machine.h"

#include <fmt/format.h>

#include <charconv>

namespace troupe::measure {

std::string device_slug(std::string_view prefix, std::string_view name) {
  std::string out(prefix);
  bool gap = !out.empty();
  for (const char c : name.substr(0, 40)) {
    const bool small = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    const bool capital = c >= 'A' && c <= 'Z';
    if (small || capital) {
      if (gap) out += '-';
      out += capital ? static_cast<char>(c - 'A' + 'a') : c;
      gap = false;
    } else {
      gap = !out.empty();
    }
  }
  return out;
}

Result<void> Machine::enlarge(std::unique_ptr<Array>& array, Bytes size) {
  array.reset();  // both together need not fit
  TRY(array, allocate(size));
  return {};
}

Result<int> ordinal_of(std::string_view name) {
  if (name == "cuda") return 0;
  if (name.starts_with("cuda:")) {
    const std::string_view number = name.substr(5);
    int ordinal = -1;
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), ordinal);
    const bool whole = error == std::errc{} &&
                       end == number.data() + number.size() && ordinal >= 0;
    if (whole) return ordinal;
  }
  return fail(Fault::input,
              fmt::format("--device {}: expected cpu, cuda or cuda:N, N being "
                          "the GPU's number from 0",
                          name));
}

Result<std::unique_ptr<Machine>> open_machine(std::string_view name) {
  if (name == "cpu") return cpu_machine();
  TRY(const int ordinal, ordinal_of(name));
  return cuda_machine(ordinal);
}

}  // namespace troupe::measure
