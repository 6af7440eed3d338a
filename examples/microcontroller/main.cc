// Classifies images with TensorFlow Lite Micro. `export.py` writes network.h of a file
// that takes pixels: the network, its operations, and the memory that it needs.
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "network.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {
alignas(16) uint8_t arena[kArenaBytes];

int8_t Quantize(float x) {
  const long step = std::lround(x / kInputScale) + kInputZeroPoint;
  return static_cast<int8_t>(step < -128 ? -128 : step > 127 ? 127 : step);
}
}  // namespace

// Takes the pixels of an image, row by row, and returns its class; -1 if memory is short.
int Classify(const uint8_t* pixels) {
  static Resolver resolver;
  static const TfLiteStatus added = AddOperations(resolver);
  static tflite::MicroInterpreter interpreter(tflite::GetModel(kNetwork), resolver,
                                              arena, kArenaBytes);
  static const TfLiteStatus ready = interpreter.AllocateTensors();
  if (added != kTfLiteOk || ready != kTfLiteOk) return -1;
  int8_t* input = interpreter.input(0)->data.int8;
  for (int i = 0; i < kInputs; ++i) input[i] = Quantize(pixels[i]);
  if (interpreter.Invoke() != kTfLiteOk) return -1;
  const int8_t* scores = interpreter.output(0)->data.int8;
  int best = 0;
  for (int i = 1; i < kOutputs; ++i) best = scores[i] > scores[best] ? i : best;
  return best;
}

// On a computer: the classes of all images that standard input contains.
int main() {
  static uint8_t pixels[kInputs];
  while (std::fread(pixels, 1, kInputs, stdin) == kInputs)
    std::printf("%d\n", Classify(pixels));
  return 0;
}
