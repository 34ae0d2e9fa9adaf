// Reads models: Troupe's own JSON (models/README.md) and the config.json of
// Hugging Face.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "models/model.h"

namespace troupe::models {

/// The model of a file, or a shipped one by name ("llama-7b").
///
/// Errors: input, every problem with its place in the file.
[[nodiscard]] Result<Model> read_model(std::string_view path_or_name);

/// The model of a JSON value: ours when it has "format", else Hugging Face's
/// when it has "model_type" or "architectures". `where` is the file in
/// messages; a model without a name is called after it.
///
/// Errors: input, every problem with its place in the file.
[[nodiscard]] Result<Model> parse_model(const Json& json,
                                        const std::string& where);

/// Troupe's own JSON of a model; `parse_model` gives the same model back.
Json to_json(const Model& model);

}  // namespace troupe::models
