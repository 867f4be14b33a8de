#!/usr/bin/env bash
# One session on one GPU: correctness, whole runs, tables and profiles, in under 25 minutes.
#
#   tests/benchmarks/gpu_day.sh OUT              everything, into the folder OUT
#   tests/benchmarks/gpu_day.sh OUT PART...      some of: correctness zero fusions runs profiles tables optimizers
#   GPU_DAY_REHEARSE=1 tests/benchmarks/gpu_day.sh OUT   every part, tiny and on the CPU
#
# PYTHON names the interpreter (default: .venv/bin/python, else python3). GPU_DAY_CORPUS is a folder
# made by `python -m tests.benchmarks.sample_corpus`, which takes no GPU: make it before the day and
# bring it along; without one it is made first. Every part has a limit of its own, which
# GPU_DAY_PATIENCE multiplies, writes OUT/PART.log and goes on after a failure; the last lines say
# which parts failed. The limits add up to 24 minutes.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit

if [ $# -lt 1 ]; then
    sed -n '2,13p' tests/benchmarks/gpu_day.sh >&2
    exit 2
fi
OUT=$1
shift
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
PARTS=("$@")
[ ${#PARTS[@]} -gt 0 ] || PARTS=(correctness zero fusions runs profiles tables optimizers)
REHEARSE=${GPU_DAY_REHEARSE:-}
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=$PWD/.venv/bin/python
fi
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
CORPUS=${GPU_DAY_CORPUS:-$OUT/corpus}
FAILED=()

# run PART SECONDS COMMAND...: the output goes to OUT/PART.log and its end to the terminal.
run() {
    local part=$1 limit=$2 begun=$SECONDS code
    shift 2
    echo "== $part (at most $limit s): $*"
    timeout --kill-after=10 "$((limit * ${GPU_DAY_PATIENCE:-1}))" "$@" >>"$OUT/$part.log" 2>&1
    code=$?
    tail -n 25 "$OUT/$part.log"
    echo "== $part ended with $code after $((SECONDS - begun)) s"
    [ $code -eq 0 ] || FAILED+=("$part ($code)")
}

if [ -n "$REHEARSE" ]; then
    CORPUS_SIZE=(--vocabulary 500 --megabytes 0.6 --length 32 --length 64)
    CASES=(--case "tiny:32:" --case "tiny:64:micro_batch=2")
    SMALLEST="global_batch=4 threads=1 model.overrides.num_layers=1 model.overrides.num_heads=2"
    SMALLEST="$SMALLEST model.overrides.hidden_size=32 model.overrides.embedding_size=32"
    RUNS=(--updates 12 --common "$SMALLEST")
    JOBS=(convbert:tiny:2x16 transformers:tiny:2x16 --rounds 1 --patience "$((150 * ${GPU_DAY_PATIENCE:-1}))")
    OPTIMIZERS=(--size tiny --batch 2 --length 16 --rounds 1)
    STAGES=(--updates 2 --stage zero0 --stage zero3)
    FUSIONS=(--size tiny --batch 2 --length 16 --seconds 1)
else
    CORPUS_SIZE=()
    CASES=()
    RUNS=(--updates 150)
    JOBS=(transformers:small:128x128 convbert:small:128x128 electra:base:128x512 convbert:base:128x512
        transformers:base:32x512 convbert:base:32x512 --rounds 5 --patience 150)
    OPTIMIZERS=(--batch 128)
    STAGES=()
    FUSIONS=(--size base --length 512 --batch 128 --device cuda --dtype bfloat16 --seconds 2)
fi

correctness() {
    local tests=(tests/pretrain/finetune/test_device.py tests/pretrain/engine/test_execution.py
        tests/pretrain/training/test_device_update.py)
    [ -n "$REHEARSE" ] || tests+=(tests/models/ops)
    # Not in parallel: the tests share one GPU.
    run correctness 240 "$PYTHON" -m pytest -q -rs -p no:cacheprovider -m "gpu or not slow" "${tests[@]}"
}

zero() { run zero 120 "$PYTHON" -m tests.benchmarks.shared_gpu "${STAGES[@]}" --output "$OUT/zero.md"; }

fusions() {
    run fusions 90 "$PYTHON" -m tests.benchmarks --suite masked-head --suite dropout --suite attention "${FUSIONS[@]}" --output "$OUT/fusions.md"
}

corpus() { run corpus 1800 "$PYTHON" -m tests.benchmarks.sample_corpus "$CORPUS" "${CORPUS_SIZE[@]}"; }

runs() {
    corpus
    run runs 480 "$PYTHON" -m tests.benchmarks.whole_runs "$CORPUS" "${CASES[@]}" "${RUNS[@]}" \
        --output "$OUT/runs"
}

tables() {
    mkdir -p "$OUT/steps"
    run tables 270 "$PYTHON" -m tests.benchmarks.gpu "${JOBS[@]}" --logs "$OUT/steps" --output "$OUT/tables.md"
}

optimizers() {
    run optimizers 60 "$PYTHON" -m tests.benchmarks.optimizers "${OPTIMIZERS[@]}" --output "$OUT/optimizers.md"
}

profiles() {
    local cases=(--case "small:128:" --case "base:512:global_batch=128")
    [ -z "$REHEARSE" ] || cases=(--case "tiny:32:")
    corpus
    run profiles 150 "$PYTHON" -m tests.benchmarks.whole_runs "$CORPUS" "${cases[@]}" "${RUNS[@]}" \
        --updates 24 --trace --output "$OUT/profiles"
    run kernels 30 "$PYTHON" -m tests.benchmarks.kernels "$OUT/profiles"
}

{
    date -u
    "$PYTHON" -c "import torch; print('torch', torch.__version__, 'GPU:', torch.cuda.is_available() and torch.cuda.get_device_name())"
    command -v nvidia-smi >/dev/null && nvidia-smi
    git rev-parse HEAD
} 2>&1 | tee "$OUT/machine.txt"

for part in "${PARTS[@]}"; do
    case $part in
        correctness | zero | fusions | runs | tables | optimizers | profiles) "$part" ;;
        *) echo "there is no part '$part'" >&2 && FAILED+=("$part (unknown)") ;;
    esac
done

echo "everything is in $OUT, after $SECONDS s"
if [ ${#FAILED[@]} -gt 0 ]; then
    echo "failed: ${FAILED[*]}"
    exit 1
fi
