/* What runs before main in the emulator, which has loaded all data. For a board, take the
   start-up files of its maker. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

extern char stack_top[];
extern int main(void);
extern void reset(void);
extern void initialise_monitor_handles(void); /* printf, by way of the emulator */

void reset(void) {
  *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* switches real numbers on */
  __asm volatile("dsb\n\tisb");
  initialise_monitor_handles();
  exit(main());
}

static void fault(void) { _exit(1); }

__attribute__((section(".vectors"), used)) static void *const vectors[] = {
    stack_top, reset, fault, fault, fault, fault, fault};

void _init(void) {}
void _fini(void) {}
