// The inside of the interpreter, shared by this folder's sources only.
#pragma once

#include "exec/interpreter.h"
#include "exec/rows.h"

namespace troupe::exec {

/// A block at work: its tensors' memory and whose rows they are.
struct Frame {
  const schedule::Block* block = nullptr;
  int layer = 0;
  const Rows* rows = nullptr;
  std::vector<std::byte*> data;  ///< by tensor

  const schedule::Tensor& tensor(std::uint16_t t) const {
    return block->tensors[t];
  }
  std::int64_t extent(std::uint16_t t, std::size_t dimension) const {
    return block->tensors[t].shape[dimension];
  }
};

class Interpreter::Runner {
 public:
  Runner(const Program& program, RankId rank, Device& device,
         Communicator& communicator, const Prices* prices);

  Result<double> accumulate(const data::Batch& batch, std::int64_t labels);
  Result<StepResult> update(const Training& training, std::int64_t step,
                            double loss_sum, bool gathers);
  void begin_step();

  Weights weights;
  bool keeps_operators = false;
  std::vector<Performed> operators;
  std::map<schedule::TaskId, std::pair<Time, Time>> spans;
  StepClock* step_clock = nullptr;  ///< of a step with several parts
  std::size_t step_part = 0;        ///< of the step that runs

 private:
  using TaskId = schedule::TaskId;
  using Op = schedule::Operator;

  // interpreter.cpp: tasks
  Result<void> run_task(TaskId id, const data::Batch& batch);
  Result<Buffer> input_of(TaskId id, Time& ready);
  Result<Buffer> receive(const schedule::Task& transfer, TaskId id,
                         const Rows& rows, Time& ready);
  /// The two transfers of a hand-over whose ranks share what they get.
  Result<Buffer> receive_shared(const schedule::Task& sharing, TaskId id,
                                const Rows& rows, Time& ready);
  Result<void> send(TaskId id, const Buffer& output);
  Result<void> pass_time(schedule::TaskKind kind, bool norm = false);
  Result<const Rows*> rows_of(std::int32_t micro_batch,
                              const data::Batch& batch);
  std::vector<RankId> stage_ranks() const;
  Time known_end(TaskId id) const;
  void note(TaskId id, Time start, Time end);
  /// Where virtual time is slept, until `at`.
  Result<void> pace(Time at) {
    return step_clock == nullptr ? Result<void>() : step_clock->pace(at);
  }

  // runner_block.cpp: blocks
  struct Layer {
    schedule::BlockId id;
    const schedule::Block* block = nullptr;
    const BlockTimes* times = nullptr;
    int layer = 0;
    /// By tensor, of those that are gathered: here until they are released.
    std::vector<Buffer> gathered = {};
  };
  std::vector<Layer> layers_of(TaskId id) const;
  Result<Buffer> run_layers(TaskId id, std::vector<Layer>& layers, Buffer input,
                            const Rows& rows);
  Result<void> run_block(Layer& layer, TaskId id, const Rows& rows,
                         Buffer& carried);
  Result<std::vector<std::byte*>> memory_of(const Layer& layer, TaskId id,
                                            const Rows& rows, Buffer& input,
                                            Buffer& output,
                                            Buffer& temporaries);
  const std::vector<std::byte*>& weights_of(const Layer& layer);
  Result<void> run_operators(Layer& layer, Frame& frame, TaskId id);
  Result<void> run_operator(const Layer& layer, std::size_t o,
                            const Frame& frame, TaskId id);
  Result<void> prefetch(Layer& layer, TaskId id, Time not_before);
  Result<void> gather(Layer& layer, const Op& op);
  Result<void> give_gradients(const Frame& f, const Op& op);
  Result<void> meet_replicas();
  /// Passes an operator's time from `ready` on; returns its end.
  Time pass_operator(const Layer& layer, std::size_t o, TaskId id, Time ready);
  Time time_of(const Layer& layer, std::size_t o, TaskId id) const;
  Result<Time> meet_for(const Op& op, Time ready);

  // runner_actions.cpp: arithmetic
  Result<void> act(const Frame& f, const Op& op);
  Result<void> embed(const Frame& f, const Op& op);
  Result<void> embed_gradient(const Frame& f, const Op& op);
  Result<void> norm(const Frame& f, const Op& op);
  Result<void> norm_gradient(const Frame& f, const Op& op);
  Result<void> product(const Frame& f, const Op& op);
  Result<void> input_gradient(const Frame& f, const Op& op);
  Result<void> weight_gradient(const Frame& f, const Op& op);
  Result<void> rotary(const Frame& f, const Op& op);
  Result<void> activation(const Frame& f, const Op& op);
  Result<void> add(const Frame& f, const Op& op);
  Result<void> cross_entropy(const Frame& f, const Op& op);
  Result<void> merge_loss(const Frame& f, const std::byte* shares,
                          std::int64_t count, std::byte* loss);
  Result<void> cross_entropy_gradient(const Frame& f, const Op& op);
  /// Tokens whose rows of the table, or columns of logits, this rank has.
  strategy::Span vocabulary() const;
  /// Runs a call with the scratch memory it needs.
  Result<void> run(kernels::Call call);

  // runner_attention.cpp
  Result<void> attention(const Frame& f, const Op& op);
  Result<void> attention_gradient(const Frame& f, const Op& op);
  Result<void> round(const Frame& f, const Op& op);
  Result<void> round_gradient(const Frame& f, const Op& op);
  Result<void> home(const Frame& f, const Op& op);
  Result<void> shift(const Frame& f, const Op& op, Time& time);
  struct Heads {
    std::int64_t q = 0, kv = 0, dim = 0;
    std::int64_t q_width() const { return q * dim; }
    std::int64_t kv_width() const { return kv * dim; }
    std::int64_t width() const { return q_width() + 2 * kv_width(); }
  };
  Heads heads() const;
  struct Block2 {
    std::int64_t rows, columns, from_ld, to_ld;
  };
  Result<void> copy_block(const Block2& size, const std::byte* from,
                          std::byte* to, bool add = false);
  /// The member whose keys this rank has in a round.
  std::size_t source_member(std::size_t round) const;

  // runner_exchange.cpp: collectives inside a block
  Result<void> exchange(const Frame& f, const Op& op, Time& time);
  Result<void> gather_rows(const Frame& f, const Op& op, Time& time);
  Result<void> reduce_rows(const Frame& f, const Op& op, Time& time);
  Result<void> gather_loss(const Frame& f, const Op& op, Time& time);

  std::int64_t size_of_type() const {
    return kernels::size_of(program_.dtype).v;
  }

  const Program& program_;
  const schedule::Schedule& schedule_;
  RankId self_;
  const schedule::Rank& rank_;
  const schedule::Stage& stage_;
  Device& device_;
  Communicator& communicator_;
  const Prices* prices_;
  kernels::DType wide_;
  std::vector<RankId> tensor_group_, context_group_, stage_group_;
  std::size_t member_, tp_index_;
  std::int64_t tp_;

  // Of the step that runs.
  double loss_scale_ = 1;  ///< 1 / labels of the batch
  double loss_sum_ = 0;    ///< of this rank's labels
  std::map<std::int32_t, Rows> rows_;
  /// What a layer keeps for its backward: memory, and tensors by the number
  /// of their name.
  struct Saved {
    std::vector<Buffer> memory;
    std::vector<std::pair<std::int32_t, std::byte*>> tensors;
    std::byte* find(std::int32_t name) const {
      for (const auto& [number, data] : tensors) {
        if (number == name) return data;
      }
      return nullptr;
    }
  };
  /// Parameters and gradients of a block's tensors, by block and layer.
  std::map<std::pair<std::int32_t, int>, std::vector<std::byte*>> bound_;
  std::map<std::pair<std::int32_t, int>, Saved> saved_;
  std::map<TaskId, Buffer> outputs_;  ///< for tasks of this stage
  Buffer part_output_;                ///< of a backward in parts
  Buffer scratch_;

  // Virtual time.
  Time now_;   ///< end of the stage's last task
  Time base_;  ///< start of the task that runs
  TaskClock clock_;
};

}  // namespace troupe::exec
