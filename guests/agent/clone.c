/* Mounts between roots, see clone.h. */
#define _GNU_SOURCE /* AT_EMPTY_PATH */
#include "clone.h"
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <linux/mount.h>, which musl's compiler does not see. */
#define OPEN_TREE_CLONE 1
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#endif

#define CLONES_MAX 128
#define NAME_MAX_BYTES 32

static struct {
    char name[NAME_MAX_BYTES];
    int fd;
} clones[CLONES_MAX];
static size_t count;

int clone_take(const char *name, const char *path) {
    if (count == CLONES_MAX || strlen(name) >= NAME_MAX_BYTES) {
        errno = E2BIG;
        return -1;
    }
    int fd =
        (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE | (unsigned)O_CLOEXEC);
    if (fd < 0)
        return -1;
    strcpy(clones[count].name, name);
    clones[count++].fd = fd;
    return 0;
}

/* Something of the same kind, for the mount to cover. */
static int make_target(const char *target, const struct stat *kind) {
    struct stat found;
    char parent[PATH_MAX];
    const char *slash = strrchr(target, '/');
    if (stat(target, &found) == 0)
        return 0;
    if (S_ISDIR(kind->st_mode))
        return make_directories(target, 0755);
    if (slash == NULL || (size_t)(slash - target) >= sizeof parent) {
        errno = EINVAL;
        return -1;
    }
    snprintf(parent, sizeof parent, "%.*s", (int)(slash - target), target);
    if (make_directories(parent, 0755) < 0)
        return -1;
    int fd = open(target, O_CREAT | O_RDONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

int clone_put(const char *name, const char *target, const char *options) {
    struct stat kind;
    size_t i = 0;
    while (i < count && (clones[i].fd < 0 || strcmp(clones[i].name, name) != 0))
        i++;
    if (i == count) {
        errno = ESRCH;
        return -1;
    }
    if (fstat(clones[i].fd, &kind) < 0 || make_target(target, &kind) < 0 ||
        syscall(SYS_move_mount, clones[i].fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        return -1;
    close(clones[i].fd);
    clones[i].fd = -1;
    return options[0] == 0 ? 0 : mount_restrict(target, options);
}
