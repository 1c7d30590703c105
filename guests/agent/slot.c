/* Slots of the virtio bus, see slot.h; Linux's drivers/virtio/virtio_mmio.c. */
#include "slot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "/sys/bus/platform/devices"
#define DRIVER "/sys/bus/platform/drivers/virtio-mmio"
#define PAUSE_US 5000
#define BIND_MS 10000
/* The kernel writes what it holds in RAM to a disk before it lets go of it. */
#define UNBIND_MS 50000
#define NAME_BYTES 64

/* The platform device at an address, by /proc/iomem: "d0003000-d00031ff : LNRO0005:03 LNRO0005:03". */
static bool find_device(unsigned long address, char *name) {
    char line[256];
    unsigned long start;
    bool found = false;
    FILE *file = fopen("/proc/iomem", "re");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
        found = sscanf(line, " %lx-%*x : %63s", &start, name) == 2 && start == address &&
                strncmp(name, "LNRO0005:", 9) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

static int tell_driver(const char *file, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, DRIVER "/%s", file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, name, strlen(name));
    int error = errno;
    close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

static bool is_bound(const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, DEVICES "/%s/driver", name);
    return access(path, F_OK) == 0;
}

int slot_bind(const char *address) {
    char name[NAME_BYTES];
    unsigned long at = strtoul(address, NULL, 16);
    for (int waited = 0; waited < BIND_MS; waited += PAUSE_US / 1000) {
        if (find_device(at, name) && (is_bound(name) || tell_driver("bind", name) == 0 || is_bound(name)))
            return 0;
        usleep(PAUSE_US);
    }
    errno = ENODEV;
    return -1;
}

/* Whether a file system has a block device: it opens it exclusively. */
static bool in_use(const char *disk) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/dev/%s", disk);
    int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == EBUSY;
}

/* The disks below a platform device: DEVICES/NAME/virtio3/block/vdc. */
static bool has_disk_in_use(const char *name) {
    char path[PATH_MAX];
    bool found = false;
    snprintf(path, sizeof path, DEVICES "/%s", name);
    DIR *device = opendir(path);
    for (struct dirent *entry; device != NULL && !found && (entry = readdir(device)) != NULL;) {
        if (strncmp(entry->d_name, "virtio", 6) != 0)
            continue;
        snprintf(path, sizeof path, DEVICES "/%s/%s/block", name, entry->d_name);
        DIR *disks = opendir(path);
        for (struct dirent *disk; disks != NULL && !found && (disk = readdir(disks)) != NULL;)
            found = disk->d_name[0] != '.' && in_use(disk->d_name);
        if (disks != NULL)
            closedir(disks);
    }
    if (device != NULL)
        closedir(device);
    return found;
}

int slot_unbind(const char *address) {
    char name[NAME_BYTES];
    if (!find_device(strtoul(address, NULL, 16), name)) {
        errno = ENODEV;
        return -1;
    }
    for (int waited = 0; has_disk_in_use(name); waited += PAUSE_US / 1000) {
        if (waited >= UNBIND_MS) {
            errno = EBUSY;
            return -1;
        }
        usleep(PAUSE_US);
    }
    return is_bound(name) ? tell_driver("unbind", name) : 0;
}
