/* The agent as init, see init.h. */
#include "init.h"
#include "agent.h"
#include "cgroup.h"
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULES "/modules"

/* Loads the modules that /modules/order names, one per line, then frees the memory of their files. */
static void load_modules(void) {
    char name[128], path[sizeof MODULES + sizeof name];
    FILE *order = fopen(MODULES "/order", "re");
    if (order == NULL)
        return;
    while (fgets(name, sizeof name, order) != NULL) {
        name[strcspn(name, "\n")] = 0;
        snprintf(path, sizeof path, MODULES "/%s", name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
            complain("cannot load module %s: %s", name, strerror(errno));
        if (fd >= 0)
            close(fd);
        unlink(path);
    }
    fclose(order);
}

void init_prepare(void) {
    mount_at("devtmpfs", "dev", "/dev", "nosuid");
    /* Without a /dev/console in the initramfs, init starts with no open file. */
    int console = open("/dev/console", O_RDWR | O_NOCTTY);
    for (int fd = 0; console >= 0 && fd < 3; fd++)
        if (console != fd)
            dup2(console, fd);
    if (console > 2)
        close(console);
    if (mount_at("proc", "proc", "/proc", "nosuid,nodev,noexec") < 0 ||
        mount_at("sysfs", "sys", "/sys", "nosuid,nodev,noexec") < 0)
        complain("cannot mount /proc and /sys: %s", strerror(errno));
    cgroup_prepare();
    /* A container in which a tool runs could write to its file by /proc/PID/exe. */
    if (mount_read_only("/tools") < 0)
        complain("cannot protect /tools: %s", strerror(errno));
    umask(022);
    load_modules();
}
