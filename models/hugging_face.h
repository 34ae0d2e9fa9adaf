// The config.json of Hugging Face: which keys of which architecture mean
// what.
#pragma once

#include <string>

#include "base/findings.h"
#include "base/json.h"
#include "models/model.h"

namespace troupe::models {

/// The model of a config.json; problems, an unsupported architecture among
/// them, are added to `findings`. The result still wants `validate`.
Model from_hugging_face(const Json& json, const std::string& where,
                        Findings& findings);

/// Adds an error when a key of a mixture-of-experts model is there: experts
/// are not supported yet and must not be ignored.
void refuse_experts(const Json& json, const std::string& where,
                    Findings& findings);

}  // namespace troupe::models
