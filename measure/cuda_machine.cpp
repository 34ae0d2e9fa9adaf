#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/progress.h"
#include "kernels/cuda.h"
#include "kernels/cuda/cudnn_attention.h"
#include "measure/machine.h"
#include "measure/sm_clock.h"
#include "profiles/devices.h"

namespace troupe::measure {
namespace {

namespace cuda = kernels::cuda;

// Candidates that are timed for each new matrix product.
constexpr int kCandidates = 8;
// What stays free for the library's workspace and the driver.
constexpr std::int64_t kReserve =
    cuda::AttentionChoice{}.workspace.v + (std::int64_t{2} << 30);

class CudaArray final : public Array {
 public:
  explicit CudaArray(cuda::Buffer buffer) : buffer_(std::move(buffer)) {}
  void* data() override { return buffer_.data(); }

 private:
  cuda::Buffer buffer_;
};

std::string version(int number) {
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

MachineInfo info_of(const cuda::DeviceInfo& device, int devices) {
  MachineInfo info;
  info.full_name = device.name;
  info.device = profiles::device_alias(device.name)
                    .value_or(device_slug("", device.name));
  info.architecture = std::string(profiles::architecture_of(info.device));
  if (info.architecture.empty()) {
    info.architecture = fmt::format("sm_{}{}", device.major, device.minor);
  }
  info.libraries = fmt::format("CUDA {}, driver {}, cuBLASLt {}, cuDNN {}",
                               version(device.runtime_version),
                               version(device.driver_version), device.cublaslt,
                               device.cudnn);
  if (device.clock_mhz > 0) {
    info.clocks = fmt::format("up to {:.0f} MHz, memory {:.0f} MHz",
                              device.clock_mhz, device.memory_clock_mhz);
  }
  info.memory = {std::max<std::int64_t>(device.free_memory.v - kReserve, 0)};
  info.cache = device.l2_cache;
  info.devices = devices;
  return info;
}

using Clock = std::chrono::steady_clock;

double since(Clock::time_point from) {
  return std::chrono::duration<double>(Clock::now() - from).count();
}

class CudaMachine final : public Machine {
 public:
  CudaMachine(MachineInfo info, cuda::Context context, cuda::Event from,
              cuda::Event to, std::optional<SmClock> clock)
      : info_(std::move(info)),
        context_(std::move(context)),
        from_(std::move(from)),
        to_(std::move(to)),
        clock_(clock) {}

  const MachineInfo& info() const override { return info_; }

  Result<std::unique_ptr<Array>> allocate(Bytes size) override {
    TRY(cuda::Buffer buffer, context_.allocate(size));
    return std::make_unique<CudaArray>(std::move(buffer));
  }
  Result<void> upload(void* to, std::span<const std::byte> from) override {
    begin_work();
    return context_.copy_in(to, from.data(),
                            {static_cast<std::int64_t>(from.size())});
  }
  Result<void> copy(void* to, const void* from, Bytes size) override {
    begin_work();
    return context_.copy(to, from, size);
  }
  Result<void> zero(void* to, Bytes size) override {
    begin_work();
    return context_.fill(to, 0, size);
  }
  Result<void> settle() override {
    TRY_DO(context_.synchronize());
    worked_until_ = Clock::now();
    return {};
  }

  Result<double> time(std::span<const kernels::Call> calls,
                      Caches caches) override {
    begin_work();
    const auto began = Clock::now();
    TRY(const double lead, keep_busy(calls, caches));
    TRY_DO(context_.record(from_));
    TRY_DO(give_out(calls));
    TRY_DO(context_.record(to_));
    const double host = since(began);
    if (host - lead > kPause) worked_ = 0;  // it stood idle in between
    pace_ +=
        (std::min(host / static_cast<double>(calls.size()), kSlowest) - pace_) /
        4;
    read_clock();
    TRY(const double seconds, context_.elapsed(from_, to_));
    worked_ += seconds;
    worked_until_ = Clock::now();
    return seconds;
  }

  double ramp_s() const override {
    const double worked = since(worked_until_) > kPause ? 0 : worked_;
    return std::max(kRamp - worked, 0.0);
  }

  Result<double> time_copy(Route route, Bytes size) override {
    check(has(route), "one GPU has no peers");
    if (copy_from_.size() < size) {
      copy_from_ = cuda::Buffer();
      copy_to_ = cuda::Buffer();
      TRY(copy_from_, context_.allocate(size));
      TRY(copy_to_, context_.allocate(size));
    }
    if (route != Route::device && host_.size() < size) {
      host_ = cuda::Buffer();
      TRY(host_, context_.allocate_pinned(size));
    }
    void* to = route == Route::device_to_host ? host_.data() : copy_to_.data();
    const void* from =
        route == Route::host_to_device ? host_.data() : copy_from_.data();
    TRY_DO(context_.record(from_));
    TRY_DO(context_.copy(to, from, size));
    TRY_DO(context_.record(to_));
    return context_.elapsed(from_, to_);
  }

  bool has(Route route) const override {
    return route == Route::device || route == Route::host_to_device ||
           route == Route::device_to_host;
  }

  void release_copies() override {
    copy_from_ = cuda::Buffer();
    copy_to_ = cuda::Buffer();
    host_ = cuda::Buffer();
  }

  Clocks clocks() const override {
    if (mhz_.empty()) return {};
    std::vector<double> sorted = mhz_;
    std::ranges::sort(sorted);
    return {sorted.front(), sorted[sorted.size() / 2],
            static_cast<int>(sorted.size())};
  }
  std::vector<Body> bodies(const kernels::Call& call) const override;
  std::string choices() const override { return context_.choices(); }
  Result<void> load_choices(std::string_view text) override {
    return context_.load_choices(text);
  }

 private:
  // The host needs so long to give out a call, or longer; what takes more
  // than the slowest is no giving out but making a plan.
  static constexpr double kPace = 5e-6, kSlowest = 2e-5;
  // What hides it lasts longer by so much.
  static constexpr double kMargin = 1.3;
  // A GPU that rested so long lowers its clock, and needs so long to raise
  // it.
  static constexpr double kPause = 2e-3, kRamp = 20e-3;
  // The clock is read so often, for reading takes the host a while.
  static constexpr double kClockEvery = 0.05;

  void begin_work() {
    if (since(worked_until_) > kPause) worked_ = 0;
    worked_until_ = Clock::now();
  }

  /// Writes over the caches and keeps the GPU busy until the host has given
  /// out the calls, so that it is not the host that is timed. Expected
  /// seconds.
  Result<double> keep_busy(std::span<const kernels::Call> calls,
                           Caches caches) {
    TRY_DO(open_eraser());
    const double lead = kMargin * pace_ * static_cast<double>(calls.size() + 2);
    TRY_DO(context_.fill(eraser_.data(), 0, eraser_.size()));
    TRY_DO(context_.busy(lead));
    if (caches == Caches::warm) TRY_DO(give_out(calls.first(1)));
    return erasing_s_ + lead;
  }

  Result<void> open_eraser() {
    if (eraser_.data() != nullptr) return {};
    const Bytes size{std::max<std::int64_t>(2 * info_.cache.v, 1 << 20)};
    TRY(eraser_, context_.allocate(size));
    for (int i = 0; i < 3; ++i) {  // the last counts
      TRY_DO(context_.record(from_));
      TRY_DO(context_.fill(eraser_.data(), 0, size));
      TRY_DO(context_.record(to_));
      TRY(erasing_s_, context_.elapsed(from_, to_));
    }
    erasing_s_ = std::max(erasing_s_, 1e-6);
    return {};
  }

  Result<void> give_out(std::span<const kernels::Call> calls) {
    for (const kernels::Call& call : calls) {
      if (interrupted()) return fail(Fault::interrupted, "interrupted");
      TRY_DO(cuda::run(call, context_));
    }
    return {};
  }

  void read_clock() {
    if (!clock_ || since(clock_read_) < kClockEvery) return;
    clock_read_ = Clock::now();
    if (const double mhz = clock_->mhz(); mhz > 0) mhz_.push_back(mhz);
  }

  MachineInfo info_;
  cuda::Context context_;
  cuda::Event from_, to_;
  cuda::Buffer copy_from_, copy_to_;
  cuda::Buffer host_;
  cuda::Buffer eraser_;
  double erasing_s_ = 1e-4;
  double pace_ = kPace;  ///< of the host, seconds for a call
  double worked_ = 0;    ///< seconds without a pause
  Clock::time_point worked_until_{}, clock_read_{};
  std::optional<SmClock> clock_;
  std::vector<double> mhz_;
};

std::vector<Body> CudaMachine::bodies(const kernels::Call& call) const {
  namespace cudnn = cuda::cudnn;
  std::string problem;
  std::string_view dtype;
  if (const auto* forward = std::get_if<kernels::AttentionForward>(&call)) {
    problem = to_string(cudnn::problem_of(*forward));
    dtype = name_of(forward->dtype);
  } else if (const auto* backward =
                 std::get_if<kernels::AttentionBackward>(&call)) {
    problem = to_string(cudnn::problem_of(*backward,
                                          cuda::AttentionChoice{}.deterministic,
                                          context_.device().major));
    dtype = name_of(backward->dtype);
  } else {
    return {};
  }
  for (const cuda::AttentionReport& r : context_.attention_report()) {
    // Where cuDNN was not asked, the type is told, too.
    if (r.problem != problem &&
        r.problem != fmt::format("{} {}", problem, dtype)) {
      continue;
    }
    return {{"own", r.own, !r.by_cudnn},
            {"cudnn", r.cudnn, r.by_cudnn, r.refusal}};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Machine>> cuda_machine(int ordinal) {
  TRY(const cuda::DeviceInfo device, cuda::device_info(ordinal));
  TRY(const int devices, cuda::device_count());
  cuda::GemmChoice choice;
  choice.candidates = kCandidates;
  cuda::AttentionChoice attention;
  TRY(attention.body, cuda::attention_body_from_environment());
  TRY(cuda::Context context, cuda::Context::create(ordinal, choice, attention));
  TRY(cuda::Event from, context.event());
  TRY(cuda::Event to, context.event());
  std::optional<SmClock> clock;
  if (auto opened = SmClock::open(device.bus_id)) clock = *opened;
  return std::make_unique<CudaMachine>(info_of(device, devices),
                                       std::move(context), std::move(from),
                                       std::move(to), clock);
}

}  // namespace troupe::measure
