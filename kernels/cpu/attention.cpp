// Attention forward: for a block of queries, one pass over the blocks of
// their keys with a running maximum and sum (online softmax).
#include "kernels/cpu/attention.h"

#include <limits>

#include "kernels/cpu/bodies.h"
#include "kernels/cpu/matrix.h"

namespace troupe::kernels::cpu {
namespace {

template <typename T>
class Forward {
 public:
  using S = Wide<T>;
  explicit Forward(const AttentionForward& call)
      : call_(call),
        s_(call.sizes),
        ld_(strides_of(s_)),
        scale_(static_cast<S>(scale_of(s_))) {
    const std::int64_t queries = std::min(kQueries, longest(s_, s_.q_starts));
    const std::int64_t longest_kv = longest(s_, s_.kv_starts);
    const std::int64_t keys = std::min(kKeys, longest_kv);
    query_.resize(queries, s_.head_dim);
    sum_.resize(queries, s_.head_dim);
    key_.resize(keys, s_.head_dim);
    value_.resize(keys, s_.head_dim);
    score_.resize(queries, keys);
    maximum_.resize(queries, 1);
    total_.resize(queries, 1);
  }

  void sequence(const Sequence& one) {
    for (std::int64_t head = 0; head < s_.heads; ++head) {
      for (std::int64_t j = 0; j < one.nq; j += kQueries) {
        queries(one, head, j, std::min(kQueries, one.nq - j));
      }
    }
  }

 private:
  static constexpr S kNone = -std::numeric_limits<S>::infinity();

  void queries(const Sequence& one, std::int64_t head, std::int64_t j,
               std::int64_t nq) {
    const std::int64_t d = s_.head_dim;
    load_block(query_.data(), d,
               in<T>(call_.q) + (one.q + j) * ld_.q + head * d, ld_.q, nq, d);
    query_.topRows(nq) *= scale_;
    sum_.topRows(nq).setZero();
    maximum_.topRows(nq).setConstant(kNone);
    total_.topRows(nq).setZero();
    const std::int64_t last = visible(s_, one, j + nq - 1);
    const std::int64_t first = earliest(s_, one, j) / kKeys * kKeys;
    for (std::int64_t t = first; t < last; t += kKeys) {
      keys(one, head, j, nq, t, std::min(kKeys, last - t));
    }
    finish(one, head, j, nq);
  }

  void keys(const Sequence& one, std::int64_t head, std::int64_t j,
            std::int64_t nq, std::int64_t t, std::int64_t nk) {
    const std::int64_t d = s_.head_dim;
    const std::int64_t offset =
        (one.kv + t) * ld_.kv + head / (s_.heads / s_.kv_heads) * d;
    load_block(key_.data(), d, in<T>(call_.k) + offset, ld_.kv, nk, d);
    load_block(value_.data(), d, in<T>(call_.v) + offset, ld_.kv, nk, d);
    auto score = score_.topLeftCorner(nq, nk);
    score.noalias() = query_.topRows(nq) * key_.topRows(nk).transpose();
    for (std::int64_t i = 0; i < nq; ++i) {
      soften(i, seen_of(s_, one, j + i, t, nk), nk);
    }
    sum_.topRows(nq).noalias() += score * value_.topRows(nk);
  }

  // Row i of scores becomes exp(score - maximum); what was summed so far
  // follows the new maximum.
  void soften(std::int64_t i, Seen seen, std::int64_t nk) {
    S* row = &score_(i, 0);
    std::fill(row, row + seen.begin, S{});
    std::fill(row + seen.end, row + nk, S{});
    if (seen.begin == seen.end) return;
    S maximum = maximum_(i, 0);
    for (std::int64_t t = seen.begin; t < seen.end; ++t) {
      if (row[t] > maximum) maximum = row[t];
    }
    if (maximum != maximum_(i, 0)) {
      const S factor = std::exp(maximum_(i, 0) - maximum);
      total_(i, 0) *= factor;
      sum_.row(i) *= factor;
      maximum_(i, 0) = maximum;
    }
    S total{};
    for (std::int64_t t = seen.begin; t < seen.end; ++t) {
      row[t] = std::exp(row[t] - maximum);
      total += row[t];
    }
    total_(i, 0) += total;
  }

  void finish(const Sequence& one, std::int64_t head, std::int64_t j,
              std::int64_t nq) {
    const std::int64_t d = s_.head_dim;
    for (std::int64_t i = 0; i < nq; ++i) {
      const std::int64_t token = one.q + j + i;
      const bool none = visible(s_, one, j + i) == 0;
      const S share = none ? S{} : 1 / total_(i, 0);
      T* to = out<T>(call_.out) + token * ld_.out + head * d;
      for (std::int64_t c = 0; c < d; ++c) store(to[c], sum_(i, c) * share);
      store(out<Stat<T>>(call_.lse)[token * s_.heads + head],
            none ? kNone : maximum_(i, 0) + std::log(total_(i, 0)));
    }
  }

  const AttentionForward& call_;
  const AttentionSizes& s_;
  AttentionStrides ld_;
  S scale_;
  Matrix<S> query_, key_, value_, score_, sum_, maximum_, total_;
};

}  // namespace

void perform(const AttentionForward& call) {
  fix_caches();
  with_type(call.dtype, [&](auto type) {
    Forward<decltype(type)> forward(call);
    each_sequence(call.sizes,
                  [&](const Sequence& one) { forward.sequence(one); });
  });
}

void perform(const AttentionMerge& call) {
  with_type(call.dtype, [&](auto type) {
    using T = decltype(type);
    using S = Stat<T>;
    const S none = -std::numeric_limits<S>::infinity();
    for (std::int64_t row = 0; row < call.tokens * call.heads; ++row) {
      S& lse = out<S>(call.lse)[row];
      const S other = in<S>(call.out_lse)[row];
      const S before = call.first ? none : lse;
      const S maximum = before > other ? before : other;
      S keep{}, gain{};
      if (maximum == none) {
        lse = none;
      } else {
        lse = maximum +
              std::log(std::exp(before - maximum) + std::exp(other - maximum));
        keep = std::exp(before - lse);
        gain = call.first ? S{1} : std::exp(other - lse);
      }
      const T* from = in<T>(call.out) + row * call.head_dim;
      S* sum = out<S>(call.sum) + row * call.head_dim;
      for (std::int64_t c = 0; c < call.head_dim; ++c) {
        const S part = gain == 0 ? S{} : gain * load(from[c]);
        sum[c] = keep == 0 ? part : keep * sum[c] + part;
      }
    }
  });
}

}  // namespace troupe::kernels::cpu
