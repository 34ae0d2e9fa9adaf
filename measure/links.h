// What the links of a machine give: copies in memory and with the host,
// copies between pairs of devices, and collectives by group and size.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "clusters/collective.h"
#include "measure/machine.h"
#include "measure/timing.h"
#include "profiles/database.h"

namespace troupe::measure {

/// Equal devices of one machine, numbered from 0, and what can be timed
/// between them.
class LinkMachine {
 public:
  virtual ~LinkMachine() = default;
  virtual int devices() const = 0;
  /// peer_nvlink, peer_pcie or peer_host.
  virtual Result<Route> path(int from, int to) = 0;
  /// Why there are no collectives; empty where there are.
  virtual std::string no_collectives() const = 0;
  /// Versions of what communicates ("NCCL 2.28.9"), may be empty.
  virtual std::string libraries() const = 0;
  /// The largest buffer that fits several times on every device.
  virtual Bytes largest() const = 0;

  /// Seconds of one of `runs` that begin one after another. `bytes` as in
  /// profiles::CollectiveRow; a multiple of 16 for every device.
  ///
  /// Errors: io when something fails or does not end in reasonable time.
  virtual Result<double> time_peer(int from, int to, Bytes bytes, int runs) = 0;
  /// Gives back the buffers that were needed so far.
  virtual void release() {}
  virtual Result<double> time_collective(clusters::Collective collective,
                                         std::span<const int> devices,
                                         Bytes bytes, int runs) = 0;
};

/// All GPUs of the kind of `device` ("cuda", "cuda:N"), by NCCL.
///
/// Errors: unavailable, with the reason: a processor, one GPU, no CUDA.
Result<std::unique_ptr<LinkMachine>> open_links(std::string_view device);

/// One curve by size: a copy or a collective.
struct LinkSeries {
  std::optional<clusters::Collective> collective = {};  ///< else a copy
  Route route = Route::device;                          ///< of a copy
  std::vector<int> devices = {};  ///< of a collective or a copy to a peer
  auto operator<=>(const LinkSeries&) const = default;
};
/// "all_reduce of 8", "copy peer_nvlink 0 to 1"
std::string to_string(const LinkSeries& series);

/// Every curve that the machine has, the most wanted first: memory and host;
/// the first pair of each path; groups of the first 2 to N devices, all N and
/// powers of two before the others. Messages (send_receive) go over the best
/// path only, as rows of two ranks are read.
///
/// Errors: from `path`.
Result<std::vector<LinkSeries>> wanted_links(const Machine& machine,
                                             LinkMachine* links);

/// The size that is measured for a power of two: every one of `ranks` gets a
/// multiple of 16 bytes.
Bytes shared_size(std::int64_t nominal, int ranks);

/// Chooses the next size of the next curve.
///
/// Model: sizes are powers of two from `least` to `most`. First every fourth
///        and the ends, curve by curve; then what is known worst. Time grows
///        with the size, time per byte does not: between two measured sizes
///        that bounds the time from both sides, and half of the logarithm of
///        the bounds' ratio is the error. Intervals within `accuracy` rest.
class LinkSampler {
 public:
  LinkSampler(std::size_t curves, Bytes least, Bytes most, double accuracy);

  struct Choice {
    std::size_t curve = 0;
    std::int64_t nominal = 0;
    auto operator<=>(const Choice&) const = default;
  };
  /// Nothing when all is known well enough.
  std::optional<Choice> next() const;
  void add(const Choice& at, double seconds);
  void drop(std::size_t curve);  ///< it cannot be measured
  /// Seconds that a measurement may take, from its neighbours; 0 unknown.
  double guess(const Choice& at) const;
  const std::vector<std::int64_t>& sizes() const { return sizes_; }

 private:
  using Points = std::map<std::int64_t, double>;
  std::vector<std::int64_t> sizes_, coarse_;
  std::vector<Points> curves_;
  std::vector<bool> dropped_;
  double accuracy_;
};

struct LinkOptions {
  double budget_s = 120;   ///< of wall time, measured from the call
  double accuracy = 0.05;  ///< of a size between two measured ones
  double batch_s = 5;      ///< rows are stored at least so often
  Bytes least{4096};
  Bytes most{std::int64_t{1} << 30};
  std::string source = {};  ///< of the rows
  /// Seconds since some moment; empty is the machine's steady clock.
  std::function<double()> clock = {};
};

struct MeasuredLink {
  LinkSeries series;
  Bytes bytes;
  Timing timing;
  bool known = false;  ///< read back: an earlier run of this source did it
};

struct LinkReport {
  /// Those read back, then the others in the order of measuring.
  std::vector<MeasuredLink> links;
  int remembered = 0;     ///< sizes that the database knew from this source
  int batches = 0;        ///< transactions
  bool complete = false;  ///< all known within the accuracy
  bool interrupted = false;
  std::vector<std::string> notes;  ///< what was skipped, and why
};

/// Called before each measurement: share of the budget used, what is next.
using Watch = std::function<void(double, std::string_view)>;

/// Measures copies and, where `links` is not null, what is between devices,
/// into the tables `copies` and `collectives`. Goes on where an earlier run
/// of the same source stopped. A curve that fails is left out with a note.
///
/// Errors: from the database; what was stored stays.
Result<LinkReport> measure_links(Machine& machine, LinkMachine* links,
                                 profiles::Database& database,
                                 const LinkOptions& options,
                                 const Watch& watch = {});

/// An empty section of this source, with the machine's provenance.
profiles::Section section_of(const MachineInfo& info, const std::string& source,
                             const std::string& more_libraries = {});
/// What its note says; `clocks` as far as they were read.
std::string note_of(const MachineInfo& info, const Clocks& clocks = {});

}  // namespace troupe::measure
