// Which rows the curves of a kind are fitted to: its own, else those of the
// closest kinds that have some.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "clusters/kinds.h"
#include "profiles/calibration.h"
#include "profiles/database.h"

namespace troupe::profiles {

/// Fits curves of several kinds; what they share is fitted once.
class Fitter {
 public:
  explicit Fitter(const Database& database) : database_(database) {}

  /// Rows of `kind` already read; saves reading them again.
  void know(const clusters::DeviceKind& kind,
            const std::vector<OperatorRow>& operators);

  /// Fitted or borrowed curves; `notes` names the lenders.
  Result<Curves> curves(const clusters::DeviceKind& kind,
                        const std::vector<StageRow>& stages);

 private:
  using Key = std::pair<std::string, kernels::OpKind>;
  template <typename Fit>
  using Cache = std::map<Key, Fit>;

  Result<void> prepare();
  bool has(const std::string& device, kernels::OpKind op) const;
  std::vector<std::string> lenders(const std::string& name,
                                   kernels::OpKind op) const;
  Result<const clusters::DeviceKind*> kind_named(const std::string& name);
  template <typename Fit, typename Function>
  Result<Fit> fit(const std::string& name, kernels::OpKind op, Fit fallback,
                  Function function, Cache<Fit>& cache);
  Result<void> streams(const std::string& name, Curves& curves);
  void note_borrowed(const std::string& name, Curves& curves);

  const Database& database_;
  bool prepared_ = false;
  std::map<Key, std::int64_t> counts_;
  std::map<std::string, clusters::DeviceKind> kinds_;
  std::optional<clusters::KindTable> shipped_;
  std::map<Key, std::vector<OperatorRow>> rows_;
  Cache<GemmFit> gemms_;
  Cache<AttentionFit> attentions_;
  Cache<StreamFit> streams_;
  std::map<kernels::OpKind, std::vector<std::string>> borrowed_;
};

}  // namespace troupe::profiles
