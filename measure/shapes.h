// Which operators and layers a range of models and strategies needs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/call.h"
#include "models/model.h"
#include "schedule/schedule.h"

namespace troupe::measure {

/// What a user is going to train. Every list has at least one entry.
struct Range {
  std::vector<models::Model> models;
  std::vector<int> tp{1};
  std::vector<int> cp{1};
  std::vector<int> seq_len{4096};
  std::vector<int> micro_batch{1};
  kernels::DType dtype = kernels::DType::bf16;
};

/// How a product's operands are stored; the profile database does not keep
/// it, for the three differ by little.
enum class Product : std::uint8_t {
  forward,          ///< C = A W', W stored (n, k)
  input_gradient,   ///< dA = dC W
  weight_gradient,  ///< dW += A' dC, summed in fp32
};
/// By the operator's name in a block ("qkv.weight_gradient").
Product product_of(std::string_view operator_name);

/// An operator to measure.
struct Wanted {
  kernels::OpShape op;
  Product product = Product::forward;
  std::string name;  ///< of its first use
  double uses = 0;   ///< how often the layers of the range run it
};

/// Every distinct compute operator of the range's blocks (layers forward and
/// backward, embedding, head, optimizer of a layer), ordered by shape.
/// Strategies whose degrees do not divide a model's heads are left out.
std::vector<Wanted> wanted_operators(const Range& range);

/// A layer of a model on one device.
struct WantedLayer {
  std::string model;
  profiles::LayerKey key;
  std::vector<Wanted> operators;  ///< in order; uses is 1
};

/// Forward and backward of every model's layer at tp 1 and cp 1.
std::vector<WantedLayer> wanted_layers(const Range& range);

}  // namespace troupe::measure
