/*
 * What the benchmarks' Linux guests share: they say what they measured on the console, and reset at their
 * end.
 */
#ifndef BENCH_GUEST_H
#define BENCH_GUEST_H
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void end(void) {
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
    /* A program of the host just ends. */
    if (getpid() == 1)
        reboot(RB_AUTOBOOT);
    exit(1);
}

static void check(int ok, const char *what) {
    if (ok)
        return;
    printf("@@failed@@ ");
    fflush(stdout);
    perror(what);
    end();
}

/* The modules that this kernel does not have built in, in the order of their names. */
static void load_modules(void) {
    struct dirent **names;
    int count = scandir("/modules", &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof path, "/modules/%s", names[i]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (names[i]->d_name[0] != '.')
            syscall(SYS_finit_module, fd, "", 0);
        close(fd);
    }
}

/* Microseconds. */
static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void run(char *const argv[]) {
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        execv(argv[0], argv);
        _exit(127);
    }
    waitpid(child, &status, 0);
    if (status != 0)
        printf("status %d of %s\n", status, argv[0]);
    check(status == 0, argv[0]);
}

#endif
