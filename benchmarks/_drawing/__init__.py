"""Tables in Markdown, and what images show, from the JSON files in results/.

A function per table, each from the content of one file or of several. The scripts that
measure print the same tables, and benchmarks/evidence.py draws them into the pages.
"""

from __future__ import annotations

from . import (
    accuracy,
    compatibility,
    cost,
    faults,
    files,
    grids,
    networks,
    overview,
    runtimes,
    steps,
    zoo,
)

# Name of a block on a page: the files below results/, between commas, and what draws
# the block from them.
TABLES = {
    "budgets": ("budgets/compare.json", grids.budgets),
    "levers": ("levers/compare.json", grids.levers),
    "calibration": ("calibration/compare.json", grids.calibrated),
    "methods": ("methods/compare.json", grids.methods),
    "kernels": ("kernels/compare.json", grids.methods),
    "bfloat16": ("bfloat16/compare.json,budgets/compare.json", grids.bfloat16),
    "larger": ("larger/runs.json", accuracy.larger),
    "long_recipe_gpu": ("long_recipe_gpu/runs.json", accuracy.searched),
    "cifar10_accuracy": ("cifar10_accuracy/compare.json", grids.methods),
    "plain_gap": ("cifar10_accuracy/compare.json", grids.plain_gap),
    "calibration_gain": ("levers/compare.json", grids.calibration_gain),
    "clipping_gain": ("levers/compare.json", grids.clipping_gain),
    "few_images": ("few_images/result.json", accuracy.few_images),
    "few_image_calibration": (
        "few_images/result.json",
        accuracy.few_image_calibration,
    ),
    "few_image_choices": ("few_images/result.json", accuracy.few_image_choices),
    "ordinary": ("ordinary/accuracy/result.json", accuracy.ordinary),
    "ordinary_latency": ("ordinary/latency/result.json", accuracy.ordinary_latency),
    "small_batches": ("small_batches/result.json", accuracy.small_batches),
    "normalizations": ("normalizations/result.json", accuracy.normalizations),
    "train_step": ("train_step/result.json", cost.train_step),
    "train_step_short": ("train_step/result.json", cost.train_step_short),
    "marks": ("train_step/result.json", cost.marks),
    "deployment": ("deployment/result.json", files.deployment),
    "files": ("deployment/result.json", files.files),
    "runtime_accuracies": ("runtimes/accuracy/result.json", runtimes.accuracies),
    "runtime_sizes": ("runtimes/accuracy/result.json", runtimes.file_sizes),
    "runtime_latencies": ("runtimes/latency/result.json", runtimes.latencies),
    "runtime_int8_time": ("runtimes/latency/result.json", runtimes.int8_time),
    "saved_operations": ("deployment/result.json", files.saved_operations),
    "saved_time": ("deployment/result.json", files.saved_time),
    "environments": ("compat/result.json", compatibility.environments),
    "opened_files": ("compat/result.json", compatibility.files),
    "without_extras": ("compat/result.json", compatibility.extras),
    "mutants": ("mutants/result.json", faults.mutants),
    "models": ("models/result.json", networks.models),
    "trained_models": ("models/result.json", networks.trained_models),
    "short_models": ("models/result.json", networks.short_models),
    "short_trained_models": ("models/result.json", networks.short_trained_models),
    "zoo": ("zoo/result.json", zoo.zoo),
    "fuzz": ("fuzz/result.json", faults.fuzz),
    "fuzz_reasons": ("fuzz/result.json", faults.fuzz_reasons),
    "own_network": ("own_network/result.json", steps.own_network),
    "pre_activations": ("own_network/result.json", steps.pre_activations),
    "file_operations": ("own_network/result.json", steps.file_operations),
    "choosing": (
        "normalizations/result.json,methods/compare.json",
        accuracy.choosing,
    ),
    "width_64_lead": ("larger/runs.json", accuracy.width_64_lead),
    "overview": (
        "budgets/compare.json,calibration/compare.json,larger/runs.json,"
        "train_step/result.json,normalizations/result.json",
        overview.overview,
    ),
}
