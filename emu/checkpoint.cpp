#include "emu/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "exec/weight_layout.h"

namespace troupe::emu {
namespace {

/// By exec::State.
constexpr std::array<const char*, 3> kNames{"master", "m", "v"};
constexpr const char* kFormat = "troupe.checkpoint/1";
constexpr Bytes kMostBytes{std::int64_t{16} << 30};

/// Metadata of the text, with its place.
constexpr std::array<std::pair<const char*, std::string Text::*>, 4> kTextKeys{
    {{"data", &Text::data},
     {"data_hash", &Text::data_hash},
     {"tokenizer", &Text::tokenizer},
     {"tokenizer_hash", &Text::tokenizer_hash}}};

/// One tensor's entry of the header, read.
struct Entry {
  std::vector<std::int64_t> shape;
  std::size_t first = 0, last = 0;
};

Result<Entry> entry_of(const Json& json, const std::string& where,
                       std::size_t data_size) {
  const auto wrong = [&](const char* what) {
    return fail(Fault::input, fmt::format("{}: {}", where, what));
  };
  if (!json.is_object() || !json.contains("shape") ||
      !json.contains("data_offsets") || !json.contains("dtype")) {
    return wrong("expected dtype, shape and data_offsets");
  }
  if (json["dtype"] != "F64") return wrong("expected dtype F64");
  Entry out;
  double count = 1;
  if (!json["shape"].is_array()) return wrong("expected a list as shape");
  for (const Json& d : json["shape"]) {
    const auto n = whole_number(d);
    if (!n || *n < 1 || *n > (std::int64_t{1} << 40)) {
      return wrong("expected sizes of at least 1 in shape");
    }
    out.shape.push_back(*n);
    count *= static_cast<double>(*n);
  }
  const Json& offsets = json["data_offsets"];
  const bool pair = offsets.is_array() && offsets.size() == 2;
  const auto first = pair ? whole_number(offsets[0]) : std::nullopt;
  const auto last = pair ? whole_number(offsets[1]) : std::nullopt;
  if (!first || !last || *first < 0 || *last < *first ||
      static_cast<std::uint64_t>(*last) > data_size ||
      static_cast<double>(*last - *first) != 8 * count) {
    return wrong("data_offsets do not fit the shape and the file");
  }
  out.first = static_cast<std::size_t>(*first);
  out.last = static_cast<std::size_t>(*last);
  return out;
}

Result<void> read_metadata(const Json& header, const std::string& name,
                           Checkpoint& out) {
  const auto it = header.find("__metadata__");
  const auto text = [&](const char* key) -> std::string {
    if (it == header.end() || !it->is_object()) return {};
    const auto value = it->find(key);
    return value != it->end() && value->is_string() ? value->get<std::string>()
                                                    : std::string{};
  };
  if (text("format") != kFormat) {
    return fail(Fault::input,
                fmt::format("{}: /__metadata__/format: expected \"{}\"", name,
                            kFormat));
  }
  out.model = text("model");
  for (const auto& [key, field] : kTextKeys) out.text.*field = text(key);
  const auto number = [&](const char* key) -> std::optional<std::int64_t> {
    const std::string digits = text(key);
    std::int64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || end != digits.data() + digits.size()) return {};
    return value;
  };
  const auto seed = number("seed");
  const auto steps = number("steps");
  if (!seed || !steps || *seed < 0 || *steps < 0) {
    return fail(Fault::input,
                fmt::format("{}: /__metadata__: expected whole numbers as "
                            "seed and steps",
                            name));
  }
  out.seed = static_cast<std::uint64_t>(*seed);
  out.steps = *steps;
  return {};
}

}  // namespace

Result<void> write_checkpoint(const std::filesystem::path& path,
                              const Checkpoint& checkpoint) {
  Json header{{"__metadata__",
               {{"format", kFormat},
                {"model", checkpoint.model},
                {"seed", std::to_string(checkpoint.seed)},
                {"steps", std::to_string(checkpoint.steps)}}}};
  for (const auto& [key, field] : kTextKeys) {
    const std::string& value = checkpoint.text.*field;
    if (!value.empty()) header["__metadata__"][key] = value;
  }
  std::size_t at = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    for (std::size_t s = 0; s < kNames.size(); ++s) {
      const std::size_t size = 8 * tensor.states[s].size();
      header[fmt::format("{}.{}", name, kNames[s])] = {
          {"dtype", "F64"},
          {"shape", tensor.shape},
          {"data_offsets", {at, at + size}}};
      at += size;
    }
  }
  // Names of files may be no UTF-8.
  std::string text =
      header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const auto length = static_cast<std::uint64_t>(text.size());
  std::string file(reinterpret_cast<const char*>(&length), 8);
  file += text;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    for (const auto& state : tensor.states) {
      file.append(reinterpret_cast<const char*>(state.data()),
                  8 * state.size());
    }
  }
  return write_file(path, file);
}

Result<Checkpoint> read_checkpoint(const std::filesystem::path& path) {
  const std::string name = path.string();
  TRY(const std::string file, read_file(path, kMostBytes));
  std::uint64_t length = 0;
  if (file.size() >= 8) std::memcpy(&length, file.data(), 8);
  if (file.size() < 8 || length > file.size() - 8) {
    return fail(Fault::input,
                fmt::format("{}: no safetensors file, or cut off", name));
  }
  const std::string_view data =
      std::string_view(file).substr(8 + static_cast<std::size_t>(length));
  TRY(const Json header,
      parse_json(file.substr(8, static_cast<std::size_t>(length)), name));
  if (!header.is_object()) {
    return fail(Fault::input, fmt::format("{}: expected an object", name));
  }
  Checkpoint out;
  TRY_DO(read_metadata(header, name, out));
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") continue;
    const std::size_t dot = key.rfind('.');
    const std::string state =
        dot == std::string::npos ? "" : key.substr(dot + 1);
    const auto which = std::ranges::find(kNames, state);
    const std::string where = fmt::format("{}: /{}", name, excerpt(key));
    if (which == kNames.end()) {
      return fail(Fault::input,
                  fmt::format("{}: expected a name that ends in .master, .m "
                              "or .v",
                              where));
    }
    TRY(const Entry entry, entry_of(value, where, data.size()));
    Checkpoint::Tensor& tensor = out.tensors[key.substr(0, dot)];
    if (!tensor.shape.empty() && tensor.shape != entry.shape) {
      return fail(
          Fault::input,
          fmt::format("{}: another shape than its other states", where));
    }
    tensor.shape = entry.shape;
    auto& numbers_of_it =
        tensor.states[static_cast<std::size_t>(which - kNames.begin())];
    numbers_of_it.resize((entry.last - entry.first) / 8);
    std::memcpy(numbers_of_it.data(), data.data() + entry.first,
                entry.last - entry.first);
  }
  return out;
}

exec::Values values_of(const Checkpoint& checkpoint) {
  return [&checkpoint](const models::Parameter& p, exec::State state,
                       std::int64_t index) {
    return checkpoint.tensors.at(p.name).states[static_cast<std::size_t>(
        state)][static_cast<std::size_t>(index)];
  };
}

std::string misfit(const Checkpoint& checkpoint,
                   const std::vector<exec::Weight>& weights) {
  for (const exec::Weight& w : weights) {
    const models::Parameter& p = w.placement.parameter;
    const auto it = checkpoint.tensors.find(p.name);
    if (it == checkpoint.tensors.end()) {
      return fmt::format("parameter {} is not in the checkpoint of {}", p.name,
                         checkpoint.model);
    }
    for (std::size_t s = 0; s < kNames.size(); ++s) {
      if (it->second.shape != p.shape ||
          std::ssize(it->second.states[s]) != p.elements()) {
        return fmt::format("{}.{} has another shape in the checkpoint of {}",
                           p.name, kNames[s], checkpoint.model);
      }
    }
  }
  return {};
}

Result<void> collect(const exec::Weights& weights, exec::Device& device,
                     Checkpoint& checkpoint) {
  for (const exec::HeldWeight& held : weights.held()) {
    const models::Parameter& p = held.weight->placement.parameter;
    Checkpoint::Tensor& tensor = checkpoint.tensors[p.name];
    tensor.shape = p.shape;
    for (const exec::State state : exec::kStates) {
      const exec::Storage& storage = held.state(state);
      auto& whole = tensor.states[static_cast<std::size_t>(state)];
      whole.resize(static_cast<std::size_t>(p.elements()));
      for (std::size_t i = 0; i < held.share->counted.size(); ++i) {
        if (!held.share->counted[i]) continue;
        const exec::Box& box = storage.pieces[i].box;
        TRY(const std::vector<double> part, numbers(device, storage, box));
        std::size_t next = 0;
        exec::each_element(box, p.shape, [&](std::int64_t index) {
          whole[static_cast<std::size_t>(index)] = part[next++];
        });
      }
    }
  }
  return {};
}

Result<std::vector<double>> numbers(exec::Device& device,
                                    const exec::Storage& storage,
                                    const exec::Box& box) {
  TRY(exec::Buffer packed,
      exec::Buffer::of(device, exec::size_of(box, storage.dtype)));
  TRY_DO(exec::read(device, storage, box, packed.at({})));
  const std::int64_t count = strategy::elements(box);
  TRY(exec::Buffer wide, exec::Buffer::of(device, Bytes{8 * count}));
  kernels::Cast cast{
      .from = storage.dtype, .to = kernels::DType::fp64, .elements = count};
  cast.in = packed.data();
  cast.out = wide.data();
  TRY_DO(device.run(cast));
  std::vector<double> out(static_cast<std::size_t>(count));
  TRY_DO(device.copy_out(std::as_writable_bytes(std::span(out)), wide.data()));
  return out;
}

}  // namespace troupe::emu
