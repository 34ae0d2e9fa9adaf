// Attention of a rank's heads: over its own rows, or in a ring over the
// context-parallel members. Rows of queries, keys and values lie side by
// side: heads, then key heads, then value heads.
#include "exec/runner.h"

namespace troupe::exec {

using schedule::Action;

namespace {

/// Tags of a ring: nothing else has bit 62. Messages of one pair of ranks
/// arrive in order, so that one tag serves all.
constexpr Tag kRing = Tag{1} << 62;

std::span<std::byte> bytes(std::byte* data, std::int64_t size) {
  return {data, static_cast<std::size_t>(size)};
}

}  // namespace

Interpreter::Runner::Heads Interpreter::Runner::heads() const {
  const schedule::Numerics& n = schedule_.numerics;
  return {n.heads / tp_, std::max<std::int64_t>(n.kv_heads / tp_, 1),
          n.head_dim};
}

std::size_t Interpreter::Runner::source_member(std::size_t round) const {
  const std::size_t members = stage_.members.size();
  return (member_ + members - round % members) % members;
}

Result<void> Interpreter::Runner::copy_block(const Block2& size,
                                             const std::byte* from,
                                             std::byte* to, bool add) {
  kernels::CopyBlock call{.dtype = program_.dtype};
  call.size = {1, 1, size.rows, size.columns};
  call.from_stride = {0, 0, size.from_ld, 1};
  call.to_stride = {0, 0, size.to_ld, 1};
  call.accumulate = add;
  call.in = from;
  call.out = to;
  return run(call);
}

namespace {

/// Sizes of attention of a rank's rows to keys at row stride `kv_ld`.
kernels::AttentionSizes sizes_of(std::int64_t heads, std::int64_t kv_heads,
                                 std::int64_t dim, std::int64_t q_tokens,
                                 std::int64_t kv_tokens, std::int64_t kv_ld) {
  kernels::AttentionSizes s;
  s.q_tokens = q_tokens;
  s.kv_tokens = kv_tokens;
  s.heads = heads;
  s.kv_heads = kv_heads;
  s.head_dim = dim;
  s.q_ld = (heads + 2 * kv_heads) * dim;
  s.kv_ld = kv_ld;
  s.out_ld = heads * dim;
  return s;
}

/// Queries at `q`, keys at `kv` and values after the keys' heads.
template <typename Call>
void bind(Call& call, const std::byte* q, const std::byte* kv,
          std::int64_t kv_bytes) {
  call.q = q;
  call.k = kv;
  call.v = kv + kv_bytes;
}

void use_documents(const Rows& rows, kernels::AttentionSizes& s) {
  s.sequences = rows.documents;
  s.max_q = s.max_kv = rows.longest;
  s.q_starts = s.kv_starts = ints(rows.starts);
  s.uniform = rows.bounds.front() == 0 &&
              rows.documents * rows.longest == rows.bounds.back();
}

/// A chunk's entries, with their arrays on the device.
struct Uploaded {
  Buffer q, kv;
  static Result<Uploaded> of(Device& device, const ChunkAttention& c,
                             kernels::AttentionSizes& s) {
    Uploaded out;
    TRY(out.q, upload(device, c.q_starts));
    TRY(out.kv, upload(device, c.kv_starts));
    s.sequences = std::ssize(c.q_starts) - 1;
    s.max_q = c.longest_q;
    s.max_kv = c.longest_kv;
    s.causal = c.causal;
    s.q_starts = ints(out.q);
    s.kv_starts = ints(out.kv);
    return out;
  }
};

}  // namespace

Result<void> Interpreter::Runner::attention(const Frame& f, const Op& op) {
  const Heads h = heads();
  const std::int64_t e = size_of_type();
  const std::byte* const qkv = f.data[op.inputs[0]];
  kernels::AttentionForward call{.dtype = program_.dtype};
  call.sizes =
      sizes_of(h.q, h.kv, h.dim, f.rows->tokens, f.rows->tokens, h.width());
  call.sizes.causal = schedule_.numerics.causal;
  call.sizes.window = op.shape.window;
  use_documents(*f.rows, call.sizes);
  bind(call, qkv, qkv + e * h.q_width(), e * h.kv_width());
  call.out = f.data[op.outputs[0]];
  call.lse = f.data[op.outputs[1]];
  return run(call);
}

Result<void> Interpreter::Runner::attention_gradient(const Frame& f,
                                                     const Op& op) {
  const Heads h = heads();
  const std::int64_t e = size_of_type();
  const std::byte* const qkv = f.data[op.inputs[1]];
  std::byte* const d_qkv = f.data[op.outputs[0]];
  kernels::AttentionBackward call{.dtype = program_.dtype};
  call.sizes =
      sizes_of(h.q, h.kv, h.dim, f.rows->tokens, f.rows->tokens, h.width());
  call.sizes.causal = schedule_.numerics.causal;
  call.sizes.window = op.shape.window;
  use_documents(*f.rows, call.sizes);
  bind(call, qkv, qkv + e * h.q_width(), e * h.kv_width());
  call.out = f.data[op.inputs[2]];
  call.lse = f.data[op.inputs[3]];
  call.d_out = f.data[op.inputs[0]];
  call.dq = d_qkv;
  call.dk = d_qkv + e * h.q_width();
  call.dv = d_qkv + e * (h.q_width() + h.kv_width());
  return run(call);
}

Result<void> Interpreter::Runner::round(const Frame& f, const Op& op) {
  const Heads h = heads();
  const std::int64_t e = size_of_type();
  const std::size_t source = source_member(op.round);
  const std::int64_t kv_tokens = f.rows->member_tokens[source];
  const std::int64_t tokens = f.rows->tokens;
  const std::byte* const qkv = f.data[op.inputs[0]];
  const bool own = op.round == 0;
  const std::byte* const kv =
      own ? qkv + e * h.q_width() : f.data[op.inputs[1]];
  const std::vector<ChunkAttention> chunks =
      chunk_attention(f.rows->member_rows[member_], f.rows->member_rows[source],
                      f.rows->bounds);
  TRY(Buffer out, Buffer::of(device_, Bytes{e * tokens * h.q_width()}));
  TRY(Buffer lse,
      Buffer::of(device_, kernels::size_of(wide_) * (tokens * h.q)));
  for (std::size_t c = 0; c < chunks.size(); ++c) {
    kernels::AttentionForward call{.dtype = program_.dtype};
    call.sizes = sizes_of(h.q, h.kv, h.dim, tokens, kv_tokens,
                          own ? h.width() : 2 * h.kv_width());
    TRY(const Uploaded starts, Uploaded::of(device_, chunks[c], call.sizes));
    bind(call, qkv, kv, e * h.kv_width());
    call.out = out.data();
    call.lse = lse.data();
    TRY_DO(run(call));
    kernels::AttentionMerge merge{.dtype = program_.dtype};
    merge.tokens = tokens;
    merge.heads = h.q;
    merge.head_dim = h.dim;
    merge.first = own && c == 0;
    merge.out = out.data();
    merge.out_lse = lse.data();
    merge.sum = f.data[op.outputs[2]];
    merge.lse = f.data[op.outputs[1]];
    TRY_DO(run(merge));
  }
  if (op.round + 1U < stage_.members.size()) return {};
  kernels::Cast cast{
      .from = wide_, .to = program_.dtype, .elements = tokens * h.q_width()};
  cast.in = f.data[op.outputs[2]];
  cast.out = f.data[op.outputs[0]];
  return run(cast);
}

Result<void> Interpreter::Runner::round_gradient(const Frame& f, const Op& op) {
  const Heads h = heads();
  const std::int64_t e = size_of_type();
  const std::size_t source = source_member(op.round);
  const std::int64_t kv_tokens = f.rows->member_tokens[source];
  const std::int64_t tokens = f.rows->tokens;
  const bool own = op.round == 0;
  const std::byte* const qkv = f.data[op.inputs[1]];
  std::byte* const d_qkv = f.data[op.outputs[0]];
  const std::byte* const kv =
      own ? qkv + e * h.q_width() : f.data[op.inputs[4]];
  const std::int64_t kv_ld = own ? h.width() : 4 * h.kv_width();
  // Gradients of keys and values: beside their own, or travelling with them.
  std::byte* const d_kv = own ? d_qkv + e * h.q_width()
                              : f.data[op.outputs[1]] + e * 2 * h.kv_width();
  TRY(Buffer dq, Buffer::of(device_, Bytes{e * tokens * h.width()}));
  TRY(Buffer dk, Buffer::of(device_, Bytes{e * kv_tokens * kv_ld}));
  TRY(Buffer dv, Buffer::of(device_, Bytes{e * kv_tokens * kv_ld}));
  for (const ChunkAttention& chunk :
       chunk_attention(f.rows->member_rows[member_],
                       f.rows->member_rows[source], f.rows->bounds)) {
    kernels::AttentionBackward call{.dtype = program_.dtype};
    call.sizes = sizes_of(h.q, h.kv, h.dim, tokens, kv_tokens, kv_ld);
    TRY(const Uploaded starts, Uploaded::of(device_, chunk, call.sizes));
    bind(call, qkv, kv, e * h.kv_width());
    call.out = f.data[op.inputs[2]];
    call.lse = f.data[op.inputs[3]];
    call.d_out = f.data[op.inputs[0]];
    call.dq = dq.data();
    call.dk = dk.data();
    call.dv = dv.data();
    TRY_DO(run(call));
    TRY_DO(copy_block({tokens, h.q_width(), h.width(), h.width()}, dq.at({}),
                      d_qkv, true));
    TRY_DO(copy_block({kv_tokens, h.kv_width(), kv_ld, kv_ld}, dk.at({}), d_kv,
                      true));
    TRY_DO(copy_block({kv_tokens, h.kv_width(), kv_ld, kv_ld}, dv.at({}),
                      d_kv + e * h.kv_width(), true));
  }
  return {};
}

Result<void> Interpreter::Runner::home(const Frame& f, const Op& op) {
  const Heads h = heads();
  const std::int64_t e = size_of_type();
  return copy_block(
      {f.rows->tokens, 2 * h.kv_width(), 4 * h.kv_width(), h.width()},
      f.data[op.inputs[0]] + e * 2 * h.kv_width(),
      f.data[op.outputs[0]] + e * h.q_width(), true);
}

Result<void> Interpreter::Runner::shift(const Frame& f, const Op& op,
                                        Time& time) {
  const Heads h = heads();
  const std::int64_t e = size_of_type();
  const std::int64_t kv2 = 2 * h.kv_width();
  const std::size_t members = stage_.members.size();
  const bool gradient = op.action == Action::ring_shift_gradient;
  const bool first = op.round == 1;
  const bool last = gradient && op.round == members;
  const std::int64_t full = gradient ? 2 * kv2 : kv2;  // of a held row
  const std::int64_t sent = gradient && !first && !last ? 2 * kv2 : kv2;
  const std::int64_t skip = last ? kv2 : 0;
  const std::int64_t going =
      f.rows->member_tokens[source_member(op.round - 1U)];
  const std::int64_t coming = f.rows->member_tokens[source_member(op.round)];

  const std::byte* const held = f.data[op.inputs[0]];
  TRY(Buffer packed, Buffer::of(device_, Bytes{e * going * sent}));
  TRY_DO(copy_block({going, sent, first ? h.width() : full, sent},
                    held + e * (first ? h.q_width() : skip), packed.at({})));
  const RankId to = context_group_[(member_ + 1) % members];
  const RankId from = context_group_[(member_ + members - 1) % members];
  TRY_DO(communicator_.send(to, kRing, bytes(packed.at({}), packed.size().v),
                            time));
  TRY(Buffer arrived, Buffer::of(device_, Bytes{e * coming * sent}));
  Time sender;
  TRY_DO(communicator_.receive(
      from, kRing, bytes(arrived.at({}), arrived.size().v), sender));
  time = std::max(time, sender);
  return copy_block({coming, sent, sent, full}, arrived.at({}),
                    f.data[op.outputs[0]] + e * skip);
}

}  // namespace troupe::exec
