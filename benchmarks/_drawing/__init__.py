"""Tables in Markdown, and what images show, from the JSON files in results/.

A function per table, each from the content of one file or of several. The scripts that
measure print the same tables, and benchmarks/evidence.py draws them into the pages.
"""

from __future__ import annotations

from . import (
    accuracy,
    boards,
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

# The files below results/, between commas, and what draws blocks from them, each of
# which has the name of its function on a page.
_DRAWN = {
    "../larq_nobn/models/sizes.json": [files.file_sizes],
    "bfloat16/compare.json,budgets/compare.json": [grids.bfloat16],
    "budgets/compare.json": [grids.budgets],
    "c/accuracy/result.json": [runtimes.c_accuracies],
    "c/boards/result.json": [boards.boards, boards.c_kilobytes],
    "c/boards/result.json,runtimes/accuracy/result.json,c/latency/result.json": [
        runtimes.c_runtimes
    ],
    "int8/accuracy/result.json": [runtimes.int8_accuracies],
    "runtimes/accuracy/result.json,int8/accuracy/result.json": [runtimes.int8_costs],
    "micro/accuracy/result.json": [runtimes.micro_accuracies],
    "c/latency/result.json": [
        *(runtimes.c_times, runtimes.c_fastest),
        *(runtimes.c_ordinary, runtimes.c_half_width),
    ],
    "calibration/compare.json": [grids.calibration],
    "cifar10_accuracy/compare.json": [grids.cifar10_accuracy, grids.plain_gap],
    "compat/result.json": compatibility.DRAWN,
    "dense_prediction/result.json": [
        *(accuracy.dense_prediction, accuracy.dense_prediction_files)
    ],
    "deployment/result.json": [
        *(files.deployment, files.files, files.saved_operations, files.saved_time)
    ],
    "few_images/result.json": [accuracy.few_images],
    "fine_tuning/search/runs.json": [accuracy.fine_tuning],
    "fuzz/result.json": [faults.fuzz, faults.fuzz_reasons],
    "larger/runs.json": [accuracy.larger, accuracy.width_64_lead],
    "levers/compare.json": [grids.levers, grids.calibration_gain, grids.clipping_gain],
    "levers/screen/runs.json": [grids.screen],
    "long_recipe_gpu/runs.json": [accuracy.long_recipe_gpu],
    "methods/compare.json": [grids.methods],
    "models/result.json": networks.DRAWN,
    "mutants/result.json": [faults.mutants],
    "narrow_networks/result.json": [networks.narrow_networks],
    "normalizations/result.json": [accuracy.normalizations],
    "normalizations/result.json,methods/compare.json": [accuracy.choosing],
    "ordinary/accuracy/result.json": [accuracy.ordinary],
    "ordinary/latency/result.json": [accuracy.ordinary_latency],
    "own_network/result.json": [
        *(steps.own_network, steps.pre_activations, steps.file_operations)
    ],
    "runtimes/accuracy/result.json": [
        *(runtimes.runtime_accuracies, runtimes.runtime_sizes)
    ],
    "runtimes/latency/result.json": [
        *(runtimes.runtime_latencies, runtimes.runtime_int8_time)
    ],
    "small_batches/result.json": [accuracy.small_batches],
    "train_step/result.json": [cost.train_step, cost.train_step_short, cost.marks],
    "zoo/result.json": [zoo.zoo],
    "budgets/compare.json,calibration/compare.json,larger/runs.json,"
    "train_step/result.json,normalizations/result.json": [overview.overview],
}
TABLES = {
    draw.__name__: (paths, draw) for paths, draws in _DRAWN.items() for draw in draws
}
