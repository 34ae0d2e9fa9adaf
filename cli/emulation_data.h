// The text of an emulated run: where from, which tokens, what is saved of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/corpus.h"
#include "emu/checkpoint.h"

namespace troupe::cli {

/// As the command line says.
struct DataRequest {
  std::string file;       ///< of text; empty: the sample
  std::string tokenizer;  ///< file; empty: bytes
  std::string end_token;  ///< or empty: the tokenizer's
};

struct DataAnswer {
  emu::Text text;
  std::int64_t documents = 0, tokens = 0;
  std::int32_t vocabulary = 0, model_vocabulary = 0;
  std::vector<std::string> warnings;
};

struct EmulatedData {
  data::Corpus corpus;
  DataAnswer answer;
};

/// Reads text and tokenizer for a model with a vocabulary of that size.
///
/// Errors: input, as they; for a tokenizer whose vocabulary is larger than
///         that of a model that is not `shrunk`.
Result<EmulatedData> read_data(const DataRequest& request,
                               const std::string& model,
                               std::int32_t vocabulary, bool shrunk);

/// Whether a run can go on from a checkpoint: its tokens must mean the same.
/// Another text is a warning.
///
/// Errors: input, naming both tokenizers.
Result<void> check_text(const emu::Checkpoint& checkpoint,
                        const std::string& name, DataAnswer& answer);

/// `data` of the answer, and a line of the report.
Json to_json(const DataAnswer& answer);
std::string to_line(const DataAnswer& answer);

}  // namespace troupe::cli
