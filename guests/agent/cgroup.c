/* Control groups, see cgroup.h; cgroups(7), cgroup_namespaces(7). */
#define _GNU_SOURCE /* unshare */
#include "cgroup.h"
#include "mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"
/* Groups within groups that a container may have made. */
#define DEPTH_MAX 32

static const char *const CONTROLLERS[] = {"+cpu", "+cpuset", "+io", "+memory", "+pids"};

static int write_text(const char *directory, const char *file, const char *text) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, file) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

void cgroup_prepare(void) {
    if (mount_at("cgroup2", "cgroup", ROOT, "nosuid,nodev,noexec") < 0)
        return;
    /* A kernel that lacks one of them says so when it is asked for a limit of it. */
    for (size_t i = 0; i < sizeof CONTROLLERS / sizeof *CONTROLLERS; i++)
        write_text(ROOT, "cgroup.subtree_control", CONTROLLERS[i]);
}

int cgroup_enter_new(const char *name, char *settings) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, ROOT "/%s", name);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return -1;
    for (char *setting; (setting = strsep(&settings, "\t")) != NULL;) {
        char *value = strchr(setting, '=');
        if (value == NULL)
            continue;
        *value++ = 0;
        if (strchr(setting, '/') != NULL) {
            errno = EINVAL;
            return -1;
        }
        if (write_text(path, setting, value) < 0)
            return -1;
    }
    return write_text(path, "cgroup.procs", "0") < 0 ? -1 : unshare(CLONE_NEWCGROUP);
}

int cgroup_join(pid_t member) {
    char path[64], table[PATH_MAX] = {0}, group[PATH_MAX + sizeof ROOT];
    snprintf(path, sizeof path, "/proc/%d/cgroup", member);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -1; /* a kernel without them */
    ssize_t n = read(fd, table, sizeof table - 1);
    close(fd);
    char *own = n <= 0 ? NULL : strstr(table, "0::/");
    if (own == NULL)
        return 0;
    own[strcspn(own, "\n")] = 0;
    if (own[4] == 0)
        return 0; /* the root of all, where this is as well */
    snprintf(group, sizeof group, ROOT "%s", own + 3);
    return write_text(group, "cgroup.procs", "0");
}

bool cgroup_ran_out_of_memory(const char *name) {
    char path[PATH_MAX], events[256];
    snprintf(path, sizeof path, ROOT "/%s/memory.events", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, events, sizeof events - 1);
    close(fd);
    events[n < 0 ? 0 : n] = 0;
    const char *kills = strstr(events, "oom_kill ");
    return kills != NULL && kills[strlen("oom_kill ")] != '0';
}

static void remove_below(int parent, const char *name, int depth) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL)
        return;
    for (struct dirent *entry; depth < DEPTH_MAX && (entry = readdir(directory)) != NULL;)
        if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_below(fd, entry->d_name, depth + 1);
    closedir(directory);
    unlinkat(parent, name, AT_REMOVEDIR);
}

void cgroup_kill(const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, ROOT "/%s", name);
    write_text(path, "cgroup.kill", "1");
}

void cgroup_remove(const char *name) {
    int root = open(ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return;
    remove_below(root, name, 0);
    close(root);
}
