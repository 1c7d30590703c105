/*
 * The benchmarks' guest. It reads from port 0x514 what to do (1: MMIO writes that exit, 2: kicks answered on
 * a virtqueue, 3: the same, with kicks only while the device wants them), then how often. Its write there
 * starts the clock, and its end stops it. It writes the queue's addresses to port 0x518.
 */
#define SIZE 16
#include "vring.h"

static u8 buffer[64];

void main(u64 vcpu) {
    (void)vcpu;
    u32 mode = inl(0x514), count = inl(0x514);
    outl(0x518, (u32)(u64)desc);
    outl(0x518, (u32)(u64)&avail);
    outl(0x518, (u32)(u64)&used);
    desc[0].addr = (u64)buffer;
    desc[0].len = sizeof buffer;
    avail.flags = 1; /* no interrupts */
    outl(0x514, 0);
    for (u32 i = 1; i <= count; i++) {
        if (mode == 1) {
            write32(MMIO + 0x80, i);
            continue;
        }
        avail.ring[(i - 1) % SIZE] = 0;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        avail.idx = (u16)i;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (mode == 2 || (used.flags & 1) == 0)
            write32(MMIO + 0x50, 0);
        while (used.idx != (u16)i)
            __asm__ volatile("pause");
    }
    finish(0);
}
