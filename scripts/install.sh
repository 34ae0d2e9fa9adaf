#!/usr/bin/env bash
# Installs packages on Debian 12 / Ubuntu 24.04: what a build needs, and with
# "tests" also what the tests need. Packages already there cost nothing.
set -euo pipefail

build=(g++ cmake ninja-build ccache pkg-config
  libsqlitecpp-dev libsqlite3-dev libfmt-dev
  nlohmann-json3-dev libcli11-dev libexpected-dev libtbb-dev libxxhash-dev
  libeigen3-dev zlib1g-dev)
tests=(libgtest-dev libgmock-dev librapidcheck-dev libsimgrid-dev python3)

wanted=("${build[@]}")
if [ "${1:-}" = tests ]; then wanted+=("${tests[@]}"); fi

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "installing: ${missing[*]}" >&2
sudo=()
if [ "$(id -u)" != 0 ]; then sudo=(sudo); fi
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq \
  --no-install-recommends "${missing[@]}" >/dev/null
