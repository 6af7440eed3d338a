/* What a page calls of a network that `convert` wrote with --pixels. */
#include "model.h"

#define EXPORT(name) __attribute__((export_name(#name)))

static uint8_t input[MODEL_INPUT_SIZE];
static float output[MODEL_OUTPUTS];
static float memory[MODEL_MEMORY_BYTES / sizeof(float)];

EXPORT(height) int height(void) { return MODEL_INPUT_HEIGHT; }
EXPORT(width) int width(void) { return MODEL_INPUT_WIDTH; }
EXPORT(channels) int channels(void) { return MODEL_INPUT_CHANNELS; }
EXPORT(classes) int classes(void) { return MODEL_OUTPUTS; }
EXPORT(label) const char *label(int i) { return model_labels[i]; }
EXPORT(input) uint8_t *input_bytes(void) { return input; }
EXPORT(output) float *output_numbers(void) { return output; }
EXPORT(run) void run(void) { model_run(input, output, memory); }
