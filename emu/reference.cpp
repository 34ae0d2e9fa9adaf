#include "emu/reference.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "emu/checkpoint.h"
#include "emu/cpu_device.h"
#include "emu/hub.h"
#include "exec/weight_layout.h"

namespace troupe::emu {
namespace {

using kernels::DType;

/// The part of a name that layers share.
std::string group_of(const std::string& name) {
  if (!name.starts_with("layers.")) return name;
  return name.substr(name.find('.', 7) + 1);
}

double largest_of(const std::vector<double>& values) {
  double most = 0;
  for (const double v : values) most = std::max(most, std::abs(v));
  return most;
}

/// Largest difference between a packed box and the same box of a tensor,
/// divided by the scale of each element.
template <typename Scale>
double difference(const exec::Box& box, const std::vector<double>& part,
                  const std::vector<std::int64_t>& shape,
                  const std::vector<double>& whole, Scale scale) {
  double most = 0;
  std::size_t next = 0;
  exec::each_element(box, shape, [&](std::int64_t index) {
    const auto i = static_cast<std::size_t>(index);
    const double off = std::abs(part[next++] - whole[i]) / scale(i);
    if (!(off <= most)) most = off;  // also a NaN
  });
  return most;
}

double rounding_of(DType dtype) {
  if (dtype == DType::fp64) return 0x1p-53;
  return dtype == DType::fp32 ? 0x1p-24 : 0x1p-9;
}

/// Whether a gradient is nothing but rounding errors of larger numbers.
bool is_noise(const std::vector<double>& gradient, const Snapshot& s) {
  return largest_of(gradient) < 64 * s.rounding * s.gradient_norm;
}

/// What deviations of a gradient are relative to.
double gradient_scale(const std::vector<double>& gradient, const Snapshot& s) {
  const double scale =
      is_noise(gradient, s) ? s.gradient_norm : largest_of(gradient);
  return scale > 0 ? scale : 1;
}

/// Adds this step to what deviations of parameters are relative to.
void find_scales(Snapshot& s, const Snapshot* before, double rate) {
  for (const auto& [name, gradient] : s.gradients) {
    const double largest = gradient_scale(gradient, s);
    const double size = largest_of(s.parameters.at(name));
    const double size_before =
        before == nullptr ? 0 : largest_of(before->parameters.at(name));
    std::vector<double>& out = s.scales[name];
    out.reserve(gradient.size());
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const double moved =
          before == nullptr ? 0 : before->scales.at(name)[i] - size_before;
      const double least = std::max(std::abs(gradient[i]), 1e-300);
      out.push_back(size + moved + rate * std::min(largest / least, 1e300));
    }
  }
}

Result<Snapshot> snapshot_of(exec::Interpreter& rank, exec::Device& device,
                             DType dtype, const exec::StepResult& result) {
  Snapshot s;
  s.loss = result.loss;
  s.gradient_norm = result.gradient_norm;
  s.rounding = rounding_of(dtype);
  for (const exec::HeldWeight& held : rank.weights().held()) {
    const std::string& name = held.weight->placement.parameter.name;
    // One device holds each tensor in one piece.
    const exec::Box& box = held.sum.storage.pieces.at(0).box;
    TRY(s.gradients[name], numbers(device, held.sum.storage, box));
    TRY(s.parameters[name], numbers(device, held.master.storage, box));
  }
  return s;
}

}  // namespace

data::Batch one_by_one(std::span<const data::Batch> batches) {
  data::Batch out;
  auto& all = out.pipelines.emplace_back();
  for (const data::Batch& batch : batches) {
    out.labels += batch.labels;
    for (const auto& pipeline : batch.pipelines) {
      for (const data::MicroBatch& micro_batch : pipeline) {
        for (const data::Sequence& s : micro_batch) all.push_back({s});
      }
    }
  }
  return out;
}

std::vector<std::int32_t> lengths_of(const data::Batch& one_by_one) {
  std::vector<std::int32_t> out;
  for (const data::MicroBatch& m : one_by_one.pipelines[0]) {
    out.push_back(static_cast<std::int32_t>(m[0].tokens.size()));
  }
  return out;
}

namespace {

/// A rank alone, whose program may change from step to step: its state is
/// what the snapshots say.
struct Alone {
  exec::Program program;
  CpuDevice device;
  std::unique_ptr<exec::Interpreter> rank;
};

}  // namespace

Result<std::vector<Snapshot>> run_alone(
    const ProgramFor& program_for,
    const std::vector<std::vector<data::Batch>>& batches,
    const exec::Training& training, const exec::Values& start,
    std::int64_t first_step) {
  std::vector<Snapshot> out;
  Hub hub(1, {.threads = 1});
  const auto work = [&](exec::Communicator& communicator) -> Result<void> {
    std::unique_ptr<Alone> alone;
    std::vector<std::int32_t> lengths;
    for (std::size_t i = 0; i < batches.size(); ++i) {
      const data::Batch all = one_by_one(batches[i]);
      if (!alone || lengths_of(all) != lengths) {
        lengths = lengths_of(all);
        auto next = std::make_unique<Alone>();
        TRY(next->program, program_for(lengths));
        next->rank = std::make_unique<exec::Interpreter>(
            next->program, exec::RankId{0}, next->device, communicator);
        if (!alone) {
          TRY_DO(next->rank->initialise(start));
        } else {
          Checkpoint held;
          TRY_DO(collect(alone->rank->weights(), alone->device, held));
          TRY_DO(next->rank->initialise(values_of(held)));
        }
        alone = std::move(next);
      }
      TRY(const exec::StepResult result,
          alone->rank->step(all, training,
                            first_step + static_cast<std::int64_t>(i) + 1));
      TRY(Snapshot s, snapshot_of(*alone->rank, alone->device,
                                  alone->program.dtype, result));
      find_scales(s, out.empty() ? nullptr : &out.back(), training.rate);
      out.push_back(std::move(s));
    }
    return {};
  };
  TRY_DO(hub.run(work));
  return out;
}

void Deviation::merge(const Deviation& other) {
  const auto more = [](double& a, double b) {
    if (!(b <= a)) a = b;  // also a NaN
  };
  more(gradients, other.gradients);
  more(parameters, other.parameters);
  more(loss, other.loss);
  for (const auto& [group, value] : other.by_group) {
    more(by_group[group], value);
  }
  undetermined.insert(other.undetermined.begin(), other.undetermined.end());
}

double Deviation::largest() const {
  double most = gradients;
  for (const double d : {parameters, loss}) {
    if (!(d <= most)) most = d;
  }
  return most;
}

Result<Deviation> compare(const exec::Weights& weights, exec::Device& device,
                          const Snapshot& truth, bool copies) {
  Deviation out;
  for (const exec::HeldWeight& held : weights.held()) {
    const models::Parameter& p = held.weight->placement.parameter;
    double& group = out.by_group[group_of(p.name)];
    const auto look = [&](const exec::Storage& storage,
                          const std::vector<double>& whole, auto scale,
                          double& into) -> Result<void> {
      for (const exec::Piece& piece : storage.pieces) {
        TRY(const std::vector<double> part,
            numbers(device, storage, piece.box));
        const double off = difference(piece.box, part, p.shape, whole, scale);
        if (!(off <= into)) into = off;
        if (!(off <= group)) group = off;
      }
      return {};
    };
    const std::vector<double>& gradient = truth.gradients.at(p.name);
    if (is_noise(gradient, truth)) out.undetermined.insert(group_of(p.name));
    const double largest = gradient_scale(gradient, truth);
    TRY_DO(look(
        held.sum.storage, gradient, [&](std::size_t) { return largest; },
        out.gradients));
    const std::vector<double>& after = truth.parameters.at(p.name);
    const std::vector<double>& scales = truth.scales.at(p.name);
    const auto scale = [&](std::size_t i) { return scales[i]; };
    TRY_DO(look(held.master.storage, after, scale, out.parameters));
    const exec::Storage& resident =
        held.weight->gathered ? held.copy.storage : held.compute;
    if (copies) TRY_DO(look(resident, after, scale, out.parameters));
  }
  return out;
}

}  // namespace troupe::emu
