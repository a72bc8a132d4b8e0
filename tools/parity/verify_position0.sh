#!/usr/bin/env bash
# `llorch parity position0` under the name of the study's scripts: one piece of code, one verdict.
exec "${LLORCH_BIN:-$(dirname "$0")/../../build/release/bin}/llorch" parity position0 "$@" </dev/null
