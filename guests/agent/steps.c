/* The steps of SETUP, see steps.h. */
#include "steps.h"
#include "agent.h"
#include "cgroup.h"
#include "clone.h"
#include "container.h"
#include "entropy.h"
#include "list.h"
#include "mount.h"
#include "network.h"
#include "slot.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define FIELDS 4
#define WAIT_MS 10000

static int make_parent(const char *path) {
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (slash == NULL || slash == path)
        return 0;
    if ((size_t)(slash - path) >= sizeof parent) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(parent, path, (size_t)(slash - path));
    parent[slash - path] = 0;
    return make_directories(parent, 0755);
}

static int write_file(const char *path, int flags, mode_t mode, const char *text) {
    int fd = open(path, flags | O_WRONLY | O_CLOEXEC, mode);
    if (fd < 0)
        return -1;
    size_t length = strlen(text);
    ssize_t written = write(fd, text, length);
    int result = written == (ssize_t)length && (mode == 0 || fchmod(fd, mode) == 0) ? 0 : -1;
    int error = written >= 0 && written < (ssize_t)length ? ENOSPC : errno;
    close(fd);
    errno = error;
    return result;
}

static int step_mount(char **field) {
    return mount_at(field[0], field[1], field[2], field[3]);
}

/* Only a container's init may change its root, which its children get with the namespace, and its cgroup. */
static bool may_switch;

static int step_switch(char **field) {
    if (may_switch)
        return mount_switch(field[0]);
    errno = EPERM;
    return -1;
}

static int step_cgroup(char **field) {
    if (may_switch && container_name(field[0]))
        return cgroup_enter_new(field[0], field[1]);
    errno = may_switch ? EINVAL : EPERM;
    return -1;
}

static int step_mask(char **field) {
    return mount_mask(field[0]);
}

static int step_read_only(char **field) {
    return mount_read_only(field[0]);
}

static int step_wait(char **field) {
    for (int i = 0; access(field[0], F_OK) < 0; i++) {
        if (i == WAIT_MS / 5) {
            errno = ETIMEDOUT;
            return -1;
        }
        usleep(5000);
    }
    return 0;
}

static int step_hostname(char **field) {
    return sethostname(field[0], strlen(field[0]));
}

static int step_domainname(char **field) {
    return setdomainname(field[0], strlen(field[0]));
}

static int step_take(char **field) {
    return clone_take(field[0], field[1]);
}

static int step_attach(char **field) {
    return clone_put(field[0], field[1], field[2]);
}

static int step_directory(char **field) {
    if (make_directories(field[0], 0755) < 0)
        return -1;
    return field[1][0] == 0 ? 0 : chmod(field[0], (mode_t)strtoul(field[1], NULL, 8));
}

/*
 * Replaces what the image has in the file's place: a link (resolv.conf into an empty /run), a FIFO that would
 * block its reader, a directory, or a file that may have other names.
 */
static int step_file(char **field) {
    mode_t mode = (mode_t)strtoul(field[1], NULL, 8);
    struct stat found;
    const char *name = strrchr(field[0], '/');
    if (name == NULL || name[1] == 0 || strcmp(name, "/.") == 0 || strcmp(name, "/..") == 0) {
        errno = EISDIR; /* no file's name; nothing that may be removed */
        return -1;
    }
    if (make_parent(field[0]) < 0)
        return -1;
    if (lstat(field[0], &found) == 0 &&
        (S_ISDIR(found.st_mode) ? tree_remove(AT_FDCWD, field[0], found.st_dev) : unlink(field[0])) < 0)
        return -1;
    return write_file(field[0], O_CREAT | O_EXCL | O_NOFOLLOW, mode, field[2]);
}

static int step_node(char **field) {
    mode_t mode = (mode_t)strtoul(field[1], NULL, 8);
    dev_t device = makedev(strtoul(field[2], NULL, 10), strtoul(field[3], NULL, 10));
    if (mknod(field[0], S_IFCHR | mode, device) < 0 && errno != EEXIST)
        return -1;
    return chmod(field[0], mode);
}

/* The node of a disk. What is in its place is replaced, but no directory. */
static int step_disk(char **field) {
    char name[256], path[300], text[32] = {0};
    unsigned uid, gid, major, minor;
    if (sscanf(field[2], "%u:%u", &uid, &gid) != 2) {
        errno = EINVAL;
        return -1;
    }
    if (disk_name(field[3], name, sizeof name) < 0)
        return -1;
    snprintf(path, sizeof path, "/sys/block/%s/dev", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n < 0 || sscanf(text, "%u:%u", &major, &minor) != 2) {
        errno = ENODEV;
        return -1;
    }
    if (make_parent(field[0]) < 0 || (unlink(field[0]) < 0 && errno != ENOENT))
        return -1;
    mode_t mode = (mode_t)strtoul(field[1], NULL, 8);
    if (mknod(field[0], S_IFBLK | mode, makedev(major, minor)) < 0 || lchown(field[0], uid, gid) < 0)
        return -1;
    return chmod(field[0], mode);
}

static int step_link(char **field) {
    return symlink(field[0], field[1]) < 0 && errno != EEXIST ? -1 : 0;
}

static int step_fill(char **field) {
    return tree_fill(field[0], field[1]);
}

static int step_sysctl(char **field) {
    char path[256];
    if (snprintf(path, sizeof path, "/proc/sys/%s", field[0]) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return write_file(path, 0, 0, field[1]);
}

static int step_interface(char **field) {
    return network_name(field[0], field[1], WAIT_MS);
}

static int step_up(char **field) {
    return network_up(field[0]);
}

static int step_address(char **field) {
    return network_address(field[0], field[1]);
}

static int step_gateway(char **field) {
    return network_gateway(field[0]);
}

static int step_mtu(char **field) {
    return network_mtu(field[0], atoi(field[1]));
}

static int step_bind(char **field) {
    return slot_bind(field[0]);
}

static int step_entropy(char **field) {
    return entropy_renew(field[0]);
}

static int step_unbind(char **field) {
    return slot_unbind(field[0]);
}

static const struct {
    const char *name;
    int fields; /* separated by tabs; the last one takes the rest */
    int (*run)(char **field);
} STEPS[] = {
    {"mount", 4, step_mount},           /* type, source, target, options */
    {"switch", 1, step_switch},         /* path */
    {"cgroup", 2, step_cgroup},         /* name, settings */
    {"mask", 1, step_mask},             /* path */
    {"readonly", 1, step_read_only},    /* path */
    {"entropy", 1, step_entropy},       /* hexadecimal */
    {"wait", 1, step_wait},             /* path that is to appear */
    {"hostname", 1, step_hostname},     /* name */
    {"domainname", 1, step_domainname}, /* name */
    {"take", 2, step_take},             /* name, path */
    {"attach", 3, step_attach},         /* name, target, options */
    {"directory", 2, step_directory},   /* path, mode or nothing */
    {"file", 3, step_file},             /* path, mode, content */
    {"node", 4, step_node},             /* path, mode, major, minor */
    {"disk", 4, step_disk},             /* path, mode, uid:gid, serial number */
    {"fill", 2, step_fill},             /* directory, empty directory */
    {"link", 2, step_link},             /* target, path */
    {"sysctl", 2, step_sysctl},         /* path below /proc/sys, value */
    {"interface", 2, step_interface},   /* Ethernet address, name */
    {"up", 1, step_up},                 /* interface */
    {"address", 2, step_address},       /* interface, address/bits */
    {"gateway", 1, step_gateway},       /* address */
    {"mtu", 2, step_mtu},               /* interface, bytes */
    {"bind", 1, step_bind},             /* address of a slot */
    {"unbind", 1, step_unbind},         /* address of a slot */
};

/* Runs one "name=fields". The failure of a "name?=fields" is only reported on the console. */
static bool run_step(char *entry, struct failure *failure) {
    char *field[FIELDS] = {"", "", "", ""}, *value = strchr(entry, '=');
    if (value != NULL)
        *value++ = 0;
    size_t length = strlen(entry);
    bool optional = length > 0 && entry[length - 1] == '?';
    if (optional)
        entry[--length] = 0;
    for (size_t i = 0; value != NULL && i < sizeof STEPS / sizeof *STEPS; i++) {
        if (strcmp(STEPS[i].name, entry) != 0)
            continue;
        for (int f = 0; f < STEPS[i].fields; f++) {
            field[f] = value != NULL ? value : "";
            value = value != NULL && f + 1 < STEPS[i].fields ? strchr(value, '\t') : NULL;
            if (value != NULL)
                *value++ = 0;
        }
        if (STEPS[i].run(field) == 0)
            return true;
        failure->error = (uint32_t)errno;
        snprintf(failure->text, sizeof failure->text, "cannot set up the guest: %s %s %s %s: %s", entry,
                 field[0], STEPS[i].fields > 1 && STEPS[i].run != step_file ? field[1] : "",
                 STEPS[i].fields > 2 && STEPS[i].run != step_file ? field[2] : "", strerror(errno));
        if (optional)
            complain("%s", failure->text);
        return optional;
    }
    failure->error = EINVAL;
    snprintf(failure->text, sizeof failure->text, "cannot set up the guest: no step is called \"%s\"", entry);
    return false;
}

bool steps_run(char *list, size_t length, bool contained, struct failure *failure) {
    may_switch = contained;
    *failure = (struct failure){.exit_status = 125};
    for (size_t at = 0; at < length;) {
        size_t entry = strlen(list + at); /* before the step cuts it */
        bool option = list_value(list + at, "container") != NULL ||
                      list_value(list + at, "namespaces") != NULL || list_value(list + at, "join") != NULL;
        if (!option && !run_step(list + at, failure))
            return false;
        at += entry + 1;
    }
    return true;
}
