/*
 * The process that stands for a container on the host: callers of the OCI runtime wait for it, and look into
 * its namespaces to copy files and to list processes. It has the container's root file system as its root, so
 * they find that, and never the host's. The container itself is in its virtual machine.
 *
 *     stand-in ROOTFS [NETWORK-NAMESPACE|new]
 *
 * It makes the process in new pid and mount namespaces, prints its number, and ends. That one waits on
 * descriptor 3 for one byte, the exit status. The end of the stream without it means that the machine's
 * process was killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHANNEL 3
#define KILLED (128 + SIGKILL)

static int complain(const char *what) {
    fprintf(stderr, "%s: %s", what, strerror(errno));
    return 1;
}

/* Makes `path` the root of this mount namespace. On an initramfs pivot_root is refused. */
static int enter_root(const char *path) {
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return -1;
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(path) < 0)
        return -1;
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH) < 0 ? -1 : chdir("/");
    return mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ? -1 : chdir("/");
}

__attribute__((noreturn)) static void stand_in(const char *root, int ready) {
    unsigned char status;
    ssize_t n;
    char failed = 0;
    prctl(PR_SET_NAME, "tsvmm");
    if (enter_root(root) < 0) {
        failed = (char)errno;
        n = write(ready, &failed, 1);
        _exit(1);
    }
    /* For those who list its processes. A root that is read-only and has no such directory shows none. */
    mkdir("/proc", 0755);
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    n = write(ready, &failed, 1);
    close(ready);
    for (int fd = 0; fd < CHANNEL; fd++)
        close(fd);
    while ((n = read(CHANNEL, &status, 1)) < 0 && errno == EINTR)
        ;
    _exit(n == 1 ? status : KILLED);
}

int main(int argc, char **argv) {
    int ready[2], flags = CLONE_NEWPID | CLONE_NEWNS | SIGCHLD;
    char failed;
    if (argc < 2 || argc > 3) {
        errno = EINVAL;
        return complain("usage: stand-in ROOTFS [NETWORK-NAMESPACE|new]");
    }
    if (argc == 3 && strcmp(argv[2], "new") == 0)
        flags |= CLONE_NEWNET;
    else if (argc == 3) {
        int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
        if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
            return complain(argv[2]);
        close(fd);
    }
    if (pipe2(ready, O_CLOEXEC) < 0)
        return complain("pipe2");
    pid_t pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    if (pid == 0)
        stand_in(argv[1], ready[1]);
    if (pid < 0)
        return complain("clone");
    close(ready[1]);
    if (read(ready[0], &failed, 1) != 1 || failed != 0) {
        errno = failed;
        return complain(argv[1]);
    }
    printf("%d\n", pid);
    return 0;
}
