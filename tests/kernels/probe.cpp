// Performs calls for a program in another language, one request after the
// other. A request is a line of JSON on standard input,
//   {"call": 0, "fields": {"m": 2, ..., "a": "a"},
//    "arrays": [{"name": "a", "bytes": 32}, ...]}
// with the position of the operator in `Call`, and then the bytes of the
// arrays; an operand names its array. The answer is a line, empty or the
// error, and then the bytes of all arrays as the call left them.
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "kernels/cpu.h"
#include "tests/kernels/probe_fields.h"

namespace troupe::kernels {
namespace {

using Arrays = std::map<std::string, std::vector<char>>;

/// Sets each field that the request names.
struct Reader {
  const nlohmann::json& request;
  Arrays& arrays;

  void operator()(const char* name, DType& type) const {
    if (!request.contains(name)) return;
    type = parse_dtype(request[name].get<std::string>()).value();
  }
  void operator()(const char* name, Pointwise& function) const {
    if (!request.contains(name)) return;
    function = static_cast<Pointwise>(request[name].get<int>());
  }
  template <typename T>
  void operator()(const char* name, T*& pointer) const {
    if (!request.contains(name)) return;
    void* at = arrays.at(request[name].get<std::string>()).data();
    pointer = static_cast<T*>(at);
  }
  template <typename T>
  void operator()(const char* name, T& value) const {
    if (request.contains(name)) request[name].get_to(value);
  }
};

template <std::size_t I = 0>
Call make_call(std::size_t index) {
  if (index == I) return Call(std::in_place_index<I>);
  if constexpr (I + 1 < std::variant_size_v<Call>) {
    return make_call<I + 1>(index);
  }
  std::cerr << "kernels_probe: there is no call " << index << "\n";
  std::exit(1);
}

void answer(const nlohmann::json& request) {
  Arrays arrays;
  for (const auto& array : request.at("arrays")) {
    auto& bytes = arrays[array.at("name").get<std::string>()];
    bytes.resize(array.at("bytes").get<std::size_t>());
    std::cin.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  Call call = make_call(request.at("call").get<std::size_t>());
  std::visit(
      [&](auto& c) {
        testing::fields(c, Reader{request.at("fields"), arrays});
      },
      call);
  const auto result = cpu::run(call);
  std::cout << (result ? "" : result.error().message) << "\n";
  for (const auto& array : request.at("arrays")) {
    const auto& bytes = arrays.at(array.at("name").get<std::string>());
    std::cout.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  std::cout.flush();
}

}  // namespace
}  // namespace troupe::kernels

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    try {
      troupe::kernels::answer(nlohmann::json::parse(line));
    } catch (const std::exception& e) {
      std::cerr << "kernels_probe: " << e.what() << "\n";
      return 1;
    }
  }
  return 0;
}
