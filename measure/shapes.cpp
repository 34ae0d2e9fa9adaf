#include "measure/shapes.h"

#include <algorithm>

#include "schedule/blocks.h"

namespace troupe::measure {
namespace {

using schedule::Block;
using schedule::BlockShop;
using schedule::Layout;

/// Calls f(model, layout) for each point of the range that can exist.
template <typename F>
void each_layout(const Range& range, F f) {
  for (const models::Model& model : range.models) {
    for (const int tp : range.tp) {
      if (model.heads % tp != 0) continue;
      for (const int cp : range.cp) {
        for (const int seq_len : range.seq_len) {
          if (seq_len % (2 * cp) != 0 && cp > 1) continue;
          for (const int micro_batch : range.micro_batch) {
            Layout layout;
            layout.tp = tp;
            layout.cp = cp;
            layout.seq_len = seq_len;
            layout.micro_batch = micro_batch;
            layout.tokens = std::int64_t{seq_len} / cp * micro_batch;
            layout.kv_tokens = std::int64_t{seq_len} * micro_batch;
            layout.dtype = range.dtype;
            f(model, layout);
          }
        }
      }
    }
  }
}

struct Use {
  schedule::BlockId block;
  int times = 1;  ///< in the model
};

std::vector<Use> blocks_of(BlockShop& shop, const models::Model& model,
                           const Layout& layout) {
  std::vector<Use> uses{{shop.embedding(false, layout)},
                        {shop.embedding(true, layout)},
                        {shop.head(false, layout)},
                        {shop.head(true, layout)}};
  for (const auto& [kind, layers] : models::layer_counts(model)) {
    const auto parameters = models::layer_parameters(model, kind);
    for (const schedule::BlockId block :
         {shop.forward(kind, layout),
          shop.backward(kind, layout, schedule::Gradients::both),
          shop.optimizer(parameters.on_rank(layout.tp), layout.dtype)}) {
      uses.push_back({block, layers});
    }
  }
  return uses;
}

Wanted wanted(const schedule::Operator& op) {
  return {op.shape, product_of(op.name), op.name, 1};
}

}  // namespace

Product product_of(std::string_view operator_name) {
  if (operator_name.ends_with("input_gradient")) {
    return Product::input_gradient;
  }
  if (operator_name.ends_with("weight_gradient")) {
    return Product::weight_gradient;
  }
  return Product::forward;
}

std::vector<Wanted> wanted_operators(const Range& range) {
  std::map<kernels::OpShape, Wanted> found;
  each_layout(range, [&](const models::Model& model, const Layout& layout) {
    BlockShop shop(model);
    for (const Use& use : blocks_of(shop, model, layout)) {
      for (const schedule::Operator& op : shop.block(use.block).operators) {
        if (op.communicates) continue;
        const auto [at, fresh] = found.try_emplace(op.shape, wanted(op));
        if (fresh) at->second.uses = 0;
        at->second.uses += use.times;
      }
    }
  });
  std::vector<Wanted> result;
  result.reserve(found.size());
  for (auto& [shape, entry] : found) result.push_back(std::move(entry));
  return result;
}

std::vector<WantedLayer> wanted_layers(const Range& range) {
  Range whole = range;
  whole.tp = {1};
  whole.cp = {1};
  std::vector<WantedLayer> result;
  each_layout(whole, [&](const models::Model& model, const Layout& layout) {
    BlockShop shop(model);
    for (const auto& [kind, layers] : models::layer_counts(model)) {
      for (const schedule::BlockId id :
           {shop.forward(kind, layout),
            shop.backward(kind, layout, schedule::Gradients::both)}) {
        const Block& block = shop.block(id);
        WantedLayer layer{model.name, block.key, {}};
        for (const schedule::Operator& op : block.operators) {
          if (!op.communicates) layer.operators.push_back(wanted(op));
        }
        result.push_back(std::move(layer));
      }
    }
  });
  return result;
}

}  // namespace troupe::measure
