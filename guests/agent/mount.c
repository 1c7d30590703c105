/* Mounts, see mount.h. */
#include "mount.h"
#include "agent.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The kernel takes a page of them. */
#define MOUNT_DATA_BYTES 4096

static const struct {
    const char *name;
    unsigned long set, clear;
} FLAGS[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"nosuid", MS_NOSUID, 0},
    {"nodev", MS_NODEV, 0},
    {"noexec", MS_NOEXEC, 0},
    {"exec", 0, MS_NOEXEC},
    {"suid", 0, MS_NOSUID},
    {"dev", 0, MS_NODEV},
    {"noatime", MS_NOATIME, 0},
    {"bind", MS_BIND, 0},
    {"rbind", MS_BIND | MS_REC, 0},
    {"remount", MS_REMOUNT, 0},
    {"rprivate", MS_PRIVATE | MS_REC, 0},
    {"relatime", MS_RELATIME, 0},
    {"strictatime", MS_STRICTATIME, 0},
    {"nodiratime", MS_NODIRATIME, 0},
    {"private", MS_PRIVATE, 0},
    {"slave", MS_SLAVE, 0},
    {"rslave", MS_SLAVE | MS_REC, 0},
    {"defaults", 0, 0},
};
/* Flags that belong to one mount and not to its file system. */
#define MOUNT_FLAGS (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME)

int make_directories(const char *path, unsigned mode) {
    char part[4096];
    size_t length = strlen(path);
    if (length >= sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t at = 1; at <= length; at++) {
        if (path[at] != '/' && path[at] != 0)
            continue;
        memcpy(part, path, at);
        part[at] = 0;
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}

/* Takes the flags out of `options`, which leaves the file system's own. @return 0; -1 when those are too long
 */
static int read_options(const char *options, unsigned long *set, char *data, size_t size) {
    unsigned long flags = 0;
    data[0] = 0;
    while (*options != 0) {
        size_t length = strcspn(options, ","), i = 0;
        for (; i < sizeof FLAGS / sizeof *FLAGS; i++)
            if (strlen(FLAGS[i].name) == length && strncmp(FLAGS[i].name, options, length) == 0)
                break;
        if (i < sizeof FLAGS / sizeof *FLAGS)
            flags = (flags | FLAGS[i].set) & ~FLAGS[i].clear;
        else if (strlen(data) + length + 2 > size) {
            errno = ENAMETOOLONG;
            return -1;
        } else
            sprintf(data + strlen(data), "%s%.*s", data[0] == 0 ? "" : ",", (int)length, options);
        options += length + (options[length] == ',');
    }
    *set = flags;
    return 0;
}

/* Removes an option from the file system's own. @return whether it was there */
static bool take_option(char *data, const char *name) {
    size_t length = strlen(name);
    for (char *at = data; *at != 0; at += strcspn(at, ",")) {
        at += *at == ',';
        if (strncmp(at, name, length) != 0 || (at[length] != 0 && at[length] != ','))
            continue;
        if (at[length] == ',')
            memmove(at, at + length + 1, strlen(at + length + 1) + 1);
        else
            *(at > data ? at - 1 : at) = 0;
        return true;
    }
    return false;
}

/* Mounts an empty file system and fills it with what it covers. It is read-only only then. */
static int mount_copy(const char *type, const char *target, unsigned long flags, const char *data) {
    char from[32];
    int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = -1;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    if (fd >= 0 && mount(type, target, type, flags & ~(unsigned long)MS_RDONLY, data) == 0)
        result = tree_fill(from, target);
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    if (result == 0 && (flags & MS_RDONLY))
        result = mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | flags, NULL);
    return result;
}

/* Finds the virtio disk whose serial number (VIRTIO_BLK_T_GET_ID) is `id`. */
static bool find_disk(const char *id, char *name, size_t size) {
    char path[300];
    DIR *directory = opendir("/sys/block");
    bool found = false;
    for (struct dirent *entry; directory != NULL && !found && (entry = readdir(directory)) != NULL;) {
        char serial[32] = {0};
        snprintf(path, sizeof path, "/sys/block/%s/serial", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        found = read(fd, serial, sizeof serial - 1) >= 0;
        close(fd);
        serial[strcspn(serial, "\n")] = 0;
        found = found && strcmp(serial, id) == 0;
        snprintf(name, size, "%s", entry->d_name);
    }
    if (directory != NULL)
        closedir(directory);
    return found;
}

int disk_name(const char *id, char *name, size_t size) {
    for (int i = 0; i < 500; i++, usleep(10000)) /* the driver may still be looking at it */
        if (find_disk(id, name, size))
            return 0;
    errno = ENODEV;
    return -1;
}

int mount_at(const char *type, const char *source, const char *target, const char *options) {
    char path[300] = "/dev/", data[MOUNT_DATA_BYTES];
    struct stat found;
    if (strncmp(source, "id:", 3) == 0) {
        if (disk_name(source + 3, path + 5, sizeof path - 5) < 0)
            return -1;
        source = path;
    }
    unsigned long flags;
    if (read_options(options, &flags, data, sizeof data) < 0)
        return -1;
    bool copies = take_option(data, "tmpcopyup");
    if (stat(target, &found) < 0) {
        copies = false;
        if (make_directories(target, 0755) < 0)
            return -1;
    } else if (strcmp(type, "tmpfs") == 0 && strstr(data, "mode=") == NULL &&
               strlen(data) + 16 < sizeof data) {
        sprintf(data + strlen(data), "%smode=%o", data[0] == 0 ? "" : ",", found.st_mode & 07777);
    }
    if (copies)
        return mount_copy(type, target, flags, data);
    return mount(source, target, type, flags, data);
}

int mount_restrict(const char *path, const char *options) {
    unsigned long flags;
    char data[MOUNT_DATA_BYTES];
    struct statvfs old;
    if (read_options(options, &flags, data, sizeof data) < 0 || statvfs(path, &old) < 0)
        return -1;
    flags &= MOUNT_FLAGS;
    /* ST_NOSUID, ST_NODEV and ST_NOEXEC have the numbers of MS_*. */
    flags |= old.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC);
    return flags == 0 ? 0 : mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | flags, NULL);
}

/* Whether errno says that there is nothing of this name. */
static bool missing(void) {
    return errno == ENOENT || errno == ENOTDIR;
}

int mount_mask(const char *path) {
    struct stat found;
    if (stat(path, &found) < 0)
        return missing() ? 0 : -1;
    if (S_ISDIR(found.st_mode))
        return mount("tmpfs", path, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=555,size=0");
    return mount("/dev/null", path, NULL, MS_BIND, NULL);
}

int mount_read_only(const char *path) {
    struct statvfs old;
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0)
        return missing() ? 0 : -1;
    if (statvfs(path, &old) < 0)
        return -1;
    /* ST_NOSUID, ST_NODEV and ST_NOEXEC have the numbers of MS_*; a remount that left them out would be
     * refused. */
    unsigned long flags = old.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC);
    return mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | flags, NULL);
}

int mount_switch(const char *path) {
    static const char *const OLD[] = {"/proc", "/sys", "/dev"};
    if (chdir(path) < 0)
        return -1;
    for (size_t i = 0; i < sizeof OLD / sizeof *OLD; i++)
        umount2(OLD[i], MNT_DETACH);
    return mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ? -1 : chdir("/");
}
