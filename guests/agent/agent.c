/* Ending with words, and ending the machine, see agent.h. */
#include "agent.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

bool in_charge;

static void print(const char *format, va_list values) {
    char text[512];
    vsnprintf(text, sizeof text, format, values);
    dprintf(2, "tsvmm-agent: %s\n", text);
}

void complain(const char *format, ...) {
    va_list values;
    va_start(values, format);
    print(format, values);
    va_end(values);
}

void die(const char *format, ...) {
    va_list values;
    va_start(values, format);
    print(format, values);
    va_end(values);
    power_off(false);
    _exit(1);
}

bool power_off(bool reset) {
    if (!in_charge)
        return false;
    kill(-1, SIGKILL);
    sync();
    umount2("/", MNT_DETACH);
    sync();
    reboot(reset ? RB_AUTOBOOT : RB_POWER_OFF);
    return false;
}
