// The clock of a run. Internal to this folder.
#pragma once

#include <set>

#include "runs/elastic_chooser.h"
#include "runs/recovery_plan.h"

namespace troupe::runs {

class Runner {
 public:
  Runner(const Trace& trace, Policy policy, const Machinery& machinery);
  Result<Outcome> run();

 private:
  enum class Activity : std::uint8_t {
    step,
    save,
    detect,
    regroup,
    load,
    move,
    stopped,
  };
  /// Finished steps since the last checkpoint, which a loss may undo.
  struct Entry {
    std::int64_t steps = 0;
    Time useful;
    std::size_t segment = 0;
  };
  /// A change that waits for the end of a step (or of a save).
  struct Planned {
    Time due;
    std::string event;
    bool after_save = false;
  };

  Result<void> begin();
  Result<void> advance(Time until);
  Result<void> begin_step(Time until);
  Result<void> finish();
  void finish_steps(std::int64_t steps, Time spent);
  void finish_save();
  Result<void> handle(const Event& event);
  /// A device in use, or a link, is gone.
  void interrupt(const Event& event);
  Result<void> respond(const Event& event);
  /// After detection, or at the end of a step: what next?
  Result<void> decide();
  Result<void> begin_planned();
  /// The plan of a change to `next`; false when the run cannot go on.
  Result<bool> prepare(const Considered& next);
  /// What `recovery_` does, for the report.
  void record(const Considered& next, Survival left, bool reads);
  Result<void> arrive();
  /// The steps since the checkpoint did not live.
  void void_steps();
  /// At the end: whether what the last steps made is still anywhere.
  Result<void> count_losses();
  void stop(std::string why, bool for_good);
  void open_segment();
  void close_segment();
  void start(Activity activity, Time length);
  void spend(Time time);
  Change& change() { return out_.changes.back(); }
  bool changing() const {
    return activity_ != Activity::step && activity_ != Activity::save &&
           activity_ != Activity::stopped;
  }
  Result<Outcome> take();

  const Trace& trace_;
  Policy policy_;
  Chooser chooser_;
  Outcome out_;
  Condition condition_;
  std::set<DeviceId> gone_;  ///< whose state is lost, since the last change
  Considered running_;       ///< whose state devices hold
  std::optional<Considered> next_;
  const Candidate* begun_with_ = nullptr;
  Recovery recovery_;
  Activity activity_ = Activity::step;
  Time now_, left_, spent_;
  std::int64_t step_ = 0, checkpoint_step_ = 0;
  std::vector<Entry> ledger_;
  std::optional<Planned> planned_;
  bool segment_open_ = false;
  int named_ = -1;
  /// Devices hold a later step than `step_`: a roll-back is under way.
  bool stale_ = false;
  bool dead_ = false;  ///< stopped for good
  double peak_seconds_ = 0;
};

}  // namespace troupe::runs
