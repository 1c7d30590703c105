/*
 * /init of the guest that works in a shared directory: real tar and git, which the initial RAM disk has with
 * their libraries, and reads by system calls. Says how long each part took by the guest's own clock, in
 * microseconds, and resets. The host has put a git checkout (tree) and a file (data) into the directory; its
 * kernel parameter BENCH_READS says how many 4 KiB are read of it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define SHARE "/share"
#define BLOCK 4096
#define MEBIBYTE (1 << 20)

static char buffer[MEBIBYTE];

static void end(void) {
    fflush(stdout);
    tcdrain(STDOUT_FILENO);
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

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void say(const char *part, double start) {
    printf("@@%s %.0f@@\n", part, now() - start);
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

/* `count` blocks of a file, each at most once, in an order that no read-ahead foresees. */
static void read_randomly(const char *path, uint32_t count) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    check(fd >= 0 && fstat(fd, &status) == 0, path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    uint64_t blocks = (uint64_t)status.st_size / BLOCK, at = 0;
    for (uint32_t i = 0; i < count; i++) {
        at = (at + 2654435761u) % blocks; /* a prime: it comes to each block before it comes to one twice */
        check(pread(fd, buffer, BLOCK, (off_t)(at * BLOCK)) == BLOCK, path);
    }
    close(fd);
}

static void read_in_order(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got;
    check(fd >= 0, path);
    while ((got = read(fd, buffer, MEBIBYTE)) > 0)
        ;
    check(got == 0, path);
    close(fd);
}

int main(void) {
    char *const tar[] = {"/usr/bin/tar", "-xf", "/files.tar", "-C", SHARE "/out", NULL};
    char *const git[] = {"/usr/bin/git", "-C", SHARE "/tree", "status", "--porcelain", NULL};
    const char *reads = getenv("BENCH_READS");
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    setenv("HOME", "/", 1);
    setenv("GIT_OPTIONAL_LOCKS", "0", 1);
    check(mount("bench", SHARE, "virtiofs", 0, NULL) == 0, "mount");
    mkdir(SHARE "/out", 0755);

    /* tar makes the most requests, and comes first: by its end a server that compiles its code as it runs has
     * done so. */
    double start = now();
    run(tar);
    say("tar", start);

    start = now();
    run(git);
    say("git", start);

    start = now();
    read_randomly(SHARE "/data", reads == NULL ? 1 : (uint32_t)atoi(reads));
    say("random", start);

    start = now();
    read_in_order(SHARE "/stream");
    say("stream", start);
    end();
}
