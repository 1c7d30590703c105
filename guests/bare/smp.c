/* Two vCPUs pass a token to and fro in memory. Each writes to its own port how often it had the token. */
#include "guest.h"

static volatile u32 turn, finished;

void main(u64 vcpu) {
    u32 had = 0;
    while (had < 1000) {
        while (turn != vcpu)
            __asm__ volatile("pause");
        had++;
        turn = (u32)(1 - vcpu);
    }
    outl((u16)(0x514 + 4 * vcpu), had);
    __atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
    while (finished != 2)
        __asm__ volatile("pause");
    if (vcpu == 0)
        finish(0);
    for (;;)
        __asm__ volatile("pause");
}
