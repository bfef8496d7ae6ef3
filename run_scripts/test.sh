#!/usr/bin/env bash
# Runs the tests in .venv, which it makes if needed: ./run_scripts/test.sh [PYTEST ARGUMENTS]
set -euo pipefail
cd "$(dirname "$0")/.."
source run_scripts/venv.sh
ensure_venv requirements-test.txt
exec .venv/bin/python -m pytest "$@"
