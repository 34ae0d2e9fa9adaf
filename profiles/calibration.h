// Efficiency curves of a device kind, fitted to its measured operators, and
// the time they give an operator that nobody measured. Everything fitted is
// fitted here: per device kind or per library, never per case.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "clusters/cluster.h"
#include "kernels/operator.h"
#include "profiles/cost.h"
#include "profiles/rows.h"

namespace troupe::profiles {

/// Matrix products.
///
/// Model: t = overhead + (c^4 + m^4)^(1/4); m = bytes / (bandwidth x memory);
///        c = w x 2 tm tn (k + k0) / (r x efficiency x peak / SMs), where w
///        is the number of waves of tm x tn tiles over the SMs, half of the
///        last wave's idle share counted, and (tm, tn, r) is the fastest of
///        four tiles. Rises with every size.
struct GemmFit {
  double efficiency = 0.75;
  double k0 = 64;          ///< depth that filling the pipeline costs
  double overhead = 4e-6;  ///< seconds
  double memory = 0.85;
  double error = 0.3;  ///< median relative error of the fit
};

/// Fused attention.
///
/// Model: t = overhead + (work / SMs + latency x longest block) / rate, with
///        blocks of 128 queries and heads padded to a multiple of 32.
struct AttentionFit {
  double efficiency = 0.55;
  double latency = 0.6;
  double error = 0.3;
};

/// Kinds bound by memory: t = overhead + bytes / (bandwidth x memory).
struct StreamFit {
  double overhead = 3e-6;
  double memory = 0.85;
  double error = 0.3;
};

/// Classes that are fitted and, where a kind has no rows, borrowed apart.
enum class CurveClass : std::uint8_t { gemm, forward, backward, stream };

/// All curves of one kind, and where each came from.
struct Curves {
  GemmFit gemm;
  AttentionFit forward;
  AttentionFit backward = {.efficiency = 0.45};
  std::array<StreamFit, kernels::kOpKinds> stream;
  std::vector<std::string> notes;
};

/// Seconds of `op` on `kind`; zero for an operator without size.
double roofline(const kernels::OpShape& op, const clusters::DeviceKind& kind,
                const Curves& curves);
/// The expected relative error of `roofline`.
double roofline_error(const kernels::OpShape& op, const Curves& curves);

/// The curve of the kernel that `op` names, from that of the tuned one.
AttentionFit kernel_fit(const AttentionFit& tuned, const kernels::OpShape& op,
                        std::string_view device);

/// Dense peak for the type, or of the closest type the kind has.
double peak_of(const clusters::DeviceKind& kind, kernels::DType dtype);

/// Fits; fewer rows than `kLeastRows` leave the default.
inline constexpr std::size_t kLeastRows = 8;
GemmFit fit_gemm(std::span<const OperatorRow> rows,
                 const clusters::DeviceKind& kind);
AttentionFit fit_attention(std::span<const OperatorRow> rows,
                           const clusters::DeviceKind& kind);
StreamFit fit_stream(std::span<const OperatorRow> rows,
                     const clusters::DeviceKind& kind);
/// The measured operator kind whose memory efficiency stands for another's.
kernels::OpKind stream_like(kernels::OpKind kind);

/// Corrects borrowed matrix efficiencies so that whole stages of the fit
/// `rows` take the measured time: median over rows of the least TP degree.
void scale_to_stages(std::span<const StageRow> rows,
                     const clusters::DeviceKind& kind, Curves& curves);

/// Lowers borrowed efficiencies of a kind to what its power limit sustains;
/// nothing for a kind that is not known to throttle.
void limit_power(const clusters::DeviceKind& kind, Curves& curves);

/// Link efficiency of a class that no table of the database gives.
LinkEfficiency default_link(clusters::LinkClass link_class);
/// From all-reduces within a node; `rows` of one board, any sizes.
LinkEfficiency fit_nvlink(std::span<const CollectiveRow> rows);
/// Nominal NVLink bytes per second, one direction; 0 when it has none.
double nvlink_of(std::string_view device);

}  // namespace troupe::profiles
