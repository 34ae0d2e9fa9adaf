// The whole state of a training run, independent of any layout: saved under
// one strategy, resumed under another.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "exec/weights.h"

namespace troupe::emu {

/// The text that a run learns from, and its tokens. All are empty where
/// nothing is known of it.
struct Text {
  std::string data, data_hash;
  std::string tokenizer, tokenizer_hash;
  bool operator==(const Text&) const = default;
};

/// Master copy and both moments of every parameter, whole and row-major.
struct Checkpoint {
  std::string model;
  std::uint64_t seed = 0;  ///< of the data, which go on where they stopped
  std::int64_t steps = 0;  ///< done
  Text text = {};
  struct Tensor {
    std::vector<std::int64_t> shape;
    std::array<std::vector<double>, 3> states;  ///< by exec::State
    bool operator==(const Tensor&) const = default;
  };
  std::map<std::string, Tensor> tensors;
  bool operator==(const Checkpoint&) const = default;
};

/// A safetensors file: `NAME.master`, `NAME.m`, `NAME.v`, all F64, and the
/// rest as metadata.
///
/// Errors: io.
/// Source: the format as huggingface/safetensors describes it.
Result<void> write_checkpoint(const std::filesystem::path& path,
                              const Checkpoint& checkpoint);

/// Errors: input, naming file and tensor, for anything that write_checkpoint
///         would not write; files over 16 GiB.
Result<Checkpoint> read_checkpoint(const std::filesystem::path& path);

/// The start of a run. `checkpoint` must outlive it.
///
/// Requires: `fits` says nothing.
exec::Values values_of(const Checkpoint& checkpoint);

/// Why a model's parameters cannot be taken from a checkpoint, or empty.
std::string misfit(const Checkpoint& checkpoint,
                   const std::vector<exec::Weight>& weights);

/// Puts what one rank counts of the states into the checkpoint.
Result<void> collect(const exec::Weights& weights, exec::Device& device,
                     Checkpoint& checkpoint);

/// A box of a storage as numbers, row-major.
Result<std::vector<double>> numbers(exec::Device& device,
                                    const exec::Storage& storage,
                                    const exec::Box& box);

}  // namespace troupe::emu
