#!/usr/bin/env bash
# Formats every source file; with --check only says which would change.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(-i)
if [ "${1:-}" = --check ]; then mode=(--dry-run --Werror); fi
git ls-files '*.h' '*.cpp' '*.cu' | xargs clang-format-19 "${mode[@]}"
