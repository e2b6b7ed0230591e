#!/usr/bin/env bash
# Builds the fuzz targets with the stable compiler, without cargo-fuzz and sanitizers, and runs one after the other:
#
#     ./run.sh [SECONDS [TARGET...]]
#
# What was found is left in artifacts/TARGET/; `target/.../release/TARGET FILE` tries one input again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-200}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(plan image layouts completeness frames)
platform=x86_64-unknown-linux-gnu
[ -d corpus ] || ./corpus.sh

flags="--cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags cargo build --release --target "$platform"

failed=0
for target in "${targets[@]}"; do
    mkdir -p "artifacts/$target"
    "${CARGO_TARGET_DIR:-target}/$platform/release/$target" "corpus/$target" -max_total_time="$seconds" -timeout=20 \
        -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=65536 -artifact_prefix="artifacts/$target/" -print_final_stats=1 || failed=1
done
exit $failed
