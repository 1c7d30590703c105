/*
 * /init of the guest that works in a shared directory: real tar and git, which the initial RAM disk has with
 * their libraries, and reads by system calls. Says how long each part took by the guest's own clock, in
 * microseconds, and resets. The host has put a git checkout (tree) and a file (data) into the directory; its
 * kernel parameter BENCH_READS says how many 4 KiB are read of it.
 */
#include "guest.h"
#include <stdint.h>
#include <sys/stat.h>

#define SHARE "/share"
#define BLOCK 4096
#define MEBIBYTE (1 << 20)

static char buffer[MEBIBYTE];

static void say(const char *part, double start) {
    printf("@@%s %.0f@@\n", part, now() - start);
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
