/* Ends in the way that port 0x514 asks for: 1 HLT, 2 triple fault, 3 page fault, 4 endless loop, 5 divide
 * error. */
#include "guest.h"

void main(u64 vcpu) {
    (void)vcpu;
    switch (inl(0x514)) {
    case 1:
        halt();
        finish(1); /* somebody woke us */
    case 2:
        triple_fault();
        finish(2);
    case 3:
        write8(0xffff800000000000, 1);
        finish(3);
    case 4:
        print("spinning");
        for (;;)
            __asm__ volatile("");
    case 5:
        __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" ::: "eax", "ecx", "edx");
        finish(5);
    }
    finish(0x7f);
}
