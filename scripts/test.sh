#!/usr/bin/env bash
# Installs what the tests need, builds everything, runs every test, and ends
# with "N passed, N failed". The exit code is 0 only when none failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

./scripts/install.sh tests || exit 1
build=build/tests
mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DTROUPE_TESTS=ON -DTROUPE_CUDA="${TROUPE_CUDA:-AUTO}" >"$build/configure.log" 2>&1 ||
  { cat "$build/configure.log"; echo "0 passed, 1 failed"; exit 1; }
grep -E '^-- troupe' "$build/configure.log"
cmake --build "$build" || { echo "0 passed, 1 failed"; exit 1; }

export TROUPE_SHARED="${TROUPE_SHARED:-$(cd .. && pwd)/shared}"
log="$build/ctest.log"
ctest --test-dir "$build" --output-on-failure -j "$(nproc)" 2>&1 | tee "$log" |
  grep -vE '^ *[0-9]+/[0-9]+ Test +#.* Passed' | grep -vE '^ +Start '

skipped=$(grep -cE 'Test +#.*\*\*\*Skipped' "$log")
failed=$(grep -cE 'Test +#.*(\*\*\*(Failed|Timeout|Exception)|\*\*\*Not Run)' "$log")
passed=$(grep -cE 'Test +#.* Passed' "$log")
if [ "$passed" -eq 0 ]; then failed=$((failed + 1)); fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
