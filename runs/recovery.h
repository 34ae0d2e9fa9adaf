// Which training state outlives a loss of devices: for every element of every
// tensor, who kept it, who still does, and what is gone.
#pragma once

#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "models/parameters.h"
#include "reshard/layout.h"
#include "runs/elastic_trace.h"
#include "strategy/layouts.h"

namespace troupe::runs {

using reshard::Box;
using reshard::Layout;
using reshard::Shape;

/// What is kept of a parameter from step to step.
enum class StateKind : std::uint8_t {
  compute,        ///< the copy that forward and backward multiply with
  master,         ///< fp32; only where the working type is narrower
  first_moment,   ///< fp32
  second_moment,  ///< fp32
};
inline constexpr std::size_t kStateKinds = 4;
std::string_view name_of(StateKind kind);

/// Everything a strategy keeps, and where.
///
/// Model: after a step every replica has the compute copy (under ZeRO 3 each
///        only its share), and the optimizer's layout has master and moments:
///        under ZeRO 1 to 3 a single owner for each element. With `peers` k,
///        an element whose owners are on fewer than k + 1 nodes also has
///        copies on devices of the next nodes in use. The compute copy of a
///        narrow type cannot restore a master copy or a moment, but a master
///        copy restores it.
class Keeping {
 public:
  /// Tensors with equal shapes and layouts.
  struct Class {
    Shape shape;
    strategy::Annotation compute, optimizer, gradient;
    Layout compute_held, optimizer_held;
    /// Copies of the optimizer's tensors (of the compute copy too, where it is
    /// itself the master), on peers.
    Layout copies, compute_copies;
    std::int64_t elements() const;
  };

  Keeping(const Candidate& candidate,
          const std::vector<models::Parameter>& parameters,
          const models::Model& model, const clusters::Cluster& cluster,
          int peers);

  const std::vector<Class>& classes() const { return classes_; }
  const Class& of(std::size_t parameter) const {
    return classes_[class_of_[parameter]];
  }
  std::size_t class_of(std::size_t parameter) const {
    return class_of_[parameter];
  }
  std::size_t parameters() const { return class_of_.size(); }
  /// Whether there is a master copy beside the compute copy.
  bool narrow() const { return narrow_; }
  /// Of an element of a kind; 0 for a master that does not exist.
  std::int64_t element_bytes(StateKind kind) const;
  /// Of an element in all of the optimizer's tensors.
  std::int64_t optimizer_bytes() const { return narrow_ ? 12 : 8; }
  kernels::DType dtype() const { return dtype_; }
  /// Of an element of a gradient.
  std::int64_t gradient_bytes() const {
    return kernels::size_of(gradient_dtype_).v;
  }
  const strategy::Annotation& annotation(std::size_t parameter,
                                         StateKind kind) const;

  /// Bytes of state by device, with the copies for peers.
  std::vector<std::int64_t> bytes_by_device() const;
  /// Of them, the copies for peers.
  std::vector<std::int64_t> copies_by_device() const;
  /// A box of which a peer has a copy, and the owner that sends it.
  struct Copy {
    DeviceId from, to;
    Box box;
  };
  /// Of the optimizer's tensors of a class.
  static std::vector<Copy> sends_of(const Class& one);
  /// What owners send to peers after a step.
  struct Update {
    DeviceId from, to;
    std::int64_t bytes = 0;
    auto operator<=>(const Update&) const = default;
  };
  /// One entry for each pair, ascending.
  std::vector<Update> updates() const;

 private:
  void add_copies(Class& one, const clusters::Cluster& cluster) const;

  std::vector<Class> classes_;
  std::vector<std::size_t> class_of_;
  std::vector<DeviceId> devices_;
  std::size_t device_count_ = 0;
  kernels::DType dtype_, gradient_dtype_;
  bool narrow_ = true;
  int peers_ = 0;
};

/// A box that no survivor has, with the devices that had it.
struct LostBox {
  std::size_t parameter = 0;
  StateKind kind = StateKind::master;
  Box box;
  std::vector<DeviceId> owners;  ///< all lost
};

/// Elements that a lost device held, by what becomes of them. They sum to
/// what lost devices held (each element once).
struct Fate {
  std::int64_t replica = 0;  ///< another owner has it
  std::int64_t peer = 0;     ///< only a copy for redundancy is left
  std::int64_t cast = 0;     ///< compute copies: a master copy is left
  std::int64_t lost = 0;
  std::int64_t touched() const { return replica + peer + cast + lost; }
  Fate& operator+=(const Fate& more);
  bool operator==(const Fate&) const = default;
};

/// What is left of a strategy's state after devices are gone.
struct Survival {
  std::array<Fate, kStateKinds> bytes;                  ///< of each kind
  std::array<std::int64_t, kStateKinds> total_bytes{};  ///< each element once
  /// Gradient summands of the step under way that are gone with their only
  /// holder; the step is done again, whatever else survives.
  std::int64_t gradient_bytes_lost = 0;
  std::vector<LostBox> lost;  ///< the first kMostLost
  std::int64_t lost_boxes = 0;
  /// Who has what now, by class, of the compute copies (also by cast) and of
  /// the optimizer's tensors; one entry for each device, nothing twice.
  std::vector<std::shared_ptr<const Layout>> compute, optimizer;
  /// Boxes that are gone, by class.
  std::vector<std::vector<Box>> compute_lost, optimizer_lost;
  bool complete() const { return lost_boxes == 0; }
};
inline constexpr std::int64_t kMostLost = 1000;

/// Errors: infeasible, when layouts cut a tensor too finely.
[[nodiscard]] Result<Survival> survival_of(const Keeping& keeping,
                                           const std::set<DeviceId>& gone);

/// "layers.3.mlp.up master [0,1664)x[0,6656): held only by device 31".
std::string to_string(const LostBox& lost,
                      const std::vector<models::Parameter>& parameters);

/// All of them together: an entry for each device, in order of first
/// appearance, with each of its elements once.
Result<Layout> union_of(std::span<const Layout* const> layouts,
                        std::size_t dimensions);

}  // namespace troupe::runs
