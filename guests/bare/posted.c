/* Many posted writes, and now and then a write that stops the vCPU. The test must see them in this order. */
#include "guest.h"

void main(u64 vcpu) {
    (void)vcpu;
    for (u32 i = 0; i < 3000; i++) {
        outb(0x3f8, (u8)i);
        if (i % 500 == 499)
            outl(0x514, i);
    }
    write32(MMIO + 0x10, 0x0000ffff); /* posted, by address */
    if (read32(MMIO + 0x60) != 3)     /* a shadow word, set by the test */
        finish(1);
    write32(MMIO + 0x64, 1); /* clears bit 0 in it */
    if (read32(MMIO + 0x60) != 2)
        finish(2);
    static const char text[] = "rep outs in one go";
    rep_outsb(0x3f8, text, sizeof text - 1);
    finish(0);
}
