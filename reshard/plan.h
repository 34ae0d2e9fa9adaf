// A communication plan: how a tensor gets from one layout to another, said
// so that an interpreter with real buffers can do it. Boxes are in the
// coordinates of the whole tensor; how a device stores its boxes is the
// interpreter's affair.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/units.h"
#include "kernels/operator.h"
#include "reshard/layout.h"

namespace troupe::reshard {

enum class Operation : std::uint8_t {
  identity,      ///< every device has what it needs
  slice,         ///< every device cuts what it needs from what it has
  send_receive,  ///< device k of one group sends its whole part to device k
  all_reduce,
  reduce_scatter,
  all_gather,
  all_to_all,
  split_all_reduce,      ///< one all-reduce for each micro-block, by groups
  split_reduce_scatter,  ///< that cross subgroups of unequal layout
  split_all_gather,
  batched_send_receive,  ///< any messages, posted together
  local_sum,             ///< every device adds what it was sent
};
/// "send_recv", "all_reduce", "bsr", ... as in the case files.
std::string_view name_of(Operation operation);
std::optional<Operation> parse_operation(std::string_view name);

/// How the price of a collective was reckoned, a hint to who runs it.
enum class Algorithm : std::uint8_t {
  direct,     ///< messages from everyone to everyone who needs them
  ring,       ///< rings through all members, one for each network card
  two_level,  ///< inside nodes, between nodes, inside nodes
};
std::string_view name_of(Algorithm algorithm);

/// Reads a box of one buffer and puts it in another of the same device.
struct Copy {
  DeviceId device;
  int from = kSource;
  int to = kDestination;
  Box box;
  bool add = false;  ///< onto what the buffer holds already
  bool operator==(const Copy&) const = default;
};

/// One device's box to another device.
struct Message {
  DeviceId from, to;
  int from_buffer = kSource;
  int to_buffer = kDestination;
  Box box;
  bool operator==(const Message&) const = default;
};

/// A box of a buffer of member number `member` of a group.
struct Part {
  int member = 0;
  int buffer = kSource;
  Box box;
  bool operator==(const Part&) const = default;
};

/// Devices that communicate collectively.
///
/// Model:    every element of `writes` becomes the sum, in the order of the
///           members, over the `reads` that contain it. all-reduce and
///           reduce-scatter: all members read the same boxes. all-gather and
///           all-to-all: no two reads overlap. A member that writes less than
///           the collective gives drops the rest.
struct Group {
  std::vector<DeviceId> devices;
  std::vector<Part> reads, writes;
  bool operator==(const Group&) const = default;
};

/// Copies, messages and groups that may all run at the same time.
struct Step {
  Operation operation = Operation::identity;
  /// Steps of one wave run together; they read what earlier waves wrote.
  int wave = 0;
  std::vector<int> subgroups;    ///< for which it is; empty: for all
  std::optional<int> dimension;  ///< along which a collective scatters
  Algorithm algorithm = Algorithm::direct;
  std::vector<Copy> copies;
  std::vector<Message> messages;
  std::vector<Group> groups;
  bool operator==(const Step&) const = default;
};

/// From `source` to `destination`, both of a tensor of this shape.
struct Plan {
  Annotation source, destination;
  Shape shape;
  kernels::DType dtype = kernels::DType::bf16;
  std::vector<Step> steps;  ///< in order of waves
  Time predicted;
  bool operator==(const Plan&) const = default;
};

/// The operations that do something, in order; {identity} when none does.
std::vector<Operation> operations(const Plan& plan);

/// Bytes that cross between devices in a step; a collective counts what its
/// ring moves.
std::int64_t moved_elements(const Step& step);
Bytes moved_bytes(const Plan& plan);

/// Most bytes of temporaries on one device.
Bytes peak_temporary(const Plan& plan);

/// The format of FORMAT.md, "troupe.reshard/1", with its "hash".
Json to_json(const Plan& plan);
/// Errors: input, all problems together; also a hash that does not fit.
Result<Plan> plan_from_json(const Json& json, const std::string& where);
/// Of everything but the predicted time.
std::string content_hash(const Plan& plan);

/// Wave, operation, subgroups, groups or pairs, a line for each step.
std::string to_text(const Plan& plan);

}  // namespace troupe::reshard
