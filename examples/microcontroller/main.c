/* Classifies the images of image.h on a Cortex-M, and counts the instructions in QEMU,
   each of which takes a fixed part of a tick of its clock (-icount). */
#include <stdio.h>

#include "image.h"
#include "model.h"

/* SysTick, the clock of each Cortex-M: it counts down from 2^24 - 1. */
#define CONTROL (*(volatile uint32_t *)0xE000E010)
#define RELOAD (*(volatile uint32_t *)0xE000E014)
#define CURRENT (*(volatile uint32_t *)0xE000E018)

static float output[MODEL_OUTPUTS];
static float memory[MODEL_MEMORY_BYTES / sizeof(float)];

int main(void) {
  unsigned turns = 1000000, per_tick, ticks, i, c, best;
  RELOAD = 0xFFFFFF, CURRENT = 0, CONTROL = 5;
  __asm volatile("1: subs %0, #1\n\tbne 1b" : "+r"(turns) : : "cc");
  ticks = 0xFFFFFF - CURRENT;
  per_tick = (2000000 + ticks / 2) / ticks;
  for (i = 0; i < sizeof images / sizeof images[0]; i++) {
    CURRENT = 0;
    model_run(images[i], output, memory);
    ticks = 0xFFFFFF - CURRENT;
    for (best = 0, c = 1; c < MODEL_OUTPUTS; c++)
      if (output[c] > output[best]) best = c;
    printf("%s, %.9g: %s%u instructions\n", model_labels[best], (double)output[best],
           CONTROL >> 16 & 1 ? "more than " : "", ticks * per_tick);
  }
  return 0;
}
