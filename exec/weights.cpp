#include "exec/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>
#include <thread>

#include "data/mixed.h"
#include "exec/weight_layout.h"

namespace troupe::exec {
namespace {

using data::mixed;
using kernels::DType;
using schedule::Role;

/// FNV-1a.
std::uint64_t hash_of(std::string_view name) {
  std::uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : name) {
    h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  return h;
}

/// In (0, 1).
double uniform(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
}

int owner_layer(int layer, std::string_view name) {
  return name.starts_with("embedding.") ? models::kEmbedding : layer;
}

bool decays(const models::Parameter& p) {
  return p.role == models::ParameterRole::matrix ||
         p.role == models::ParameterRole::table;
}

}  // namespace

double initial_value(const models::Parameter& parameter, std::int64_t index,
                     std::uint64_t seed) {
  switch (parameter.role) {
    case models::ParameterRole::scale:
      return 1;
    case models::ParameterRole::bias:
      return 0;
    case models::ParameterRole::matrix:
    case models::ParameterRole::table:
      break;
  }
  const std::uint64_t base = mixed(seed ^ hash_of(parameter.name));
  const auto i = static_cast<std::uint64_t>(index);
  const double u = uniform(mixed(base + 2 * i));
  const double w = uniform(mixed(base + 2 * i + 1));
  // Box and Muller, Annals of Mathematical Statistics 29(2), 1958.
  const double normal =
      std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * w);
  const auto columns = static_cast<double>(parameter.shape.back());
  return normal * 0.5 / std::sqrt(columns);
}

std::byte* Weights::parameter(int layer, const std::string& name) const {
  const auto it = parameters_.find({owner_layer(layer, name), name});
  return it == parameters_.end() ? nullptr : it->second.at({});
}

std::byte* Weights::gradient(int layer, const std::string& name) const {
  const auto it = gradients_.find({owner_layer(layer, name), name});
  return it == gradients_.end() ? nullptr : it->second.at({});
}

HeldWeight& Weights::held_of(const std::string& name) {
  const auto [it, fresh] = held_index_.try_emplace(name, held_.size());
  if (fresh) {
    const std::size_t i = index_.at(name);
    HeldWeight& h = held_.emplace_back();
    h.weight = &program_.weights[i];
    h.share = &h.weight->shares->at(device_id());
    h.tag = (static_cast<Tag>(i) + 1) << 40;
  }
  return held_[it->second];
}

Result<std::vector<Weights::TensorPart>> Weights::lay_out(
    const schedule::Tensor& tensor, int layer, std::byte* at) {
  std::vector<TensorPart> out;
  const std::byte* const first = at;
  const schedule::Rank& rank = program_.schedule.rank(rank_);
  const auto tp = static_cast<std::int64_t>(
      program_.schedule.stage(rank.stage)
          .members[static_cast<std::size_t>(rank.member)]
          .size());
  const std::vector<std::string> names = parts_of(tensor.name);
  // Entering one moves the others.
  for (const std::string& part : names) held_of(parameter_name(layer, part));
  for (const std::string& part : names) {
    HeldWeight& held = held_of(parameter_name(layer, part));
    const models::Parameter& p = held.weight->placement.parameter;
    const std::vector<std::int64_t> local = local_shape(p, tp);
    Storage storage{tensor.dtype, {}};
    Box whole;
    for (const std::int64_t n : local) whole.push_back({0, n});
    for (const Box& box : held.share->compute) {
      storage.pieces.push_back({box, at, packed_strides(whole)});
    }
    at += size_of(whole, tensor.dtype).v;
    out.push_back({&held, std::move(storage)});
  }
  const Bytes size = schedule::size_of(tensor);
  if (at - first != size.v) {
    return fail(Fault::input,
                fmt::format("block tensor '{}' of layer {} has {} bytes; its "
                            "parameters have {}",
                            tensor.name, layer, size.v, at - first));
  }
  return out;
}

Result<void> Weights::make_tensor(const schedule::Tensor& tensor, int layer) {
  if (tensor.role == Role::gathered || tensor.role == Role::scattered) {
    for (const std::string& part : parts_of(tensor.name)) {
      held_of(parameter_name(layer, part));
    }
    return {};
  }
  const bool is_gradient = tensor.role == Role::gradient;
  auto& buffers = is_gradient ? gradients_ : parameters_;
  const Key key{owner_layer(layer, tensor.name), tensor.name};
  if (buffers.contains(key)) return {};
  TRY(Buffer buffer, Buffer::of(device_, schedule::size_of(tensor)));
  TRY(std::vector<TensorPart> parts, lay_out(tensor, layer, buffer.at({})));
  for (TensorPart& part : parts) {
    Storage& storage = is_gradient ? part.held->gradient : part.held->compute;
    storage.dtype = tensor.dtype;
    std::ranges::move(part.storage.pieces, std::back_inserter(storage.pieces));
  }
  buffers.emplace(key, std::move(buffer));
  return {};
}

const Storage& HeldWeight::state(State which) const {
  switch (which) {
    case State::master:
      return master.storage;
    case State::m:
      return m.storage;
    case State::v:
      return v.storage;
  }
  return master.storage;
}

Values initial_values(std::uint64_t seed) {
  return [seed](const models::Parameter& p, State state, std::int64_t index) {
    return state == State::master ? initial_value(p, index, seed) : 0.0;
  };
}

HeldWeight* Weights::find(std::size_t index) {
  const Tag tag = (static_cast<Tag>(index) + 1) << 40;
  const auto it = std::ranges::lower_bound(held_, tag, {}, &HeldWeight::tag);
  return it == held_.end() || it->tag != tag ? nullptr : &*it;
}

Result<void> Weights::initialise(const Values& values) {
  for (std::size_t i = 0; i < program_.weights.size(); ++i) {
    index_[program_.weights[i].placement.parameter.name] = i;
  }
  const schedule::Schedule& s = program_.schedule;
  const schedule::Rank& rank = s.rank(rank_);
  std::set<std::int32_t> bodies;
  for (const schedule::TaskId id : s.stage(rank.stage).order) {
    const schedule::Task& task = s.tasks[id.at()];
    if (task.kind == schedule::TaskKind::optimizer) continue;
    if (!bodies.insert(task.what).second) continue;
    for (const schedule::BlockRun& run :
         s.bodies[static_cast<std::size_t>(task.what)].of(
             static_cast<std::size_t>(rank.member))) {
      for (const schedule::Tensor& t : s.block(run.block).tensors) {
        if (!is_weight(t.role) && !is_gradient(t.role)) continue;
        for (int c = 0; c < run.count; ++c) {
          TRY_DO(make_tensor(t, run.first_layer + c));
        }
      }
    }
  }
  // Plans run in the same order on every rank.
  std::ranges::sort(held_, {}, &HeldWeight::tag);
  held_index_.clear();
  for (std::size_t i = 0; i < held_.size(); ++i) {
    held_index_[held_[i].weight->placement.parameter.name] = i;
  }
  expect_arrivals();
  TRY_DO(make_states());
  for (const HeldWeight& held : held_) TRY_DO(fill(held, values));
  return {};
}

Result<void> Weights::make_states() {
  const DType wide = kernels::statistics_type(program_.dtype);
  for (HeldWeight& held : held_) {
    const std::vector<Box>& mine = held.share->optimizer;
    for (OwnedStorage* state : {&held.master, &held.m, &held.v, &held.sum}) {
      TRY(*state, OwnedStorage::of(device_, mine, wide));
    }
    TRY(held.copy, OwnedStorage::of(device_, mine, program_.dtype));
  }
  return {};
}

namespace {

/// Boxes under so many elements are not worth a thread.
constexpr std::int64_t kWorthAThread = 1 << 20;
constexpr std::int64_t kMostThreads = 64;

/// Values of all elements of a box, row-major; slices of its first dimension
/// by several threads where it is large.
std::vector<double> numbers_of(const models::Parameter& parameter, State state,
                               const Box& box, const Values& values) {
  std::vector<double> out(static_cast<std::size_t>(strategy::elements(box)));
  const auto fill = [&](const Box& slice, std::size_t at) {
    each_element(slice, parameter.shape, [&](std::int64_t index) {
      out[at++] = values(parameter, state, index);
    });
  };
  const std::int64_t rows = box.empty() ? 1 : box[0].last - box[0].first;
  const std::int64_t threads =
      std::min({rows, std::ssize(out) / kWorthAThread, kMostThreads,
                std::int64_t{std::thread::hardware_concurrency()}});
  if (threads < 2) {
    fill(box, 0);
    return out;
  }
  std::vector<std::jthread> crew;
  for (std::int64_t t = 0; t < threads; ++t) {
    Box slice = box;
    slice[0].first = box[0].first + rows * t / threads;
    slice[0].last = box[0].first + rows * (t + 1) / threads;
    const std::int64_t before = std::ssize(out) / rows * (rows * t / threads);
    crew.emplace_back(fill, slice, static_cast<std::size_t>(before));
  }
  crew.clear();  // waits
  return out;
}

Result<void> fill_box(Device& device, const models::Parameter& parameter,
                      State state, const Box& box, const Values& values,
                      const Storage& to) {
  // Also of the type that states are in: it is its own.
  const DType wide = kernels::statistics_type(to.dtype);
  const std::vector<double> numbers = numbers_of(parameter, state, box, values);
  const auto bytes = std::as_bytes(std::span(numbers));
  TRY(Buffer raw, Buffer::of(device, Bytes{std::ssize(bytes)}));
  TRY_DO(device.copy_in(raw.data(), bytes));
  const auto cast = [&](DType from, DType into,
                        const Buffer& in) -> Result<Buffer> {
    TRY(Buffer out, Buffer::of(device, size_of(box, into)));
    kernels::Cast call{
        .from = from, .to = into, .elements = strategy::elements(box)};
    call.in = in.data();
    call.out = out.data();
    TRY_DO(device.run(call));
    return out;
  };
  TRY(Buffer rounded, cast(DType::fp64, wide, raw));
  if (to.dtype != wide) {
    TRY(rounded, cast(wide, to.dtype, rounded));
  }
  return write(device, to, box, rounded.at({}), false);
}

}  // namespace

Result<void> fill_storage(Device& device, const models::Parameter& parameter,
                          State state, const Values& values,
                          const Storage& to) {
  for (const Piece& piece : to.pieces) {
    TRY_DO(fill_box(device, parameter, state, piece.box, values, to));
  }
  return {};
}

Result<void> Weights::fill(const HeldWeight& held, const Values& values) {
  const models::Parameter& p = held.weight->placement.parameter;
  for (const State state : kStates) {
    TRY_DO(fill_storage(device_, p, state, values, held.state(state)));
  }
  return fill_storage(device_, p, State::master, values,
                      held.weight->gathered ? held.copy.storage : held.compute);
}

Result<void> Weights::reduce(Communicator& communicator) {
  Time unused;
  for (HeldWeight& held : held_) {
    if (held.weight->scattered) {
      TRY_DO(take_rest(held, communicator));
      continue;
    }
    TRY_DO(device_.zero(held.sum.buffer.data(), held.sum.buffer.size()));
    const Change change{held.weight->reduce.get(), held.tag, &held.gradient,
                        &held.sum.storage};
    TRY_DO(transform(change, device_id(), program_.rank_of, device_,
                     communicator, unused));
  }
  for (const auto& [key, buffer] : gradients_) {
    TRY_DO(device_.zero(buffer.data(), buffer.size()));
  }
  return {};
}

Result<double> Weights::square_sum() {
  TRY(Buffer sum, Buffer::of(device_, Bytes{8}));
  for (const HeldWeight& held : held_) {
    for (std::size_t i = 0; i < held.share->counted.size(); ++i) {
      if (!held.share->counted[i]) continue;
      const Piece& piece = held.sum.storage.pieces[i];
      kernels::SquareSum call{.dtype = held.sum.storage.dtype,
                              .elements = strategy::elements(piece.box)};
      call.data = piece.data;
      call.sum = sum.data();
      TRY(const Buffer scratch, Buffer::of(device_, kernels::workspace(call)));
      call.workspace = scratch.data();
      TRY_DO(device_.run(call));
    }
  }
  double out = 0;
  TRY_DO(
      device_.copy_out(std::as_writable_bytes(std::span(&out, 1)), sum.data()));
  return out;
}

Result<void> Weights::update(const Training& training, double factor,
                             std::int64_t step) {
  for (HeldWeight& held : held_) {
    kernels::AdamW call{.dtype = program_.dtype};
    call.elements = elements(held.sum.storage);
    if (call.elements == 0) continue;
    call.rate = training.rate;
    call.beta1 = training.beta1;
    call.beta2 = training.beta2;
    call.epsilon = training.epsilon;
    call.decay = decays(held.weight->placement.parameter) ? training.decay : 0;
    call.step = step;
    call.gradient_scale = factor;
    call.gradient = held.sum.buffer.data();
    call.master = held.master.buffer.data();
    call.m = held.m.buffer.data();
    call.v = held.v.buffer.data();
    call.copy = held.copy.buffer.data();
    TRY_DO(device_.run(call));
  }
  return {};
}

Result<void> Weights::gather(Communicator& communicator) {
  Time unused;
  for (HeldWeight& held : held_) {
    if (held.weight->gathered) continue;
    const Change change{held.weight->gather.get(), held.tag | (Tag{1} << 39),
                        &held.copy.storage, &held.compute};
    TRY_DO(transform(change, device_id(), program_.rank_of, device_,
                     communicator, unused));
  }
  return {};
}

Result<void> Weights::clear_sums() {
  for (HeldWeight& held : held_) {
    TRY_DO(device_.zero(held.sum.buffer.data(), held.sum.buffer.size()));
  }
  return {};
}

Result<void> Weights::round_masters() {
  for (HeldWeight& held : held_) {
    kernels::Cast call{.from = held.master.storage.dtype,
                       .to = held.copy.storage.dtype};
    call.elements = elements(held.master.storage);
    if (call.elements == 0) continue;
    call.in = held.master.buffer.data();
    call.out = held.copy.buffer.data();
    TRY_DO(device_.run(call));
  }
  return {};
}

Result<void> Weights::publish(Communicator& communicator) {
  TRY_DO(round_masters());
  return gather(communicator);
}

}  // namespace troupe::exec
