/* Classifies images by a network that `convert` wrote with --pixels: their names are the
   arguments. They are PPM, or PGM for a network of one channel, in the network's size. */
#include <stdio.h>

#include "model.h"

static uint8_t input[MODEL_INPUT_SIZE];
static float output[MODEL_OUTPUTS];
static float memory[MODEL_MEMORY_BYTES / sizeof(float)];

/* Reads the bytes of an image, [row][column][channel]; returns whether they fit. */
static int read_image(const char *path) {
  int kind, width, height, most, fits;
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  fits = fscanf(file, "P%d %d %d %d", &kind, &width, &height, &most) == 4 &&
         kind == (MODEL_INPUT_CHANNELS == 1 ? 5 : 6) && width == MODEL_INPUT_WIDTH &&
         height == MODEL_INPUT_HEIGHT && most == 255 && fgetc(file) != EOF &&
         fread(input, 1, sizeof input, file) == sizeof input;
  fclose(file);
  return fits;
}

int main(int count, char **paths) {
  int i, c, best;
  for (i = 1; i < count; i++) {
    if (!read_image(paths[i])) {
      fprintf(stderr, "%s is not a %s file of %d x %d pixels.\n", paths[i],
              MODEL_INPUT_CHANNELS == 1 ? "PGM (P5)" : "PPM (P6)", MODEL_INPUT_WIDTH,
              MODEL_INPUT_HEIGHT);
      return 1;
    }
    model_run(input, output, memory);
    for (best = 0, c = 1; c < MODEL_OUTPUTS; c++)
      if (output[c] > output[best]) best = c;
    printf("%s, %.9g\n", model_labels[best], output[best]);
  }
  return 0;
}
