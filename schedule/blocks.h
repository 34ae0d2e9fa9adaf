// Makes the blocks of a model: the operators of one layer's forward or
// backward, of the embedding, the head and the optimizer.
#pragma once

#include <compare>
#include <map>
#include <vector>

#include "models/model.h"
#include "schedule/schedule.h"
#include "strategy/strategy.h"

namespace troupe::schedule {

/// How a block is laid out on one context-parallel member.
struct Layout {
  int tp = 1;
  int cp = 1;
  std::int64_t tokens = 0;     ///< held by this member: its share of all
  std::int64_t widest = 0;     ///< tokens of the member that holds most
  std::int64_t kv_tokens = 0;  ///< of a whole sequence, all members together
  int micro_batch = 1;         ///< sequences
  int seq_len = 0;             ///< of the whole sequence
  int replicas = 1;  ///< groups that share the block's weights under ZeRO
  bool sequence_parallel = true;
  bool flash_attention = true;
  kernels::AttentionKernel attention_kernel = kernels::AttentionKernel::tuned;
  strategy::Pointwise pointwise = strategy::Pointwise::fused;
  strategy::Recompute recompute = strategy::Recompute::none;
  strategy::Zero zero = strategy::Zero::none;
  kernels::DType dtype = kernels::DType::bf16;
  auto operator<=>(const Layout&) const = default;
};

/// Which gradients a backward block makes.
enum class Gradients : std::uint8_t { both, input, weight };

/// Builds blocks on demand and hands out the same one for the same request.
class BlockShop {
 public:
  explicit BlockShop(const models::Model& model) : model_(model) {}

  BlockId forward(models::LayerKind kind, const Layout& layout);
  BlockId backward(models::LayerKind kind, const Layout& layout,
                   Gradients gradients);
  BlockId embedding(bool backward, const Layout& layout);
  BlockId head(bool backward, const Layout& layout);
  /// AdamW over `elements` per rank, with the gradient norm before it.
  BlockId optimizer(std::int64_t elements, kernels::DType dtype);

  std::vector<Block> take() { return std::move(blocks_); }
  const Block& block(BlockId id) const { return blocks_[id.at()]; }

 private:
  struct Request {
    int what = 0;
    int kind = 0;
    Gradients gradients = Gradients::both;
    std::int64_t elements = 0;
    Layout layout;
    auto operator<=>(const Request&) const = default;
  };
  template <typename Make>
  BlockId once(const Request& request, Make make);

  models::Model model_;
  std::map<Request, BlockId> made_;
  std::vector<Block> blocks_;
};

}  // namespace troupe::schedule
