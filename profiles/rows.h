// The rows of the profile database as plain values, and one list of their
// fields that every reader, writer and SQL statement goes through.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "clusters/collective.h"
#include "kernels/operator.h"
#include "profiles/cost.h"

namespace troupe::profiles {

/// Where rows come from. The name is unique in a database.
struct Source {
  std::string name = {};
  std::string kind = {};       ///< "measured", "fitted" or "published"
  std::string file = {};       ///< as it was called; several joined by "; "
  std::string file_hash = {};  ///< their content hashes
  std::string date = {};       ///< of the measurement, ISO 8601, may be partial
  std::string licence = {};
  std::string libraries = {};  ///< what ran: "vLLM 0.4, CUDA 12.1"
  std::string citation = {};   ///< URL or paper
  std::string note = {};
};

/// Whether `one` is among names or hashes of files joined by "; ".
bool lists(std::string_view all, std::string_view one);

/// A device kind that rows name: shipped (clusters/devices), or declared.
struct DeviceName {
  std::string name;
  std::string architecture;  ///< "ampere", "hopper", ...
};

/// One operator on one device.
struct OperatorRow {
  std::string device;
  kernels::OpShape op;
  double time_s = 0;
  double spread = 0;  ///< relative standard deviation, 0 when unknown
  int samples = 0;    ///< 0 when unknown
};

/// One layer, embedding or head, tensor-parallel collectives inside.
struct LayerRow {
  std::string device;
  LayerKey key;
  bool scaled = false;  ///< from a measured micro-batch by a measured factor
  double time_s = 0;
  double spread = 0;
  int samples = 0;
};

/// Forward and backward of one pipeline stage: either `time_s` at `seq_len`,
/// or the fit a s^2 + b s + c (seconds, s tokens in one micro-batch) between
/// `min_seq` and `max_seq`.
struct StageRow {
  std::string device;
  std::string model = {};
  int hidden = 0;
  int layers = 0;
  int vocab = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int ffn = 0;
  bool gated = true;
  kernels::DType dtype = kernels::DType::bf16;
  int tp = 1;
  int pp = 1;
  int micro_batch = 1;
  int seq_len = 0;    ///< 0 for a fit
  double time_s = 0;  ///< 0 for a fit
  double a = 0;
  double b = 0;
  double c = 0;
  int min_seq = 0;
  int max_seq = 0;
};

/// One collective among equal devices. Bytes are what nccl-tests prints: the
/// whole (gathered) buffer of a rank, or the message of a send.
struct CollectiveRow {
  std::string device;
  clusters::Collective collective = clusters::Collective::all_reduce;
  int ranks = 2;
  int per_node = 2;
  std::int64_t bytes = 0;
  double time_s = 0;
  double spread = 0;
  int samples = 0;
};

/// One copy between memories of a machine.
struct CopyRow {
  std::string device;
  CopyRoute route = CopyRoute::device;
  std::int64_t bytes = 0;
  double time_s = 0;
  double spread = 0;
  int samples = 0;
};

/// Whether a field must be given in a file.
enum class Need : std::uint8_t { required, optional };

template <typename T, typename Row>
concept Same = std::same_as<std::remove_const_t<T>, Row>;

/// Calls f(name, field, need) for every field, in the order of the columns.
template <Same<OperatorRow> Row, typename F>
void fields(Row& r, F&& f) {
  f("device", r.device, Need::required);
  f("op", r.op.kind, Need::required);
  f("dtype", r.op.dtype, Need::required);
  f("dims", r.op.dim, Need::required);
  f("causal", r.op.causal, Need::optional);
  f("gated", r.op.gated, Need::optional);
  f("window", r.op.window, Need::optional);
  f("time_s", r.time_s, Need::required);
  f("spread", r.spread, Need::optional);
  f("samples", r.samples, Need::optional);
}

template <Same<LayerRow> Row, typename F>
void fields(Row& r, F&& f) {
  f("device", r.device, Need::required);
  f("part", r.key.part, Need::required);
  f("backward", r.key.backward, Need::required);
  f("hidden", r.key.hidden, Need::required);
  f("heads", r.key.heads, Need::optional);
  f("kv_heads", r.key.kv_heads, Need::optional);
  f("head_dim", r.key.head_dim, Need::optional);
  f("ffn", r.key.ffn, Need::optional);
  f("gated", r.key.gated, Need::optional);
  f("vocab", r.key.vocab, Need::optional);
  f("tp", r.key.tp, Need::required);
  f("micro_batch", r.key.micro_batch, Need::required);
  f("seq_len", r.key.seq_len, Need::required);
  f("dtype", r.key.dtype, Need::required);
  f("cross", r.key.cross, Need::optional);
  f("window", r.key.window, Need::optional);
  f("scaled", r.scaled, Need::optional);
  f("time_s", r.time_s, Need::required);
  f("spread", r.spread, Need::optional);
  f("samples", r.samples, Need::optional);
}

template <Same<StageRow> Row, typename F>
void fields(Row& r, F&& f) {
  f("device", r.device, Need::required);
  f("model", r.model, Need::optional);
  f("hidden", r.hidden, Need::required);
  f("layers", r.layers, Need::required);
  f("vocab", r.vocab, Need::required);
  f("heads", r.heads, Need::required);
  f("kv_heads", r.kv_heads, Need::required);
  f("head_dim", r.head_dim, Need::required);
  f("ffn", r.ffn, Need::required);
  f("gated", r.gated, Need::required);
  f("dtype", r.dtype, Need::required);
  f("tp", r.tp, Need::required);
  f("pp", r.pp, Need::required);
  f("micro_batch", r.micro_batch, Need::optional);
  f("seq_len", r.seq_len, Need::optional);
  f("time_s", r.time_s, Need::optional);
  f("a", r.a, Need::optional);
  f("b", r.b, Need::optional);
  f("c", r.c, Need::optional);
  f("min_seq", r.min_seq, Need::optional);
  f("max_seq", r.max_seq, Need::optional);
}

template <Same<CollectiveRow> Row, typename F>
void fields(Row& r, F&& f) {
  f("device", r.device, Need::required);
  f("collective", r.collective, Need::required);
  f("ranks", r.ranks, Need::required);
  f("per_node", r.per_node, Need::required);
  f("bytes", r.bytes, Need::required);
  f("time_s", r.time_s, Need::required);
  f("spread", r.spread, Need::optional);
  f("samples", r.samples, Need::optional);
}

template <Same<CopyRow> Row, typename F>
void fields(Row& r, F&& f) {
  f("device", r.device, Need::required);
  f("route", r.route, Need::required);
  f("bytes", r.bytes, Need::required);
  f("time_s", r.time_s, Need::required);
  f("spread", r.spread, Need::optional);
  f("samples", r.samples, Need::optional);
}

template <Same<Source> Row, typename F>
void fields(Row& r, F&& f) {
  f("source", r.name, Need::required);
  f("kind", r.kind, Need::optional);
  f("file", r.file, Need::optional);
  f("file_hash", r.file_hash, Need::optional);
  f("date", r.date, Need::optional);
  f("licence", r.licence, Need::optional);
  f("libraries", r.libraries, Need::optional);
  f("citation", r.citation, Need::optional);
  f("note", r.note, Need::optional);
}

template <typename Row>
inline constexpr std::string_view kTable = "";
template <>
inline constexpr std::string_view kTable<OperatorRow> = "operators";
template <>
inline constexpr std::string_view kTable<LayerRow> = "layers";
template <>
inline constexpr std::string_view kTable<StageRow> = "stages";
template <>
inline constexpr std::string_view kTable<CollectiveRow> = "collectives";
template <>
inline constexpr std::string_view kTable<CopyRow> = "copies";

/// Why a row cannot be true, or nothing: NaN, zero or negative times, sizes
/// beyond reason, more FLOP/s than any device has.
std::optional<std::string> problem_of(const OperatorRow& row);
std::optional<std::string> problem_of(const LayerRow& row);
std::optional<std::string> problem_of(const StageRow& row);
std::optional<std::string> problem_of(const CollectiveRow& row);
std::optional<std::string> problem_of(const CopyRow& row);

std::string_view name_of(Part part);
std::optional<Part> parse_part(std::string_view name);

/// `value` to that many significant digits, as published tables have.
double rounded(double value, int digits);

/// Field values as text and back; reading returns false for other words.
std::string to_text(const std::string& value);
std::string to_text(bool value);
std::string to_text(int value);
std::string to_text(std::int64_t value);
std::string to_text(double value);  ///< shortest that reads back the same
std::string to_text(kernels::DType value);
std::string to_text(kernels::OpKind value);
std::string to_text(clusters::Collective value);
std::string to_text(Part value);
std::string to_text(CopyRoute value);
std::string to_text(const std::array<std::int64_t, 6>& value);  ///< "1x2x3"
bool from_text(std::string_view text, std::string& value);
bool from_text(std::string_view text, bool& value);
bool from_text(std::string_view text, int& value);
bool from_text(std::string_view text, std::int64_t& value);
bool from_text(std::string_view text, double& value);
bool from_text(std::string_view text, kernels::DType& value);
bool from_text(std::string_view text, kernels::OpKind& value);
bool from_text(std::string_view text, clusters::Collective& value);
bool from_text(std::string_view text, Part& value);
bool from_text(std::string_view text, CopyRoute& value);
bool from_text(std::string_view text, std::array<std::int64_t, 6>& value);

/// The rows of one source.
struct Section {
  Source source;
  std::vector<DeviceName> devices;  ///< beyond the built-in ones
  std::vector<OperatorRow> operators;
  std::vector<LayerRow> layers;
  std::vector<StageRow> stages;
  std::vector<CollectiveRow> collectives;
  std::vector<CopyRow> copies;

  template <typename Row>
  std::vector<Row>& rows() {
    if constexpr (std::same_as<Row, OperatorRow>) return operators;
    if constexpr (std::same_as<Row, LayerRow>) return layers;
    if constexpr (std::same_as<Row, StageRow>) return stages;
    if constexpr (std::same_as<Row, CollectiveRow>) return collectives;
    if constexpr (std::same_as<Row, CopyRow>) return copies;
  }
};

}  // namespace troupe::profiles
