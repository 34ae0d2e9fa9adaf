#include <fmt/format.h>

#include <cmath>

#include "base/text.h"
#include "runs/elastic_report.h"

namespace troupe::runs {
namespace {

using reshard::SenderRule;

/// "1h 02m 03s", "12.5 s".
std::string clock(Time t) {
  const double s = to_seconds(t);
  if (s < 100) return fmt::format("{:.1f} s", s);
  const auto whole = std::llround(s);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m {:02}s", whole / 3600, whole / 60 % 60,
                     whole % 60);
}

void add_segments(const Outcome& o, std::string& out) {
  out += fmt::format("{:<24}{:>5}{:>13}{:>13}{:>8}{:>8}{:>10}{:>8}{:>9}\n",
                     "strategy", "GPUs", "from", "to", "steps", "voided",
                     "step", "copies", "MFU");
  for (const Segment& s : o.segments) {
    out += fmt::format(
        "{:<24}{:>5}{:>13}{:>13}{:>8}{:>8}{:>10}{:>8}{:>7.1f} %{}\n",
        excerpt(s.strategy, 23), s.gpus, clock(s.from), clock(s.to), s.steps,
        s.voided, human(s.step), s.copying.v > 0 ? human(s.copying) : "-",
        100 * s.mfu, s.out_of_memory ? "  out of memory" : "");
  }
}

void add_state(const Survival& survival, std::string& out) {
  for (std::size_t k = 0; k < kStateKinds; ++k) {
    const Fate& f = survival.bytes[k];
    if (f.touched() == 0) continue;
    const auto part = [](std::int64_t bytes, const char* what) {
      return bytes > 0 ? fmt::format(", {} {}", human(Bytes{bytes}), what)
                       : std::string();
    };
    out += fmt::format(
        "    {}: {} of {} were on what is gone{}{}{}{}\n",
        name_of(static_cast<StateKind>(k)), human(Bytes{f.touched()}),
        human(Bytes{survival.total_bytes[k]}),
        part(f.replica, "are on a replica"), part(f.peer, "on a peer"),
        part(f.cast, "cast from a master copy"), part(f.lost, "lost"));
  }
}

void add_change(const Change& c, const Trace& trace, std::string& out) {
  out += fmt::format("{}: {}\n", clock(c.at), c.event);
  add_state(c.survival, out);
  if (!c.survival.lost.empty()) {
    out += fmt::format("    first of {}: {}\n",
                       counted(c.survival.lost_boxes, "lost piece"),
                       to_string(c.survival.lost.front(),
                                 models::parameter_list(trace.model)));
  }
  if (c.to.empty()) return;
  out += fmt::format(
      "    {} to {}{}: detect {}, restart {}, load {}, move {}{}\n", c.from,
      c.to,
      c.from_checkpoint ? fmt::format(" from the checkpoint, {} undone",
                                      counted(c.voided, "step"))
                        : std::string(),
      clock(c.wall[Account::detecting]), clock(c.wall[Account::restarting]),
      clock(c.wall[Account::loading]), human(c.wall[Account::moving]),
      c.finished ? "" : " (broken off)");
  out += fmt::format(
      "    {} moved in {} (nvlink {}, pcie {}, network {}), {} read, {} "
      "copied to peers; most on a device {}; {} checked\n",
      human(c.moved), counted(c.messages, "message"),
      human(Bytes{static_cast<std::int64_t>(c.makespan.bytes[0])}),
      human(Bytes{static_cast<std::int64_t>(c.makespan.bytes[1])}),
      human(Bytes{static_cast<std::int64_t>(c.makespan.bytes[3])}),
      human(c.read), human(c.copied), human(c.peak),
      counted(c.verified, "tensor"));
}

void add_policies(const Comparison& comparison, std::string& out) {
  out += fmt::format("{:<10}{:>12}{:>8}{:>8}{:>8}", "", "tokens/s", "MFU",
                     "steps", "voided");
  for (std::size_t a = 0; a < kAccounts; ++a) {
    out += fmt::format("{:>12}", name_of(static_cast<Account>(a)));
  }
  out += "\n";
  for (const Outcome& o : comparison.outcomes) {
    out += fmt::format("{:<10}{:>12.0f}{:>6.1f} %{:>8}{:>8}", name_of(o.policy),
                       o.tokens_per_s, 100 * o.mfu, o.steps, o.voided);
    for (std::size_t a = 0; a < kAccounts; ++a) {
      const Time t = o.wall[static_cast<Account>(a)];
      out += fmt::format("{:>12}", t.v > 0 ? clock(t) : "-");
    }
    out += "\n";
  }
  for (const Outcome& o : comparison.outcomes) {
    if (o.stopped.empty()) continue;
    out += fmt::format("{} stopped: {}\n", name_of(o.policy), o.stopped);
  }
}

void add_senders(const Outcome& o, std::string& out) {
  const auto totals = sender_totals(o);
  if (totals.empty()) return;
  out += "\nsenders by rule, all changes together (one bucket each)\n";
  const Time ours = totals.back();
  for (std::size_t r = 0; r < totals.size(); ++r) {
    out += fmt::format("  {:<24}{:>10}{:>8.2f} x\n",
                       name_of(static_cast<SenderRule>(r)), human(totals[r]),
                       ours.v > 0 ? totals[r] / ours : 1.0);
  }
}

}  // namespace

std::string to_table(const Trace& trace, const Comparison& comparison) {
  const Outcome& o = comparison.outcomes.front();
  std::string out =
      fmt::format("{}: {} on {}, {}, {}\n\n", trace.name, trace.model.name,
                  trace.cluster.name, clock(trace.until),
                  counted(std::ssize(trace.events), "event"));
  add_segments(o, out);
  out += "\n";
  for (const Change& c : o.changes) add_change(c, trace, out);
  if (o.copies.v > 0) {
    out += fmt::format("copies for peers: up to {} on a device\n",
                       human(o.copies));
  }
  if (trace.options.checkpoint) {
    out +=
        fmt::format("checkpoints: {} saved, each {}\n", o.saves, human(o.save));
  }
  out += "\nuseful work over wall time, and where the time went\n";
  add_policies(comparison, out);
  add_senders(o, out);
  return out;
}

}  // namespace troupe::runs
