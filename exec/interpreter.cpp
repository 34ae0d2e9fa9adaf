#include "exec/interpreter.h"

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "exec/runner.h"
#include "schedule/lower.h"

namespace troupe::exec {

using schedule::StageId;
using schedule::Task;
using schedule::TaskKind;

namespace {

/// Tags of hand-overs have the top bit set; plans do not.
Tag tag_of(schedule::TaskId transfer, std::size_t message) {
  return (Tag{1} << 63) | (static_cast<Tag>(transfer.at()) << 20) |
         static_cast<Tag>(message);
}

}  // namespace

Interpreter::Interpreter(const Program& program, RankId rank, Device& device,
                         Communicator& communicator, const Prices* prices)
    : runner_(std::make_unique<Runner>(program, rank, device, communicator,
                                       prices)) {}
Interpreter::~Interpreter() = default;

Result<void> Interpreter::initialise(const Values& values) {
  return runner_->weights.initialise(values);
}

Result<double> Interpreter::accumulate(const data::Batch& batch,
                                       std::int64_t labels) {
  return runner_->accumulate(batch, labels);
}

Result<StepResult> Interpreter::update(const Training& training,
                                       std::int64_t step, double loss_sum,
                                       bool gathers) {
  return runner_->update(training, step, loss_sum, gathers);
}

void Interpreter::begin_step() { runner_->begin_step(); }

void Interpreter::take_part(StepClock& clock, std::size_t part) {
  runner_->step_clock = &clock;
  runner_->step_part = part;
}

Result<StepResult> Interpreter::step(const data::Batch& batch,
                                     const Training& training,
                                     std::int64_t step) {
  begin_step();
  TRY(const double loss, accumulate(batch, batch.labels));
  return update(training, step, loss);
}

Weights& Interpreter::weights() { return runner_->weights; }
void Interpreter::keep_operators(bool keep) { runner_->keeps_operators = keep; }
const std::vector<Performed>& Interpreter::operators() const {
  return runner_->operators;
}
const std::map<schedule::TaskId, std::pair<Time, Time>>& Interpreter::tasks()
    const {
  return runner_->spans;
}

Interpreter::Runner::Runner(const Program& program, RankId rank, Device& device,
                            Communicator& communicator, const Prices* prices)
    : weights(program, rank, device),
      program_(program),
      schedule_(program.schedule),
      self_(rank),
      rank_(program.schedule.rank(rank)),
      stage_(program.schedule.stage(rank_.stage)),
      device_(device),
      communicator_(communicator),
      prices_(prices),
      wide_(kernels::statistics_type(program.dtype)),
      member_(static_cast<std::size_t>(rank_.member)),
      tp_index_(static_cast<std::size_t>(rank_.tp_index)) {
  tensor_group_ = stage_.members[member_];
  tp_ = std::ssize(tensor_group_);
  for (const auto& member : stage_.members) {
    context_group_.push_back(member[tp_index_]);
    stage_group_.insert(stage_group_.end(), member.begin(), member.end());
  }
}

Result<const Rows*> Interpreter::Runner::rows_of(std::int32_t micro_batch,
                                                 const data::Batch& batch) {
  const auto it = rows_.find(micro_batch);
  if (it != rows_.end()) return &it->second;
  const auto pipeline = static_cast<std::size_t>(stage_.pipeline);
  const auto m = static_cast<std::size_t>(micro_batch);
  TRY(Rows rows,
      make_rows(stage_, member_, tp_index_, schedule_.sequence_parallel,
                schedule_.micro_batches[pipeline].seq_len[m],
                batch.pipelines[pipeline][m], device_));
  return &rows_.emplace(micro_batch, std::move(rows)).first->second;
}

void Interpreter::Runner::note(TaskId id, Time start, Time end) {
  spans[id] = {start, end};
  if (step_clock != nullptr) step_clock->note(step_part, id, start, end);
}

Time Interpreter::Runner::known_end(TaskId id) const {
  Time end;
  if (step_clock != nullptr) end = step_clock->known_end(step_part, id);
  for (const TaskId before :
       schedule_.dependencies_of(schedule_.tasks[id.at()])) {
    const auto it = spans.find(before);
    if (it != spans.end()) end = std::max(end, it->second.second);
  }
  return end;
}

Result<Buffer> Interpreter::Runner::receive(const Task& transfer, TaskId id,
                                            const Rows& rows, Time& ready) {
  const Bytes row =
      Bytes{size_of_type()} * std::int64_t{schedule_.numerics.hidden};
  TRY(Buffer input, Buffer::of(device_, row * rows.shard));
  const auto& messages =
      schedule_.transfers[static_cast<std::size_t>(transfer.what)].messages;
  Time end;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const schedule::Message& m = messages[i];
    if (m.to != self_) continue;
    TRY(Buffer packed, Buffer::of(device_, m.bytes));
    Time arrived;
    TRY_DO(communicator_.receive(
        m.from, tag_of(id, i),
        {packed.at({}), static_cast<std::size_t>(packed.size().v)}, arrived));
    end = std::max(end, arrived);
    std::int64_t at = 0;
    for (std::size_t k = 0; k < m.rows.size(); k += 3) {
      TRY_DO(device_.copy(input.at(row * std::int64_t{m.rows[k + 1]}),
                          packed.at(row * at),
                          row * std::int64_t{m.rows[k + 2]}));
      at += m.rows[k + 2];
    }
  }
  if (prices_ != nullptr) {
    note(id, end - prices_->transfers[static_cast<std::size_t>(transfer.what)],
         end);
    ready = std::max(ready, end);
  }
  return input;
}

Result<Buffer> Interpreter::Runner::receive_shared(const Task& sharing,
                                                   TaskId id, const Rows& rows,
                                                   Time& ready) {
  const TaskId first = schedule_.dependencies_of(sharing).front();
  TRY(Buffer input, receive(schedule_.tasks[first.at()], first, rows, ready));
  const auto what = static_cast<std::size_t>(sharing.what);
  const schedule::Transfer& transfer = schedule_.transfers[what];
  if (tp_ > 1) {
    const bool casts = transfer.collective == clusters::Collective::broadcast;
    const Bytes row =
        Bytes{size_of_type()} * std::int64_t{schedule_.numerics.hidden};
    std::vector<Bytes> sizes;
    for (std::int64_t i = 0; i < tp_; ++i) {
      const std::int64_t part = schedule::row_shard(rows.shard, i, tp_).count();
      sizes.push_back(row * (casts ? (i == 0 ? rows.shard : 0) : part));
    }
    TRY(Buffer mine, Buffer::of(device_, sizes[tp_index_]));
    const std::int64_t begin =
        casts ? 0
              : schedule::row_shard(rows.shard,
                                    static_cast<std::int64_t>(tp_index_), tp_)
                    .first;
    TRY_DO(device_.copy(mine.at({}), input.at(row * begin), mine.size()));
    TRY_DO(communicator_.all_gather(
        tensor_group_, {mine.at({}), static_cast<std::size_t>(mine.size().v)},
        sizes, {input.at({}), static_cast<std::size_t>(input.size().v)},
        ready));
  }
  if (prices_ != nullptr) {
    // Ranks to which no message came learn of its time from the others.
    Time start = spans[first].second;
    TRY_DO(communicator_.meet(stage_group_, start));
    const auto sent =
        static_cast<std::size_t>(schedule_.tasks[first.at()].what);
    note(first, start - prices_->transfers[sent], start);
    note(id, start, start + prices_->transfers[what]);
    ready = std::max(ready, spans[id].second);
  }
  return input;
}

Result<Buffer> Interpreter::Runner::input_of(TaskId id, Time& ready) {
  const Task& task = schedule_.tasks[id.at()];
  ready = std::max(now_, known_end(id));
  if (step_clock != nullptr && step_clock->waits_outside(step_part, id)) {
    TRY_DO(communicator_.meet(stage_group_, ready));
  }
  if (task.part > 0) return std::move(part_output_);
  Buffer input;
  for (const TaskId before : schedule_.dependencies_of(task)) {
    const Task& b = schedule_.tasks[before.at()];
    if (b.kind == TaskKind::transfer) {
      const auto& t = schedule_.transfers[static_cast<std::size_t>(b.what)];
      if (t.to != rank_.stage) continue;
      const Rows& rows = rows_.at(task.micro_batch);
      TRY(input, t.shares() ? receive_shared(b, before, rows, ready)
                            : receive(b, before, rows, ready));
    } else if (b.stage == rank_.stage) {
      const auto it = outputs_.find(before);
      if (it == outputs_.end()) continue;
      input = std::move(it->second);
      outputs_.erase(it);
    }
  }
  return input;
}

Result<void> Interpreter::Runner::send(TaskId id, const Buffer& output) {
  const Bytes row =
      Bytes{size_of_type()} * std::int64_t{schedule_.numerics.hidden};
  for (const TaskId next : program_.sends[id.at()]) {
    const Task& task = schedule_.tasks[next.at()];
    Time end;
    if (prices_ != nullptr) {
      const Time start = known_end(next);
      end = start + prices_->transfers[static_cast<std::size_t>(task.what)];
      note(next, start, end);
    }
    const auto& messages =
        schedule_.transfers[static_cast<std::size_t>(task.what)].messages;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      const schedule::Message& m = messages[i];
      if (m.from != self_) continue;
      TRY(Buffer packed, Buffer::of(device_, m.bytes));
      std::int64_t at = 0;
      for (std::size_t k = 0; k < m.rows.size(); k += 3) {
        TRY_DO(device_.copy(packed.at(row * at),
                            output.at(row * std::int64_t{m.rows[k]}),
                            row * std::int64_t{m.rows[k + 2]}));
        at += m.rows[k + 2];
      }
      TRY_DO(communicator_.send(
          m.to, tag_of(next, i),
          {packed.at({}), static_cast<std::size_t>(packed.size().v)}, end));
    }
  }
  return {};
}

Result<void> Interpreter::Runner::run_task(TaskId id,
                                           const data::Batch& batch) {
  if (interrupted()) return fail(Fault::interrupted, "interrupted");
  const Task& task = schedule_.tasks[id.at()];
  TRY(const Rows* const rows, rows_of(task.micro_batch, batch));
  Time ready;
  TRY(Buffer input, input_of(id, ready));
  base_ = ready;
  clock_ = TaskClock{};
  std::vector<Layer> layers = layers_of(id);
  TRY(Buffer output, run_layers(id, layers, std::move(input), *rows));
  if (prices_ != nullptr) {
    Time end = base_ + std::max(clock_.last(), prices_->host(id, member_));
    TRY_DO(communicator_.meet(stage_group_, end));
    note(id, base_, end);
    now_ = end;
    TRY_DO(pace(end));
  }
  TRY_DO(send(id, output));
  if (task.part + 1 < task.parts) {
    part_output_ = std::move(output);
  } else if (program_.kept[id.at()]) {
    outputs_[id] = std::move(output);
  }
  return {};
}

/// Of syncs those of gradients, or their norm.
Result<void> Interpreter::Runner::pass_time(TaskKind kind, bool norm) {
  if (prices_ == nullptr) return {};
  for (const TaskId id : program_.step_end) {
    const Task& task = schedule_.tasks[id.at()];
    if (task.kind != kind) continue;
    if (step_clock != nullptr && !step_clock->has(step_part, id)) continue;
    if (kind == TaskKind::optimizer) {
      if (task.stage != rank_.stage) continue;
      base_ = std::max(now_, known_end(id));
      clock_ = TaskClock{};
      for (const Layer& layer : layers_of(id)) {
        clock_.begin_block(layer.block->operators.size());
        for (std::size_t o = 0; o < layer.block->operators.size(); ++o) {
          pass_operator(layer, o, id, clock_.ready(layer.block->operators[o]));
        }
      }
      Time end = base_ + std::max(clock_.last(), prices_->host(id, member_));
      TRY_DO(communicator_.meet(stage_group_, end));
      note(id, base_, end);
      now_ = end;
      TRY_DO(pace(end));
      continue;
    }
    const auto& sync = schedule_.syncs[static_cast<std::size_t>(task.what)];
    if ((sync.name == schedule::kGradientNorm) != norm ||
        std::ranges::find(sync.stages, rank_.stage) == sync.stages.end()) {
      continue;
    }
    std::vector<RankId> group;
    for (const StageId s : sync.stages) {
      for (const auto& member : schedule_.stage(s).members) {
        group.insert(group.end(), member.begin(), member.end());
      }
    }
    Time start = known_end(id);
    TRY_DO(communicator_.meet(group, start));
    const Time end =
        start + prices_->syncs[static_cast<std::size_t>(task.what)];
    note(id, start, end);
    if (kind == TaskKind::parameter_gather) TRY_DO(pace(end));
  }
  return {};
}

namespace {

/// What other ranks may read of this one while it lives.
class Shelf {
 public:
  Shelf(const Weights& weights, Communicator& communicator)
      : communicator_(communicator) {
    for (const auto& [name, memory] : weights.shelf()) {
      communicator.expose(name, memory);
      names_.push_back(name);
    }
  }
  ~Shelf() {
    for (const Tag name : names_) communicator_.withdraw(name);
  }
  Shelf(const Shelf&) = delete;
  Shelf& operator=(const Shelf&) = delete;

 private:
  Communicator& communicator_;
  std::vector<Tag> names_;
};

}  // namespace

void Interpreter::Runner::begin_step() {
  spans.clear();
  operators.clear();
  now_ = {};
}

Result<double> Interpreter::Runner::accumulate(const data::Batch& batch,
                                               std::int64_t labels) {
  loss_sum_ = 0;
  loss_scale_ = labels > 0 ? 1.0 / static_cast<double>(labels) : 0;
  TRY_DO(weights.begin_sharing());
  const Shelf shelf(weights, communicator_);
  TRY_DO(meet_replicas());
  for (const TaskId id : stage_.order) {
    if (schedule_.tasks[id.at()].kind == TaskKind::optimizer) continue;
    TRY_DO(run_task(id, batch));
  }
  rows_.clear();
  saved_.clear();
  outputs_.clear();
  TRY_DO(weights.reduce(communicator_));
  TRY_DO(meet_replicas());
  TRY_DO(pass_time(TaskKind::gradient_sync));
  return loss_sum_;
}

Result<StepResult> Interpreter::Runner::update(const Training& training,
                                               std::int64_t step,
                                               double loss_sum, bool gathers) {
  StepResult result;
  TRY_DO(pass_time(TaskKind::gradient_sync, true));
  TRY(const double squares, weights.square_sum());
  std::array<double, 2> sums{squares, loss_sum};
  TRY(Buffer shared, Buffer::of(device_, Bytes{16}));
  TRY_DO(device_.copy_in(shared.data(), std::as_bytes(std::span(sums))));
  Time unused;
  TRY_DO(communicator_.all_reduce(everyone(schedule_.ranks.size()),
                                  kernels::DType::fp64, {shared.at({}), 16},
                                  unused));
  TRY_DO(
      device_.copy_out(std::as_writable_bytes(std::span(sums)), shared.data()));
  result.gradient_norm = std::sqrt(sums[0]);
  result.loss = sums[1] * loss_scale_;
  const bool clips = training.clip > 0 && result.gradient_norm > training.clip;
  const double factor = clips ? training.clip / result.gradient_norm : 1;
  TRY_DO(weights.update(training, factor, step));
  TRY_DO(pass_time(TaskKind::optimizer));
  if (gathers) TRY_DO(weights.gather(communicator_));
  TRY_DO(pass_time(TaskKind::parameter_gather));
  for (const auto& [task, span] : spans) {
    result.virtual_end = std::max(result.virtual_end, span.second);
  }
  return result;
}

}  // namespace troupe::exec
