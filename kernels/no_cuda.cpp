// cuda.h where CUDA is not built in.
#include <utility>

#include "kernels/cuda.h"

namespace troupe::kernels::cuda {
namespace {

tl::unexpected<Error> absent() {
  return fail(Fault::unavailable,
              "built without CUDA; configure with -DTROUPE_CUDA=ON where nvcc "
              "is installed");
}

}  // namespace

struct Context::State {
  Device device;
};

Result<int> device_count() { return absent(); }
Result<DeviceInfo> device_info(int /*ordinal*/) { return absent(); }
std::string describe(const DeviceInfo& /*info*/) { return "no GPU"; }

Result<PeerPath> peer_path(int /*from*/, int /*to*/) { return absent(); }

Buffer::~Buffer() = default;
void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(device_, other.device_);
}
Event::~Event() = default;
Event& Event::operator=(Event&& other) noexcept {
  std::swap(handle_, other.handle_);
  return *this;
}

Result<Context> Context::create(int /*ordinal*/, GemmChoice /*choice*/,
                                AttentionChoice /*attention*/) {
  return absent();
}
Context::Context(std::unique_ptr<State> state) : state_(std::move(state)) {}
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
Context::~Context() = default;
const Device& Context::device() const { return state_->device; }
void* Context::stream() const { return nullptr; }
Result<Buffer> Context::allocate(Bytes /*size*/) { return absent(); }
Result<Buffer> Context::allocate_pinned(Bytes /*size*/) { return absent(); }
Result<void> Context::reach(int /*other*/) { return absent(); }
Result<void> Context::copy_in(void* /*device*/, const void* /*host*/,
                              Bytes /*size*/) {
  return absent();
}
Result<void> Context::copy_out(void* /*host*/, const void* /*device*/,
                               Bytes /*size*/) {
  return absent();
}
Result<void> Context::copy(void* /*to*/, const void* /*from*/, Bytes /*size*/) {
  return absent();
}
Result<void> Context::fill(void* /*device*/, std::uint8_t /*value*/,
                           Bytes /*size*/) {
  return absent();
}
Result<Event> Context::event() { return absent(); }
Result<void> Context::busy(double /*seconds*/) { return absent(); }
Result<void> Context::record(const Event& /*event*/) { return absent(); }
Result<void> Context::wait(const Event& /*event*/) { return absent(); }
Result<bool> Context::reached(const Event& /*event*/) { return absent(); }
Result<double> Context::elapsed(const Event& /*from*/, const Event& /*to*/) {
  return absent();
}
Result<void> Context::synchronize() { return absent(); }
std::string Context::choices() const { return {}; }
std::vector<AttentionReport> Context::attention_report() const { return {}; }
Result<void> Context::load_choices(std::string_view /*text*/) {
  return absent();
}
Result<void> run(const Call& /*call*/, Context& /*context*/) {
  return absent();
}

}  // namespace troupe::kernels::cuda
