// What was measured in traces before it becomes rows: every single time, so
// that the traces of several ranks of one run can be made one.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "profiles/gather.h"
#include "profiles/repeats.h"

namespace troupe::profiles {

/// A collective kernel.
struct TraceCollective {
  std::string device = {};
  clusters::Collective collective{};
  int ranks = 0;
  int per_node = 0;
  std::int64_t bytes = 0;  ///< as in CollectiveRow
  double seconds = 0;
  double start = 0;         ///< orders those of one member
  std::string group = {};   ///< the ranks that take part; empty when unknown
  std::string member = {};  ///< the one of them that this kernel ran on
};

/// Times of collectives by who took part.
class CollectiveSamples {
 public:
  void add(const TraceCollective& collective);
  void add(const CollectiveSamples& other);

  /// Rows with their medians. Of a collective that several members of its
  /// group recorded the shortest time counts: the others waited in it for the
  /// last to come. Where members recorded unequal numbers of collectives, the
  /// times of the member with the least median stand for all.
  void into(Gather& gather, const std::string& where) const;

 private:
  struct Sample {
    double start = 0;
    double seconds = 0;
  };
  using Members = std::map<std::string, std::vector<Sample>>;
  struct Entry {
    CollectiveRow row;
    std::map<std::string, Members> groups;
  };
  static std::vector<double> least(const Members& members);

  std::map<std::string, Entry> rows_;
};

/// All of a trace, or of several.
struct TraceSamples {
  struct LeftOut {
    int kernels = 0;
    double seconds = 0;
  };
  Repeats<OperatorRow> operators = {};
  Repeats<CopyRow> copies = {};
  CollectiveSamples collectives = {};
  std::map<std::string, LeftOut> left_out = {};  ///< by reason

  void leave_out(const std::string& reason, double seconds, int kernels = 1);
  /// Those of another rank of the same run.
  void add(const TraceSamples& other);
  /// All rows; what was left out as one refusal for each reason, the one that
  /// took longest first.
  void into(Gather& gather, const std::string& where) const;
};

/// The trace of one rank of a run.
struct RankTrace {
  std::string run = {};  ///< what all ranks of it say alike
  int rank = 0;
  int world = 0;
  std::int64_t began = 0;  ///< seconds since 1970; 0 when unknown
  TraceSamples samples = {};
};

}  // namespace troupe::profiles
