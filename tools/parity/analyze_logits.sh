#!/usr/bin/env bash
# `llorch parity analyze` under the name of the study's scripts: one piece of code, one verdict.
exec "${LLORCH_BIN:-$(dirname "$0")/../../build/release/bin}/llorch" parity analyze "$@" </dev/null
