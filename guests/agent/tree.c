/* Trees of files, see tree.h. */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DIRECTORIES_MAX 200
#define BUFFER_BYTES (256u << 10)
#define XATTR_BYTES (64u << 10)

/* A file with several names that has been copied under one of them. */
struct linked {
    struct linked *next;
    ino_t inode;
    char path[]; /* below the destination */
};

/* One call of tree_fill. */
struct copy {
    int root; /* the destination */
    struct linked *linked;
    char *buffer;
    char path[PATH_MAX]; /* of the entry, below the root */
};

/* Opens a directory for readdir. @return NULL with errno */
static DIR *open_directory(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL && fd >= 0)
        close(fd);
    return directory;
}

/* The next entry besides "." and "..". */
static const char *next_name(DIR *directory) {
    struct dirent *entry;
    do
        entry = readdir(directory);
    while (entry != NULL && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry == NULL ? NULL : entry->d_name;
}

static int remove_directory(int parent, const char *name, dev_t device, int depth);

/* Removes all in a directory. */
static int remove_content(DIR *directory, dev_t device, int depth) {
    struct stat found;
    const char *name;
    int fd = dirfd(directory);
    if (fstat(fd, &found) < 0)
        return -1;
    if (found.st_dev != device || depth == DIRECTORIES_MAX) {
        errno = found.st_dev != device ? EBUSY : ELOOP;
        return -1;
    }
    while ((name = next_name(directory)) != NULL)
        if (fstatat(fd, name, &found, AT_SYMLINK_NOFOLLOW) < 0 ||
            (S_ISDIR(found.st_mode) ? remove_directory(fd, name, device, depth + 1) : unlinkat(fd, name, 0)) <
                0)
            return -1;
    return 0;
}

static int remove_directory(int parent, const char *name, dev_t device, int depth) {
    DIR *directory = open_directory(parent, name);
    if (directory == NULL)
        return -1;
    int result = remove_content(directory, device, depth), error = errno;
    closedir(directory);
    errno = error;
    return result < 0 ? -1 : unlinkat(parent, name, AT_REMOVEDIR);
}

int tree_remove(int parent, const char *name, dev_t device) {
    return remove_directory(parent, name, device, 0);
}

/* A file system that has no such attributes takes none. */
static int copy_xattrs(int from, int to, char *buffer) {
    char names[XATTR_BYTES];
    ssize_t length = flistxattr(from, names, sizeof names);
    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
        ssize_t size = fgetxattr(from, names + at, buffer, BUFFER_BYTES);
        if (size >= 0 && fsetxattr(to, names + at, buffer, (size_t)size, 0) < 0 && errno != EOPNOTSUPP &&
            errno != EPERM)
            return -1;
    }
    return 0;
}

/* Owner before mode, because a change of the owner takes the set-user-ID bit away. */
static int copy_attributes(int from, int to, const struct stat *found, char *buffer) {
    const struct timespec times[2] = {found->st_atim, found->st_mtim};
    return fchown(to, found->st_uid, found->st_gid) < 0 || fchmod(to, found->st_mode & 07777) < 0 ||
                   copy_xattrs(from, to, buffer) < 0 || futimens(to, times) < 0
               ? -1
               : 0;
}

static int copy_bytes(int from, int to, char *buffer) {
    ssize_t n;
    while ((n = read(from, buffer, BUFFER_BYTES)) > 0)
        for (ssize_t done = 0, w; done < n; done += w)
            if ((w = write(to, buffer + done, (size_t)(n - done))) < 0)
                return -1;
    return n < 0 ? -1 : 0;
}

/* @return 1 when the file is there under another name and has got this one, too; 0 when it is new; -1 */
static int copy_link(struct copy *copy, int to, const char *name, const struct stat *found) {
    if (found->st_nlink < 2)
        return 0;
    for (struct linked *one = copy->linked; one != NULL; one = one->next)
        if (one->inode == found->st_ino)
            return linkat(copy->root, one->path, to, name, 0) < 0 ? -1 : 1;
    size_t length = strlen(copy->path) + 1;
    struct linked *one = malloc(sizeof *one + length);
    if (one == NULL)
        return -1;
    *one = (struct linked){.next = copy->linked, .inode = found->st_ino};
    memcpy(one->path, copy->path, length);
    copy->linked = one;
    return 0;
}

static int copy_file(struct copy *copy, int from, int to, const char *name) {
    struct stat found;
    int result = -1, source = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int target =
        source < 0 ? -1 : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (target >= 0 && fstat(source, &found) == 0 && copy_bytes(source, target, copy->buffer) == 0)
        result = copy_attributes(source, target, &found, copy->buffer);
    int error = errno;
    if (target >= 0 && close(target) < 0 && result == 0)
        result = -1;
    else
        errno = error;
    if (source >= 0)
        close(source);
    return result;
}

/* A symbolic link, a FIFO, a socket or a device. */
static int copy_special(int from, int to, const char *name, const struct stat *found) {
    char target[PATH_MAX];
    if (S_ISLNK(found->st_mode)) {
        ssize_t length = readlinkat(from, name, target, sizeof target - 1);
        if (length < 0)
            return -1;
        target[length] = 0;
        if (symlinkat(target, to, name) < 0)
            return -1;
    } else if (mknodat(to, name, found->st_mode, found->st_rdev) < 0 ||
               fchmodat(to, name, found->st_mode & 07777, 0) < 0) {
        return -1;
    }
    return fchownat(to, name, found->st_uid, found->st_gid, AT_SYMLINK_NOFOLLOW);
}

static int copy_content(struct copy *copy, DIR *from, int to, int depth);

static int copy_directory(struct copy *copy, int from, int to, const char *name, int depth) {
    struct stat found;
    if (mkdirat(to, name, 0700) < 0)
        return -1;
    DIR *source = open_directory(from, name);
    int result = -1, target = source == NULL ? -1 : openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (target >= 0 && copy_content(copy, source, target, depth + 1) == 0 &&
        fstat(dirfd(source), &found) == 0)
        result = copy_attributes(dirfd(source), target, &found, copy->buffer);
    int error = errno;
    if (target >= 0)
        close(target);
    if (source != NULL)
        closedir(source);
    errno = error;
    return result;
}

static int copy_content(struct copy *copy, DIR *from, int to, int depth) {
    struct stat found;
    const char *name;
    size_t length = strlen(copy->path);
    if (depth == DIRECTORIES_MAX) {
        errno = ELOOP;
        return -1;
    }
    while ((name = next_name(from)) != NULL) {
        if (length + strlen(name) + 2 > sizeof copy->path) {
            errno = ENAMETOOLONG;
            return -1;
        }
        sprintf(copy->path + length, "%s%s", length == 0 ? "" : "/", name);
        if (fstatat(dirfd(from), name, &found, AT_SYMLINK_NOFOLLOW) < 0)
            return -1;
        int there = S_ISDIR(found.st_mode) ? 0 : copy_link(copy, to, name, &found), result = there;
        if (there == 0)
            result = S_ISDIR(found.st_mode)   ? copy_directory(copy, dirfd(from), to, name, depth)
                     : S_ISREG(found.st_mode) ? copy_file(copy, dirfd(from), to, name)
                                              : copy_special(dirfd(from), to, name, &found);
        if (result < 0)
            return -1;
        copy->path[length] = 0;
    }
    return 0;
}

static int fill(DIR *from, DIR *to) {
    struct stat source, target;
    struct copy copy = {.root = dirfd(to), .buffer = malloc(BUFFER_BYTES)};
    int result = -1;
    if (copy.buffer != NULL && fstat(dirfd(from), &source) == 0 && fstat(dirfd(to), &target) == 0) {
        result = copy_content(&copy, from, dirfd(to), 0);
        if (result == 0)
            result = copy_attributes(dirfd(from), dirfd(to), &source, copy.buffer);
        int error = errno;
        if (result < 0) {
            rewinddir(to);
            remove_content(to, target.st_dev, 0);
        }
        errno = error;
    }
    free(copy.buffer);
    while (copy.linked != NULL) {
        struct linked *next = copy.linked->next;
        free(copy.linked);
        copy.linked = next;
    }
    return result;
}

int tree_fill(const char *from, const char *to) {
    /* The image may have a link in the source's place, which is followed as for a mount. */
    DIR *source = opendir(from);
    if (source == NULL)
        return errno == ENOENT || errno == ENOTDIR ? 0 : -1;
    DIR *target = opendir(to);
    int result = target == NULL ? -1 : next_name(target) != NULL ? 0 : fill(source, target), error = errno;
    if (target != NULL)
        closedir(target);
    closedir(source);
    errno = error;
    return result;
}
