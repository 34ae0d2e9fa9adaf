// Cases of the operators but attention and GEMM. Sizes are odd, or even so
// that wide accesses happen, or chosen at random by the seed.
#include <algorithm>
#include <cmath>

#include "tests/kernels/cuda_cases.h"

namespace troupe::kernels::testing {
namespace {

using At = std::span<void* const>;

template <typename T>
const T* as(void* at) {
  return static_cast<const T*>(at);
}

std::string by(std::int64_t rows, std::int64_t columns) {
  return " " + std::to_string(rows) + "x" + std::to_string(columns);
}

Operand statistic(Operand operand, Role role = Role::in) {
  return Values::as(std::move(operand), Kind::statistic, role);
}

struct Size {
  std::int64_t rows, columns;
};

// One row, one column, a few odd sizes, a multiple of all widths, rows too
// long for the registers of a block (over 512 threads x 4 x 8), and one at
// random.
std::vector<Size> sizes(Values& values) {
  return {{1, 1},     {3, 33},   {33, 7},
          {5, 1000},  {37, 256}, {9, 640},
          {2, 18432}, {3, 2051}, {values.pick(1, 70), values.pick(1, 900)}};
}

enum class Norm { rms, layer, layer_bias };

std::string name_of(Size s, Norm norm) {
  return by(s.rows, s.columns) + (norm == Norm::rms     ? " rms"
                                  : norm == Norm::layer ? " layer"
                                                        : " layer bias");
}

Case norm_forward(Size s, Norm norm, Values& values) {
  const bool rms = norm == Norm::rms;
  const bool bias = norm == Norm::layer_bias;
  const std::int64_t n = s.rows * s.columns;
  Case forward;
  forward.name = "norm_forward" + name_of(s, norm);
  forward.operands = {values.normal(n, 1.5, 0.3),
                      values.normal(s.columns, 0.2, 1),
                      bias ? values.normal(s.columns) : Values::none(),
                      Values::out(n),
                      statistic(Values::out(rms ? 0 : s.rows), Role::out),
                      statistic(Values::out(s.rows), Role::out)};
  forward.call = [=](DType dtype, At at) -> Call {
    return NormForward{.dtype = dtype,
                       .rms = rms,
                       .rows = s.rows,
                       .columns = s.columns,
                       .epsilon = 1e-5,
                       .in = at[0],
                       .weight = at[1],
                       .bias = at[2],
                       .out = at[3],
                       .mean = at[4],
                       .rstd = at[5]};
  };
  forward.terms = static_cast<double>(s.columns);
  return forward;
}

Case norm_backward(Size s, Norm norm, Values& values) {
  const bool rms = norm == Norm::rms;
  const bool bias = norm == Norm::layer_bias;
  const std::int64_t n = s.rows * s.columns;
  Case backward;
  backward.name = "norm_backward" + name_of(s, norm);
  backward.operands = {
      values.normal(n, 1.5, 0.3),
      values.normal(s.columns, 0.2, 1),
      statistic(rms ? Values::none() : values.normal(s.rows, 0.1, 0.3)),
      statistic(values.uniform(s.rows, 0.5, 0.8)),
      values.normal(n),
      Values::out(n),
      statistic(values.normal(s.columns), Role::in_out),
      bias ? statistic(values.normal(s.columns), Role::in_out)
           : statistic(Values::none()),
      Values::scratch()};
  backward.call = [=](DType dtype, At at) -> Call {
    return NormBackward{.dtype = dtype,
                        .rms = rms,
                        .rows = s.rows,
                        .columns = s.columns,
                        .in = at[0],
                        .weight = at[1],
                        .mean = at[2],
                        .rstd = at[3],
                        .d_out = at[4],
                        .d_in = at[5],
                        .d_weight = at[6],
                        .d_bias = bias ? at[7] : nullptr,
                        .workspace = at[8]};
  };
  backward.terms = static_cast<double>(s.columns + s.rows);
  return backward;
}

void add_norms(std::vector<Case>& cases, Values& values) {
  for (const Size s : sizes(values)) {
    for (const Norm norm : {Norm::rms, Norm::layer, Norm::layer_bias}) {
      cases.push_back(norm_forward(s, norm, values));
      cases.push_back(norm_backward(s, norm, values));
    }
  }
}

void add_activations(std::vector<Case>& cases, Values& values) {
  for (const Size s : sizes(values)) {
    for (const Pointwise f : {Pointwise::silu, Pointwise::gelu,
                              Pointwise::gelu_tanh, Pointwise::relu}) {
      for (const bool gated : {false, true}) {
        if (s.columns > 10000 && f != Pointwise::silu) continue;
        const std::int64_t n = s.rows * s.columns;
        const std::string name = std::to_string(static_cast<int>(f)) +
                                 (gated ? " gated" : "") +
                                 by(s.rows, s.columns);
        Case forward;
        forward.name = "activation_forward " + name;
        forward.operands = {values.normal(n * (gated ? 2 : 1), 2),
                            Values::out(n)};
        forward.call = [=](DType dtype, At at) -> Call {
          return ActivationForward{.dtype = dtype,
                                   .function = f,
                                   .gated = gated,
                                   .rows = s.rows,
                                   .columns = s.columns,
                                   .in = at[0],
                                   .out = at[1]};
        };
        cases.push_back(forward);
        Case backward;
        backward.name = "activation_backward " + name;
        backward.operands = {values.normal(n * (gated ? 2 : 1), 2),
                             values.normal(n),
                             Values::out(n * (gated ? 2 : 1))};
        backward.call = [=](DType dtype, At at) -> Call {
          return ActivationBackward{.dtype = dtype,
                                    .function = f,
                                    .gated = gated,
                                    .rows = s.rows,
                                    .columns = s.columns,
                                    .in = at[0],
                                    .d_out = at[1],
                                    .d_in = at[2]};
        };
        cases.push_back(backward);
      }
    }
  }
}

void add_simple(std::vector<Case>& cases, Values& values) {
  for (const std::int64_t n :
       {std::int64_t{1}, std::int64_t{33}, std::int64_t{1000},
        std::int64_t{4096}, std::int64_t{20011}, values.pick(1, 5000)}) {
    Case add;
    add.name = "add " + std::to_string(n);
    add.operands = {values.normal(n), values.normal(n), Values::out(n)};
    add.call = [=](DType dtype, At at) -> Call {
      return Add{dtype, n, at[0], at[1], at[2]};
    };
    cases.push_back(add);
    Case onto = add;
    onto.name += " onto itself";
    onto.operands[0].role = Role::in_out;
    onto.call = [=](DType dtype, At at) -> Call {
      return Add{dtype, n, at[0], at[1], at[0]};
    };
    onto.operands.pop_back();
    cases.push_back(onto);

    Case squares;
    squares.name = "square_sum " + std::to_string(n);
    squares.operands = {
        values.normal(n),
        Values::as(values.uniform(1, 0, 5), Kind::fp64, Role::in_out),
        Values::scratch()};
    squares.call = [=](DType dtype, At at) -> Call {
      return SquareSum{dtype, n, at[0], at[1], at[2]};
    };
    cases.push_back(squares);
  }
  for (const Size s : sizes(values)) {
    const std::int64_t n = s.rows * s.columns;
    Case bias;
    bias.name = "bias_add" + by(s.rows, s.columns);
    bias.operands = {values.normal(s.columns),
                     Values::as(values.normal(n), Kind::value, Role::in_out)};
    bias.call = [=](DType dtype, At at) -> Call {
      return BiasAdd{dtype, s.rows, s.columns, at[0], at[1]};
    };
    cases.push_back(bias);
    Case gradient;
    gradient.name = "bias_gradient" + by(s.rows, s.columns);
    gradient.operands = {values.normal(n),
                         statistic(values.normal(s.columns), Role::in_out),
                         Values::scratch()};
    gradient.call = [=](DType dtype, At at) -> Call {
      return BiasGradient{dtype, s.rows, s.columns, at[0], at[1], at[2]};
    };
    gradient.terms = static_cast<double>(s.rows);
    cases.push_back(gradient);
  }
}

void add_casts(std::vector<Case>& cases, Values& values) {
  for (const std::int64_t n :
       {std::int64_t{1}, std::int64_t{1003}, std::int64_t{8192}}) {
    for (const bool accumulate : {false, true}) {
      for (const bool widen : {false, true}) {
        const double scale = values.pick(0, 1) == 0 ? 1 : 0.37;
        Case cast;
        cast.name = std::string("cast ") +
                    (widen ? "to statistic " : "from statistic ") +
                    std::to_string(n) + (accumulate ? " accumulate" : "");
        const Role role = accumulate ? Role::in_out : Role::out;
        cast.operands = {values.normal(n), values.normal(n)};
        cast.operands[0].kind = widen ? Kind::value : Kind::statistic;
        cast.operands[1].kind = widen ? Kind::statistic : Kind::value;
        cast.operands[1].role = role;
        cast.call = [=](DType dtype, At at) -> Call {
          const DType wide = statistics_type(dtype);
          return Cast{.from = widen ? dtype : wide,
                      .to = widen ? wide : dtype,
                      .elements = n,
                      .scale = scale,
                      .accumulate = accumulate,
                      .in = at[0],
                      .out = at[1]};
        };
        cases.push_back(cast);
      }
    }
  }
}

/// Numbers on their way from the host and back to it.
void add_host_casts(std::vector<Case>& cases, Values& values) {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{1003}}) {
    for (const Kind kind : {Kind::value, Kind::statistic}) {
      for (const bool out : {false, true}) {
        Case cast;
        cast.name = std::string("cast ") +
                    (kind == Kind::value ? "value " : "statistic ") +
                    (out ? "to fp64 " : "from fp64 ") + std::to_string(n);
        cast.operands = {values.normal(n), values.normal(n)};
        cast.operands[0].kind = out ? kind : Kind::fp64;
        cast.operands[1].kind = out ? Kind::fp64 : kind;
        cast.operands[1].role = Role::out;
        cast.call = [=](DType dtype, At at) -> Call {
          const DType own =
              kind == Kind::value ? dtype : statistics_type(dtype);
          return Cast{.from = out ? own : DType::fp64,
                      .to = out ? DType::fp64 : own,
                      .elements = n,
                      .in = at[0],
                      .out = at[1]};
        };
        cases.push_back(cast);
      }
    }
  }
}

void add_rotary(std::vector<Case>& cases, Values& values) {
  struct Heads {
    std::int64_t tokens, heads, dim, gap;
  };
  for (const Heads h :
       {Heads{1, 1, 2, 0}, Heads{5, 3, 6, 0}, Heads{33, 4, 64, 0},
        Heads{7, 2, 128, 256}, Heads{18, 1, 80, 5},
        Heads{values.pick(1, 40), values.pick(1, 5), 2 * values.pick(1, 40),
              values.pick(0, 9)}}) {
    for (const bool inverse : {false, true}) {
      // Half of the cases with the scaling of Llama 3.1.
      const RotaryScaling scaling{.factor = inverse ? 8.0 : 1.0};
      const std::int64_t ld = h.heads * h.dim + h.gap;
      Case rotary;
      rotary.name = "rotary " + std::to_string(h.tokens) + "x" +
                    std::to_string(h.heads) + "x" + std::to_string(h.dim) +
                    " ld " + std::to_string(ld) + (inverse ? " back" : "");
      // Positions as far as the longest contexts in use.
      rotary.operands = {
          values.indices(h.tokens, 0, 131071),
          Values::as(values.normal(h.tokens * ld), Kind::value, Role::in_out)};
      rotary.call = [=](DType dtype, At at) -> Call {
        return Rotary{.dtype = dtype,
                      .tokens = h.tokens,
                      .heads = h.heads,
                      .head_dim = h.dim,
                      .ld = h.gap == 0 ? 0 : ld,
                      .base = 500000,
                      .scaling = scaling,
                      .inverse = inverse,
                      .positions = as<std::int32_t>(at[0]),
                      .data = at[1]};
      };
      cases.push_back(rotary);
    }
  }
}

void add_embeddings(std::vector<Case>& cases, Values& values) {
  struct Table {
    std::int64_t rows, columns, vocabulary, first;
  };
  for (const Table t :
       {Table{1, 1, 3, 0}, Table{50, 33, 11, 4}, Table{300, 64, 40, 10},
        Table{2500, 16, 1000, 100}, Table{5000, 8, 3, 0},
        Table{values.pick(1, 200), values.pick(1, 100), values.pick(1, 60),
              values.pick(0, 20)}}) {
    const std::int64_t n = t.rows * t.columns;
    const std::string name = by(t.rows, t.columns) + " of " +
                             std::to_string(t.vocabulary) + " from " +
                             std::to_string(t.first);
    // Some tokens are below and some above what is held here.
    const auto last = static_cast<std::int32_t>(t.first + t.vocabulary + 5);
    const Operand tokens = values.indices(t.rows, 0, last);
    for (const bool add : {false, true}) {
      Case forward;
      forward.name = "embedding_forward" + name + (add ? " add" : "");
      forward.operands = {
          tokens, values.normal(t.vocabulary * t.columns),
          add ? Values::as(values.normal(n), Kind::value, Role::in_out)
              : Values::out(n)};
      forward.call = [=](DType dtype, At at) -> Call {
        return EmbeddingForward{.dtype = dtype,
                                .rows = t.rows,
                                .columns = t.columns,
                                .vocabulary = t.vocabulary,
                                .first = t.first,
                                .add = add,
                                .tokens = as<std::int32_t>(at[0]),
                                .table = at[1],
                                .out = at[2]};
      };
      cases.push_back(forward);
    }
    Case backward;
    backward.name = "embedding_backward" + name;
    backward.operands = {
        tokens, values.normal(n),
        statistic(values.normal(t.vocabulary * t.columns), Role::in_out),
        Values::scratch()};
    backward.call = [=](DType dtype, At at) -> Call {
      return EmbeddingBackward{.dtype = dtype,
                               .rows = t.rows,
                               .columns = t.columns,
                               .vocabulary = t.vocabulary,
                               .first = t.first,
                               .tokens = as<std::int32_t>(at[0]),
                               .d_out = at[1],
                               .d_table = at[2],
                               .workspace = at[3]};
    };
    backward.terms = static_cast<double>(t.rows);
    cases.push_back(backward);
  }
}

/// The part of a vocabulary that one rank has logits of.
struct Shard {
  std::int64_t rows, columns, first, gap;
  std::int64_t ld() const { return columns + gap; }
};

Case cross_entropy_forward(Shard s, const Operand& labels, Values& values) {
  Case forward;
  forward.name = "cross_entropy_forward" + by(s.rows, s.columns) + " ld " +
                 std::to_string(s.ld());
  forward.operands = {values.normal(s.rows * s.ld(), 3), labels,
                      statistic(Values::out(s.rows), Role::out),
                      statistic(Values::out(s.rows), Role::out),
                      statistic(Values::out(s.rows), Role::out)};
  forward.call = [=](DType dtype, At at) -> Call {
    return CrossEntropyForward{.dtype = dtype,
                               .rows = s.rows,
                               .columns = s.columns,
                               .first = s.first,
                               .ld = s.ld(),
                               .logits = at[0],
                               .labels = as<std::int32_t>(at[1]),
                               .maximum = at[2],
                               .sum = at[3],
                               .target = at[4]};
  };
  forward.terms = static_cast<double>(s.columns);
  return forward;
}

Case cross_entropy_backward(Shard s, const Operand& labels, bool onto,
                            Values& values) {
  Case backward;
  backward.name = "cross_entropy_backward" + by(s.rows, s.columns) + " ld " +
                  std::to_string(s.ld()) + (onto ? " in place" : "");
  backward.operands = {values.normal(s.rows * s.ld(), 3), labels,
                       statistic(values.uniform(s.rows, 7, 9)),
                       Values::out(onto ? 0 : s.rows * s.ld())};
  if (onto) backward.operands[0].role = Role::in_out;
  backward.call = [=](DType dtype, At at) -> Call {
    return CrossEntropyBackward{.dtype = dtype,
                                .rows = s.rows,
                                .columns = s.columns,
                                .first = s.first,
                                .ld = s.ld(),
                                .scale = 0.125,
                                .logits = at[0],
                                .labels = as<std::int32_t>(at[1]),
                                .lse = at[2],
                                .d_logits = onto ? at[0] : at[3]};
  };
  // exp of x off by |x| 2^-24: x reaches 3 x 5 + 9; where the label's
  // probability is near 1, that cancels.
  backward.floor = 0.125 / std::sqrt(static_cast<double>(s.columns));
  backward.extra = 24 * std::ldexp(1.0, -24);
  return backward;
}

void add_cross_entropy_merges(std::vector<Case>& cases, Values& values) {
  for (const std::int64_t shards : {1, 2, 5}) {
    const std::int64_t rows = 301, n = rows * shards;
    Case merge;
    merge.name = "cross_entropy_merge" + by(rows, shards);
    merge.operands = {values.indices(rows, -1, 3),
                      statistic(values.normal(n, 3)),
                      statistic(values.uniform(n, 1, 90)),
                      statistic(values.normal(n)),
                      statistic(Values::out(rows), Role::out),
                      statistic(Values::out(rows), Role::out)};
    merge.call = [=](DType dtype, At at) -> Call {
      return CrossEntropyMerge{.dtype = dtype,
                               .rows = rows,
                               .shards = shards,
                               .labels = as<std::int32_t>(at[0]),
                               .maximum = at[1],
                               .sum = at[2],
                               .target = at[3],
                               .lse = at[4],
                               .loss = at[5]};
    };
    cases.push_back(merge);
  }
}

void add_cross_entropy(std::vector<Case>& cases, Values& values) {
  for (const Shard s :
       {Shard{1, 1, 0, 0}, Shard{7, 33, 10, 0}, Shard{9, 512, 512, 0},
        Shard{4, 1000, 0, 24}, Shard{3, 9001, 100, 0}, Shard{5, 8192, 0, 3},
        Shard{values.pick(1, 20), values.pick(1, 2000), values.pick(0, 50),
              values.pick(0, 5)}}) {
    const auto last = static_cast<std::int32_t>(s.first + s.columns + 20);
    // -1 has no label; some labels are of other shards.
    const Operand labels = values.indices(s.rows, -1, last);
    cases.push_back(cross_entropy_forward(s, labels, values));
    for (const bool onto : {false, true}) {
      cases.push_back(cross_entropy_backward(s, labels, onto, values));
    }
  }
  add_cross_entropy_merges(cases, values);
}

void add_optimizer(std::vector<Case>& cases, Values& values) {
  for (const std::int64_t n : {std::int64_t{1}, std::int64_t{1027},
                               std::int64_t{4096}, values.pick(1, 9000)}) {
    for (const int kind : {0, 1, 2}) {  // all; no copy; no clip
      Case adam;
      adam.name = "adamw " + std::to_string(n) +
                  (kind == 1   ? " no copy"
                   : kind == 2 ? " no clip"
                               : "");
      const std::int64_t step = values.pick(1, 50);
      adam.floor = 0.01;  // the smaller of the terms of m
      adam.operands = {statistic(values.normal(n, 0.1)),
                       statistic(values.normal(n), Role::in_out),
                       statistic(values.normal(n, 0.05), Role::in_out),
                       statistic(values.uniform(n, 0, 0.01), Role::in_out),
                       Values::out(kind == 1 ? 0 : n),
                       statistic(values.uniform(1, 0.2, 1))};
      adam.call = [=](DType dtype, At at) -> Call {
        return AdamW{.dtype = dtype,
                     .elements = n,
                     .rate = 3e-3,
                     .step = step,
                     .gradient_scale = 0.5,
                     .clip = kind == 2 ? nullptr : at[5],
                     .gradient = at[0],
                     .master = at[1],
                     .m = at[2],
                     .v = at[3],
                     .copy = kind == 1 ? nullptr : at[4]};
      };
      cases.push_back(adam);
    }
  }
  for (const double limit : {0.0, 0.01, 1.0, 1e6}) {
    Case clip;
    clip.name = "clip_factor " + std::to_string(limit);
    clip.operands = {Values::as(values.uniform(1, 1, 100), Kind::fp64),
                     statistic(Values::out(1), Role::out)};
    clip.call = [=](DType dtype, At at) -> Call {
      return ClipFactor{.dtype = dtype,
                        .limit = limit,
                        .scale = 0.5,
                        .sum = at[0],
                        .clip = at[1]};
    };
    cases.push_back(clip);
  }
}

struct Block {
  std::array<std::int64_t, 4> size, from, to;
};

std::int64_t extent(const std::array<std::int64_t, 4>& size,
                    const std::array<std::int64_t, 4>& stride) {
  std::int64_t last = 0;
  for (std::size_t i = 0; i < 4; ++i) last += (size[i] - 1) * stride[i];
  return last + 1;
}

// Any block: the output's dimensions in any order with gaps, the input's too.
Block any_block(Values& values) {
  Block b;
  for (auto& size : b.size) size = values.pick(1, 9);
  for (auto* strides : {&b.from, &b.to}) {
    std::array<std::size_t, 4> order{0, 1, 2, 3};
    for (std::size_t i = 3; i > 0; --i) {
      std::swap(order[i], order[static_cast<std::size_t>(
                              values.pick(0, static_cast<std::int64_t>(i)))]);
    }
    std::int64_t stride = 1;
    for (const std::size_t i : order) {
      (*strides)[i] = stride;
      stride = stride * b.size[i] + values.pick(0, 1) * values.pick(0, 3);
    }
  }
  return b;
}

void add_copies(std::vector<Case>& cases, Values& values) {
  std::vector<Block> blocks{
      // All of it; a slice of rows; a slice of columns of two kinds.
      {{1, 1, 1, 1}, {0, 0, 0, 0}, {0, 0, 0, 0}},
      {{2, 3, 5, 64}, {960, 320, 64, 1}, {960, 320, 64, 1}},
      {{1, 2, 33, 24}, {0, 3300, 100, 1}, {0, 800, 24, 1}},
      {{1, 1, 40, 128}, {0, 0, 512, 1}, {0, 0, 128, 1}},
      // Transposes: heads and tokens, a matrix, a matrix of odd sizes.
      {{2, 5, 3, 64}, {960, 192, 64, 1}, {960, 64, 320, 1}},
      {{1, 1, 130, 70}, {0, 0, 70, 1}, {0, 0, 1, 130}},
      {{2, 3, 65, 7}, {2000, 500, 7, 1}, {1400, 455, 1, 65}},
      // Spread out by 2, and one row read many times.
      {{1, 1, 9, 20}, {0, 0, 40, 2}, {0, 0, 60, 3}},
      {{1, 1, 6, 32}, {0, 0, 0, 1}, {0, 0, 32, 1}}};
  for (int i = 0; i < 12; ++i) blocks.push_back(any_block(values));
  int number = 0;
  for (const Block& b : blocks) {
    for (const bool accumulate : {false, true}) {
      Case copy;
      copy.name = "copy " + std::to_string(number++) +
                  (accumulate ? " accumulate" : "");
      for (const std::int64_t size : b.size) {
        copy.name += " " + std::to_string(size);
      }
      const std::int64_t to = extent(b.size, b.to);
      copy.operands = {
          values.normal(extent(b.size, b.from)),
          accumulate ? Values::as(values.normal(to), Kind::value, Role::in_out)
                     : Values::out(to)};
      copy.call = [=](DType dtype, At at) -> Call {
        return CopyBlock{.dtype = dtype,
                         .size = b.size,
                         .from_stride = b.from,
                         .to_stride = b.to,
                         .accumulate = accumulate,
                         .in = at[0],
                         .out = at[1]};
      };
      cases.push_back(copy);
    }
  }
}

}  // namespace

std::vector<Case> operator_cases(std::uint64_t seed) {
  Values values(seed);
  std::vector<Case> cases;
  add_norms(cases, values);
  add_activations(cases, values);
  add_simple(cases, values);
  add_casts(cases, values);
  add_host_casts(cases, values);
  add_rotary(cases, values);
  add_embeddings(cases, values);
  add_copies(cases, values);
  // All of these add and subtract numbers of order one.
  for (Case& one : cases) one.floor = 1;
  add_cross_entropy(cases, values);
  add_optimizer(cases, values);
  return cases;
}

}  // namespace troupe::kernels::testing
