// The three tools for failure: Result for input and environment, check for
// our own bugs, and TRY to pass a Result's error up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace troupe {

/// What kind of failure an Error is; decides the exit code of a command.
enum class Fault : std::uint8_t {
  input,        ///< the user gave something wrong (exit 1)
  io,           ///< a file, database or disk did not do its part (exit 1)
  unavailable,  ///< not built in, or not on this machine (exit 1)
  infeasible,   ///< a correct question without an answer (exit 2)
  interrupted,  ///< the user stopped it (exit 130)
};

/// A failure that is not our bug: what is wrong, with value and remedy. May
/// hold several lines, one problem each.
struct Error {
  Fault fault = Fault::input;
  std::string message;
  bool operator==(const Error&) const = default;
};

template <typename T>
using Result = tl::expected<T, Error>;

inline tl::unexpected<Error> fail(Fault fault, std::string message) {
  return tl::unexpected<Error>(Error{fault, std::move(message)});
}
inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

/// Aborts with `what` when `condition` is false, in release builds too. For
/// our own bugs only: input never reaches a check.
void check(bool condition, std::string_view what);

}  // namespace troupe

#define TROUPE_CAT_(a, b) a##b
#define TROUPE_CAT(a, b) TROUPE_CAT_(a, b)
#define TROUPE_TRY_(result, declaration, ...)                    \
  auto result = (__VA_ARGS__);                                   \
  if (!result) return ::troupe::fail(std::move(result).error()); \
  declaration = *std::move(result)
/// TRY(Model model, read_model(path)); returns the error to the caller.
#define TRY(declaration, ...) \
  TROUPE_TRY_(TROUPE_CAT(try_result_, __LINE__), declaration, __VA_ARGS__)
/// TRY_DO(validate(model)); for a Result<void>.
#define TRY_DO(...)                                       \
  if (auto try_do_result = (__VA_ARGS__); !try_do_result) \
  return ::troupe::fail(std::move(try_do_result).error())
