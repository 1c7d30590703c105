/* Says hello on the serial port and ends with status 0. */
#include "guest.h"

void main(u64 vcpu) {
    (void)vcpu;
    print("hello from ring 3\n");
    finish(0);
}
