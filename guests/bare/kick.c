/* Kicks the test by ioeventfd and waits for its interrupt, by irqfd, `count` (port 0x514) times. */
#include "guest.h"

#define VECTOR 0x41

void main(u64 vcpu) {
    (void)vcpu;
    u32 count = inl(0x514);
    enable_interrupt(5, VECTOR);
    for (u32 i = 1; i <= count; i++) {
        write32(MMIO + 0x50, 7);
        while (interrupts[VECTOR] < i)
            __asm__ volatile("pause");
    }
    print_number(interrupts[VECTOR]);
    finish(0);
}
