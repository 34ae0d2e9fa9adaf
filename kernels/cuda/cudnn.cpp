#include "kernels/cuda/cudnn.h"

#include <dlfcn.h>

#include <array>

#include "kernels/dynamic_library.h"

namespace troupe::kernels::cuda::cudnn {
namespace {

// 9.10.0 and 9.10.1 have wrong fused attention (the checks of NVIDIA's
// cudnn-frontend refuse them); devices described without a handle need 9.8.
constexpr std::size_t kOldest = 91002;

/// The name of a function that is missing; null when none is.
const char* find_all(void* library, Functions& f) {
  const auto find = [library](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(
        dlsym(library, name));
    return function == nullptr ? name : nullptr;
  };
  const std::array<const char*, 11> missing{
      find(f.version, "cudnnGetVersion"),
      find(f.last_error, "cudnnGetLastErrorString"),
      find(f.create, "cudnnCreate"),
      find(f.destroy, "cudnnDestroy"),
      find(f.set_stream, "cudnnSetStream"),
      find(f.create_descriptor, "cudnnBackendCreateDescriptor"),
      find(f.destroy_descriptor, "cudnnBackendDestroyDescriptor"),
      find(f.set_attribute, "cudnnBackendSetAttribute"),
      find(f.get_attribute, "cudnnBackendGetAttribute"),
      find(f.finalize, "cudnnBackendFinalize"),
      find(f.execute, "cudnnBackendExecute")};
  for (const char* name : missing) {
    if (name != nullptr) return name;
  }
  return nullptr;
}

}  // namespace

std::string version_text(std::size_t version) {
  return std::to_string(version / 10000) + "." +
         std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

Result<std::shared_ptr<const Library>> Library::open(const std::string& path) {
  std::vector<std::string> places{path};
  if (path.empty()) {
    places = {"libcudnn.so.9", "/usr/local/cuda/lib64/libcudnn.so.9"};
  }
  TRY(void* const opened, open_library("cuDNN", places));
  std::shared_ptr<Library> library(new Library());
  if (const char* missing = find_all(opened, library->call)) {
    return fail(Fault::unavailable,
                std::string("cuDNN lacks ") + missing + "; 9.10.2 is needed");
  }
  if (library->version() < kOldest) {
    return fail(Fault::unavailable, "cuDNN is " +
                                        version_text(library->version()) +
                                        "; its attention is used from " +
                                        version_text(kOldest) + " on");
  }
  return std::shared_ptr<const Library>(std::move(library));
}

Result<void> Library::checked(Status status, const char* what) const {
  if (status == kSuccess) return {};
  std::array<char, 512> said{};
  call.last_error(said.data(), said.size() - 1);
  std::string message =
      std::string("cuDNN: ") + what + ": status " + std::to_string(status);
  if (said[0] != '\0') message += std::string(" (") + said.data() + ")";
  const bool unknown = status / 1000 == kNotSupported / 1000;
  return fail(unknown ? Fault::unavailable : Fault::io, message);
}

Result<Descriptor> Descriptor::of(std::shared_ptr<const Library> library,
                                  Object kind) {
  Descriptor made;
  TRY_DO(library->checked(library->call.create_descriptor(kind, &made.at_),
                          "creating a descriptor"));
  made.library_ = std::move(library);
  made.kind_ = kind;
  return made;
}

Descriptor::~Descriptor() {
  if (at_ != nullptr) library_->call.destroy_descriptor(at_);
}

Result<void> Descriptor::set_bytes(Attribute what, Type type,
                                   std::int64_t count, const void* values) {
  const Status status =
      library_->call.set_attribute(at_, what, type, count, values);
  if (status == kSuccess) return {};
  const std::string tried =
      "attribute " + std::to_string(static_cast<int>(what)) +
      " of descriptor " + std::to_string(static_cast<int>(kind_));
  return library_->checked(status, tried.c_str());
}

Result<void> Descriptor::finish() {
  const Status status = library_->call.finalize(at_);
  if (status == kSuccess) return {};
  const std::string tried =
      "finishing descriptor " + std::to_string(static_cast<int>(kind_));
  return library_->checked(status, tried.c_str());
}

Result<std::int64_t> Descriptor::read(Attribute what, Type type,
                                      std::int64_t most, void* to) const {
  std::int64_t count = 0;
  TRY_DO(library_->checked(
      library_->call.get_attribute(at_, what, type, most, &count, to),
      "reading an attribute"));
  return count;
}

Result<std::unique_ptr<Handle>> Handle::create(
    std::shared_ptr<const Library> library, void* stream) {
  std::unique_ptr<Handle> handle(new Handle());
  TRY_DO(library->checked(library->call.create(&handle->at_),
                          "creating a handle"));
  handle->library_ = std::move(library);
  const Library& opened = *handle->library_;
  TRY_DO(opened.checked(opened.call.set_stream(handle->at_, stream),
                        "choosing a stream"));
  return handle;
}

Handle::~Handle() {
  if (at_ != nullptr) library_->call.destroy(at_);
}

}  // namespace troupe::kernels::cuda::cudnn
