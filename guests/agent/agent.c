/* Messages, and the end of the machine, see agent.h. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long killed processes may take to end, in ms. */
#define END_MS 2000
#define END_STEP_MS 50

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

/*
 * Waits for the children: nothing can be unmounted while they have files open. SIGCHLD is blocked (main.c).
 */
static void end_children(void) {
    struct timespec step = {.tv_nsec = END_STEP_MS * 1000000};
    sigset_t child_ended;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    kill(-1, SIGKILL);
    for (int i = 0; i < END_MS / END_STEP_MS; i++) {
        pid_t pid;
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (pid < 0)
            return;
        sigtimedwait(&child_ended, NULL, &step);
    }
}

/*
 * Makes a disk's file system read-only, which makes it clean even while a container still has it mounted. The
 * kernel removes a container's mounts a little later than its last process.
 */
static void end_disk(const char *target) {
    struct timespec step = {.tv_nsec = END_STEP_MS * 1000000};
    for (int i = 0; i < END_MS / END_STEP_MS; i++) {
        if (mount(NULL, target, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0 || errno != EBUSY)
            return;
        nanosleep(&step, NULL);
    }
}

/*
 * Unmounts all mounts, the last one first. A mount in use becomes read-only. A container's mounts are gone
 * already.
 */
static void unmount_all(void) {
    static char table[32768];
    size_t length = 0;
    int fd = open("/proc/mounts", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; fd >= 0 && (n = read(fd, table + length, sizeof table - 1 - length)) > 0;)
        length += (size_t)n;
    if (fd >= 0)
        close(fd);
    table[length] = 0;
    while (length > 0) {
        while (length > 0 && table[length - 1] != '\n')
            length--;
        char source[512], target[512];
        if (sscanf(table + length, "%511s %511s", source, target) == 2) {
            if (strncmp(source, "/dev/", 5) == 0)
                end_disk(target);
            if (umount2(target, 0) < 0)
                mount(NULL, target, NULL, MS_REMOUNT | MS_RDONLY, NULL);
        }
        if (length > 0)
            table[--length] = 0;
    }
}

bool power_off(bool reset) {
    if (!in_charge)
        return false;
    end_children();
    sync();
    unmount_all();
    sync();
    reboot(reset ? RB_AUTOBOOT : RB_POWER_OFF);
    return false;
}
