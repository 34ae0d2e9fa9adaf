// cuDNN, opened when first needed: a machine without the library can still
// start the program. Plain C++ that needs neither its header nor CUDA's.
#pragma once

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "kernels/cuda/cudnn_abi.h"

namespace troupe::kernels::cuda::cudnn {

/// The library. Stays open for good, as its own threads may still be ending.
class Library {
 public:
  /// Opens `path`, or the library where the loader finds it.
  ///
  /// Errors: unavailable, with the loader's reason, the function that is
  ///         missing, or the version that is too old.
  static Result<std::shared_ptr<const Library>> open(
      const std::string& path = "");

  std::size_t version() const { return call.version(); }  ///< 91900: 9.19.0
  /// An answer with what was tried and what the library said. A graph that
  /// it knows no way for is Fault::unavailable.
  Result<void> checked(Status status, const char* what) const;

  Functions call;

 private:
  Library() = default;
};

std::string version_text(std::size_t version);

/// One object of the library: attributes are set, then it is finished.
class Descriptor {
 public:
  Descriptor() = default;
  static Result<Descriptor> of(std::shared_ptr<const Library> library,
                               Object kind);
  Descriptor(Descriptor&& other) noexcept { swap(other); }
  Descriptor& operator=(Descriptor&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Descriptor();

  void* get() const { return at_; }

  template <typename V>
  Result<void> set(Attribute what, Type type, std::span<const V> values) {
    return set_bytes(what, type, std::ssize(values), values.data());
  }
  template <typename V>
  Result<void> set(Attribute what, Type type, const V& value) {
    return set_bytes(what, type, 1, &value);
  }
  Result<void> set(Attribute what, const Descriptor& other) {
    return set(what, Type::descriptor, other.at_);
  }
  Result<void> finish();

  /// Reads up to `most` elements; the answer is how many there are.
  Result<std::int64_t> read(Attribute what, Type type, std::int64_t most,
                            void* to) const;

 private:
  void swap(Descriptor& other) noexcept {
    std::swap(library_, other.library_);
    std::swap(at_, other.at_);
    std::swap(kind_, other.kind_);
  }
  Result<void> set_bytes(Attribute what, Type type, std::int64_t count,
                         const void* values);
  std::shared_ptr<const Library> library_;
  void* at_ = nullptr;
  Object kind_{};
};

/// A handle of the library for the thread's current GPU, on one stream.
class Handle {
 public:
  static Result<std::unique_ptr<Handle>> create(
      std::shared_ptr<const Library> library, void* stream);
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  void* get() const { return at_; }

 private:
  Handle() = default;
  std::shared_ptr<const Library> library_;
  void* at_ = nullptr;
};

}  // namespace troupe::kernels::cuda::cudnn
