/*
 * /init of the guest whose boot is timed: says how long the kernel's clock has run, in microseconds, and
 * resets.
 */
#include <stdio.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    printf("@@init %lld@@\n", (long long)time.tv_sec * 1000000 + time.tv_nsec / 1000);
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    reboot(RB_AUTOBOOT);
    return 1;
}
