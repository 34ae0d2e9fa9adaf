// troupe convert: any spelling of a strategy to the native one, or to
// Megatron-LM's arguments.
#include "strategy/convert.h"

#include <fmt/format.h>

#include <memory>

#include "base/file.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/say.h"

namespace troupe::cli {
namespace {

struct ConvertOptions {
  StrategyOptions source;
  std::string output, to = "native";
};

Result<int> convert(const ConvertOptions& o) {
  TRY_DO(check_output(o.output));
  TRY(const strategy::Plan plan, load(o.source));
  print_warnings(plan);
  std::string text;
  if (o.to == "megatron") {
    TRY(text, strategy::to_megatron(plan));
    for (const std::string& note : strategy::megatron_notes(plan)) {
      fmt::print(stderr, "note: {}\n", note);
    }
  } else {
    text = to_text(strategy::native_of(plan));
  }
  if (text.empty() || text.back() != '\n') text += '\n';
  if (o.output.empty()) {
    say("{}", text);
    return 0;
  }
  TRY_DO(write_file(o.output, text));
  fmt::print(stderr, "wrote {}\n", o.output);
  return 0;
}

}  // namespace

void add_convert(Commands& commands) {
  auto o = std::make_shared<ConvertOptions>();
  CLI::App* command = commands.add(
      "convert", "a strategy into troupe's own format, or Megatron arguments");
  add_strategy_options(*command, o->source);
  command->add_option("--to", o->to, "native or megatron")
      ->check(CLI::IsMember({"native", "megatron"}));
  command->add_option("-o,--output", o->output, "file (standard output)");
  commands.run(command, [o] { return convert(*o); });
}

}  // namespace troupe::cli
