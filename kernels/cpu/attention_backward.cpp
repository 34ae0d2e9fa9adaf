// Attention backward: probabilities are computed again from lse, block by
// block. dq is summed within a block of queries; dk and dv of one head of keys
// are summed in Wide<T> over all queries that read it.
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/bodies.h"
#include "kernels/cpu/matrix.h"

namespace troupe::kernels::cpu {
namespace {

template <typename T>
class Backward {
 public:
  using S = Wide<T>;
  explicit Backward(const AttentionBackward& call)
      : call_(call),
        s_(call.sizes),
        ld_(strides_of(s_)),
        scale_(static_cast<S>(scale_of(s_))) {
    const std::int64_t queries = std::min(kQueries, longest(s_, s_.q_starts));
    const std::int64_t longest_kv = longest(s_, s_.kv_starts);
    const std::int64_t keys = std::min(kKeys, longest_kv);
    for (Matrix<S>* one : {&query_, &d_out_, &dq_}) {
      one->resize(queries, s_.head_dim);
    }
    key_.resize(keys, s_.head_dim);
    value_.resize(keys, s_.head_dim);
    probability_.resize(queries, keys);
    d_score_.resize(queries, keys);
    delta_.resize(queries, 1);
    lse_.resize(queries, 1);
    dk_.resize(longest_kv, s_.head_dim);
    dv_.resize(longest_kv, s_.head_dim);
  }

  void sequence(const Sequence& one) {
    const std::int64_t group = s_.heads / s_.kv_heads;
    for (std::int64_t kv_head = 0; kv_head < s_.kv_heads; ++kv_head) {
      dk_.topRows(one.nk).setZero();
      dv_.topRows(one.nk).setZero();
      for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group;
           ++head) {
        for (std::int64_t j = 0; j < one.nq; j += kQueries) {
          queries(one, head, kv_head, j, std::min(kQueries, one.nq - j));
        }
      }
      const std::int64_t offset = one.kv * ld_.kv + kv_head * s_.head_dim;
      write(dk_, one.nk, out<T>(call_.dk) + offset, ld_.kv);
      write(dv_, one.nk, out<T>(call_.dv) + offset, ld_.kv);
    }
  }

 private:
  void write(const Matrix<S>& from, std::int64_t rows, T* to,
             std::int64_t ld) const {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t c = 0; c < s_.head_dim; ++c) {
        store(to[i * ld + c], from(i, c));
      }
    }
  }

  void queries(const Sequence& one, std::int64_t head, std::int64_t kv_head,
               std::int64_t j, std::int64_t nq) {
    const std::int64_t d = s_.head_dim;
    const std::int64_t token = one.q + j;
    const std::int64_t q_at = token * ld_.q + head * d;
    const std::int64_t out_at = token * ld_.out + head * d;
    load_block(query_.data(), d, in<T>(call_.q) + q_at, ld_.q, nq, d);
    load_block(d_out_.data(), d, in<T>(call_.d_out) + out_at, ld_.out, nq, d);
    for (std::int64_t i = 0; i < nq; ++i) {
      const T* row = in<T>(call_.out) + out_at + i * ld_.out;
      delta_(i, 0) = static_cast<S>(sum_of(
          d, [&](std::int64_t c) { return load(row[c]) * d_out_(i, c); }));
      lse_(i, 0) = in<Stat<T>>(call_.lse)[(token + i) * s_.heads + head];
    }
    dq_.topRows(nq).setZero();
    const std::int64_t last = visible(s_, one, j + nq - 1);
    const std::int64_t first = earliest(s_, one, j) / kKeys * kKeys;
    for (std::int64_t t = first; t < last; t += kKeys) {
      keys(one, kv_head, j, nq, t, std::min(kKeys, last - t));
    }
    dq_.topRows(nq) *= scale_;
    write(dq_, nq, out<T>(call_.dq) + q_at, ld_.q);
  }

  void keys(const Sequence& one, std::int64_t kv_head, std::int64_t j,
            std::int64_t nq, std::int64_t t, std::int64_t nk) {
    const std::int64_t d = s_.head_dim;
    const std::int64_t offset = (one.kv + t) * ld_.kv + kv_head * d;
    load_block(key_.data(), d, in<T>(call_.k) + offset, ld_.kv, nk, d);
    load_block(value_.data(), d, in<T>(call_.v) + offset, ld_.kv, nk, d);
    const auto query = query_.topRows(nq);
    const auto d_out = d_out_.topRows(nq);
    auto probability = probability_.topLeftCorner(nq, nk);
    auto d_score = d_score_.topLeftCorner(nq, nk);
    probability.noalias() = query * key_.topRows(nk).transpose();
    d_score.noalias() = d_out * value_.topRows(nk).transpose();
    for (std::int64_t i = 0; i < nq; ++i) {
      const Seen seen = seen_of(s_, one, j + i, t, nk);
      row(i, lse_(i, 0) == kNone ? Seen{0, 0} : seen, nk);
    }
    dv_.middleRows(t, nk).noalias() += probability.transpose() * d_out;
    dk_.middleRows(t, nk).noalias() += scale_ * (d_score.transpose() * query);
    dq_.topRows(nq).noalias() += d_score * key_.topRows(nk);
  }

  // Scores become probabilities, their gradients those of the scores.
  void row(std::int64_t i, Seen seen, std::int64_t nk) {
    S* probability = &probability_(i, 0);
    S* d_score = &d_score_(i, 0);
    for (std::int64_t t = seen.begin; t < seen.end; ++t) {
      probability[t] = std::exp(scale_ * probability[t] - lse_(i, 0));
      d_score[t] = probability[t] * (d_score[t] - delta_(i, 0));
    }
    for (S* part : {probability, d_score}) {
      std::fill(part, part + seen.begin, S{});
      std::fill(part + seen.end, part + nk, S{});
    }
  }

  static constexpr S kNone = -std::numeric_limits<S>::infinity();
  const AttentionBackward& call_;
  const AttentionSizes& s_;
  AttentionStrides ld_;
  S scale_;
  Matrix<S> query_, d_out_, dq_, key_, value_, probability_, d_score_;
  Matrix<S> delta_, lse_, dk_, dv_;
};

}  // namespace

void perform(const AttentionBackward& call) {
  fix_caches();
  with_type(call.dtype, [&](auto type) {
    Backward<decltype(type)> backward(call);
    each_sequence(call.sizes,
                  [&](const Sequence& one) { backward.sequence(one); });
  });
}

}  // namespace troupe::kernels::cpu
