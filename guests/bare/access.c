/*
 * Port and MMIO accesses of every width. The test's devices answer with the written value. The guest ends at
 * the first failure.
 */
#include "guest.h"

void main(u64 vcpu) {
    (void)vcpu;
    write8(MMIO + 1, 0xa5);
    if (read8(MMIO + 1) != 0xa5)
        finish(1);
    write16(MMIO + 2, 0xbeef);
    if (read16(MMIO + 2) != 0xbeef)
        finish(2);
    write32(MMIO + 4, 0xdeadbeef);
    if (read32(MMIO + 4) != 0xdeadbeef)
        finish(3);
    write64(MMIO + 8, 0x0123456789abcdef);
    if (read64(MMIO + 8) != 0x0123456789abcdef)
        finish(4);
    if (read32(MMIO + 0x800) != 0xffffffff) /* nobody there */
        finish(5);
    outb(0x510, 0x5a);
    if (inb(0x510) != 0x5a)
        finish(6);
    outl(0x514, 0xcafef00d);
    if (inl(0x514) != 0xcafef00d)
        finish(7);
    if (inb(0x600) != 0xff) /* nobody there */
        finish(8);
    /* Several values in one exit, written and read. */
    static const u8 out[] = {1, 2, 3, 4, 5, 6, 7, 8};
    u8 in[8];
    rep_outsb(0x511, out, 8);
    rep_insb(0x511, in, 8);
    for (int i = 0; i < 8; i++)
        if (in[i] != out[7]) /* the port keeps the last one */
            finish(9);
    finish(0);
}
