#!/usr/bin/env bash
# Installs what is needed, builds, and simulates one training step of a 70B
# model on 1024 mixed GPUs: the answer on the screen, an HTML report and a
# Perfetto trace beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install.sh
cmake --preset release -DTROUPE_TESTS=OFF -DTROUPE_CUDA="${TROUPE_CUDA:-AUTO}" \
  | grep -E '^-- troupe' || true
cmake --build --preset release

troupe=build/release/bin/troupe
out=build/quickstart
mkdir -p "$out"
"$troupe" ingest --shipped --profiles "$out/profiles.db"
"$troupe" simulate mixed-1024gpu --profiles "$out/profiles.db" \
  --results "$out/results.db" --report "$out/report.html" \
  --trace "$out/trace.json.gz" --progress

echo
echo "report:  $out/report.html"
echo "trace:   $out/trace.json.gz (open it in https://ui.perfetto.dev)"
echo "program: $troupe --help"
