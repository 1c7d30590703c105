/* Containers, see container.h. */
#define _GNU_SOURCE /* setns, CLONE_NEW* */
#include "container.h"
#include "agent.h"
#include "cgroup.h"
#include "list.h"
#include "process.h"
#include "rights.h"
#include "stream.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

struct container {
    struct container *next;
    char id[CONTAINER_NAME_MAX + 1];
    pid_t init;
    int pidfd;
    int channel;    /* to the init, until it was told what to execute; then -1 */
    int namespaces; /* CLONE_NEW*, those of other containers, too */
    bool guest;     /* it is in another container's pid namespace, which does not end with it */
    char cgroup[CONTAINER_NAME_MAX + 2];
    bool dying;
    uint32_t removal; /* session of the REMOVE that waits; 0: none */
    bool reaped, forgotten;
};

static const struct {
    const char *name;
    int flag;
} NAMESPACES[] = {{"uts", CLONE_NEWUTS},
                  {"ipc", CLONE_NEWIPC},
                  {"net", CLONE_NEWNET},
                  {"pid", CLONE_NEWPID},
                  {"cgroup", CLONE_NEWCGROUP}};

static struct container *containers;
/* The agent itself, to come back from a container's pid namespace. */
static int own_pidfd = -1;

static int pidfd_open(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

void containers_open(void) {
    own_pidfd = pidfd_open(getpid());
}

bool container_name(const char *id) {
    size_t length = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return id[strspn(id, ".")] != 0 && length <= CONTAINER_NAME_MAX && id[length] == 0;
}

struct container *container_find(const char *id) {
    for (struct container *c = containers; c != NULL; c = c->next)
        if (!c->dying && strcmp(c->id, id) == 0)
            return c;
    return NULL;
}

/* @return CLONE_NEW* flags; -1 for a name that is none */
static int read_namespaces(const char *names) {
    int flags = 0;
    while (*names != 0) {
        size_t length = strcspn(names, ","), i = 0, count = sizeof NAMESPACES / sizeof *NAMESPACES;
        while (i < count &&
               (strlen(NAMESPACES[i].name) != length || strncmp(NAMESPACES[i].name, names, length) != 0))
            i++;
        if (i == count)
            return -1;
        flags |= NAMESPACES[i].flag;
        names += length + (names[length] == ',');
    }
    return flags;
}

/* Namespaces of another container that a new one gets. */
struct join {
    const struct container *from;
    int flags;
};

/* "NAME\tuts,ipc,pid". @return false with errno */
static bool read_join(const char *text, struct join *join) {
    char id[CONTAINER_NAME_MAX + 1];
    size_t length = strcspn(text, "\t");
    errno = EINVAL;
    if (length > CONTAINER_NAME_MAX || text[length] == 0)
        return false;
    snprintf(id, sizeof id, "%.*s", (int)length, text);
    join->flags = read_namespaces(text + length + 1);
    if (join->flags < 0 || (join->flags & CLONE_NEWCGROUP))
        return false;
    errno = ESRCH;
    join->from = container_find(id);
    return join->from != NULL;
}

/* All of a plan. @return their namespaces; -1 with errno */
static int read_joins(const struct container_plan *plan, struct join *joins) {
    int flags = 0;
    for (size_t i = 0; i < plan->join_count; i++) {
        if (!read_join(plan->joins[i], &joins[i]))
            return -1;
        flags |= joins[i].flags;
    }
    return flags;
}

/* Into the namespaces of others but their pid namespaces, which the child is in already. */
static bool enter_joins(const struct join *joins, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int flags = joins[i].flags & ~CLONE_NEWPID;
        if (flags != 0 && setns(joins[i].from->pidfd, flags) < 0)
            return false;
    }
    return true;
}

/* As fork(2), but into namespaces: the child is process 1 of a new pid namespace unless it joins another one.
 */
static pid_t fork_into(int flags, const struct join *joins, size_t count) {
    const struct join *pid = NULL;
    for (size_t i = 0; i < count; i++)
        if (joins[i].flags & CLONE_NEWPID)
            pid = &joins[i];
    if (pid == NULL)
        flags |= CLONE_NEWPID;
    else if (setns(pid->from->pidfd, CLONE_NEWPID) < 0)
        return -1;
    pid_t child = (pid_t)syscall(SYS_clone, flags | CLONE_NEWNS | SIGCHLD, NULL, NULL, NULL, NULL);
    int error = errno;
    if (child != 0 && pid != NULL && setns(own_pidfd, CLONE_NEWPID) < 0)
        die("cannot come back from a container: %s", strerror(errno));
    if (child == 0 && !enter_joins(joins, count)) {
        complain("cannot enter the namespaces of another container: %s", strerror(errno));
        _exit(1);
    }
    errno = error;
    return child;
}

pid_t container_create(const struct container_plan *plan, int *channel) {
    struct join joins[JOINS_MAX];
    int flags = read_namespaces(plan->namespaces), joined = read_joins(plan, joins);
    if (joined < 0)
        return -1;
    if (flags < 0 || (flags & CLONE_NEWPID) || !container_name(plan->id) ||
        (plan->cgroup[0] != 0 && !container_name(plan->cgroup))) {
        errno = EINVAL;
        return -1;
    }
    if (access("/proc/self/ns/cgroup", F_OK) < 0)
        flags &= ~CLONE_NEWCGROUP; /* this kernel has none, and setns would refuse the flag */
    int ends[2];
    struct container *c = calloc(1, sizeof *c);
    if (c == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        free(c);
        return -1;
    }
    pid_t pid = fork_into(flags & ~(CLONE_NEWCGROUP | joined), joins, plan->join_count);
    if (pid == 0) {
        free(c);
        close(ends[0]);
        *channel = ends[1];
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* no container outlives its agent */
        /* EINVAL: the root is no mount, so mounts cannot propagate to one above. */
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 && errno != EINVAL)
            complain("cannot keep a container's mounts apart: %s", strerror(errno));
        return 0;
    }
    int error = errno;
    close(ends[1]);
    int pidfd = pid < 0 ? -1 : pidfd_open(pid);
    if (pidfd < 0) {
        if (pid > 0) {
            error = errno;
            kill(pid, SIGKILL);
        }
        close(ends[0]);
        free(c);
        errno = error;
        return -1;
    }
    *c = (struct container){.next = containers,
                            .init = pid,
                            .pidfd = pidfd,
                            .channel = ends[0],
                            .namespaces = flags | joined | CLONE_NEWNS | CLONE_NEWPID,
                            .guest = (joined & CLONE_NEWPID) != 0};
    snprintf(c->id, sizeof c->id, "%s", plan->id);
    snprintf(c->cgroup, sizeof c->cgroup, "%s", plan->cgroup);
    containers = c;
    return pid;
}

pid_t container_fork(const struct container *container) {
    if (container == NULL)
        return fork();
    if (setns(container->pidfd, CLONE_NEWPID) < 0)
        return -1;
    pid_t pid = fork();
    int error = errno;
    if (pid != 0 && setns(own_pidfd, CLONE_NEWPID) < 0)
        die("cannot come back from a container: %s", strerror(errno));
    errno = error;
    return pid;
}

int container_enter(const struct container *container) {
    if (container == NULL)
        return 0;
    if ((container->namespaces & CLONE_NEWCGROUP) && cgroup_join(container->init) < 0)
        return -1;
    return setns(container->pidfd, container->namespaces & ~CLONE_NEWPID);
}

pid_t container_execute(struct container *container, const int *descriptors, size_t count) {
    if (container->channel < 0) {
        errno = EALREADY;
        return -1;
    }
    if (rights_send(container->channel, descriptors, count) < 0)
        return -1;
    close(container->channel);
    container->channel = -1;
    return container->init;
}

void container_stay(int channel) {
    char byte;
    int descriptors[RIGHTS_MAX];
    size_t count;
    prctl(PR_SET_NAME, "init");
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    while (rights_receive(channel, &byte, 1, descriptors, &count) < 0 && errno == EINTR)
        ;
    if (count > 0)
        process_execute(descriptors, count);
    _exit(0); /* the agent has gone */
}

/* Those of its processes that do not end with its first one. */
static void end_others(const struct container *c) {
    if (c->guest && c->cgroup[0] != 0)
        cgroup_kill(c->cgroup);
}

static void end(struct container *c) {
    c->dying = true;
    kill(c->init,
         SIGKILL); /* and with it everything in its pid namespace; it is ours to reap, so it is still it */
    end_others(c);
}

void container_drop(pid_t init) {
    for (struct container *c = containers; c != NULL; c = c->next)
        if (c->init == init && !c->reaped)
            end(c);
}

bool container_ran_out_of_memory(pid_t pid) {
    for (const struct container *c = containers; c != NULL; c = c->next)
        if (c->init == pid && !c->reaped)
            return c->cgroup[0] != 0 && cgroup_ran_out_of_memory(c->cgroup);
    return false;
}

static void fail(uint32_t session, int error, const char *what) {
    struct failure failure = {.exit_status = 125, .error = (uint32_t)error};
    snprintf(failure.text, sizeof failure.text, "cannot remove the container: %s", what);
    stream_send(FRAME_FAILED, 0, session, &failure, 8 + strlen(failure.text));
}

void container_remove_frame(const struct frame_header *header, const uint8_t *payload) {
    char list[CONTAINER_NAME_MAX + 16];
    if (header->length >= sizeof list || (header->flags & FLAG_MORE)) {
        if (!(header->flags & FLAG_MORE))
            fail(header->session, E2BIG, "its name is too long");
        return;
    }
    memcpy(list, payload, header->length);
    list[header->length] = 0;
    const char *id = list_value(list, "container");
    struct container *c = id == NULL ? NULL : container_find(id);
    if (c == NULL) {
        fail(header->session, ESRCH, "there is none of that name");
        return;
    }
    c->removal = header->session;
    end(c);
}

void containers_reaped(pid_t pid) {
    for (struct container *c = containers; c != NULL; c = c->next)
        if (c->init == pid) {
            c->dying = c->reaped = true;
            end_others(c);
        }
}

void containers_turn(void) {
    for (struct container **at = &containers; *at != NULL;) {
        struct container *c = *at;
        bool due = c->removal != 0 && !c->forgotten;
        if (!c->reaped || (due && (!stream_connected() || !stream_control_room()))) {
            at = &c->next;
            continue;
        }
        if (due)
            stream_send(FRAME_DONE, 0, c->removal, NULL, 0);
        if (c->cgroup[0] != 0)
            cgroup_remove(c->cgroup);
        *at = c->next;
        close(c->pidfd);
        if (c->channel >= 0)
            close(c->channel);
        free(c);
    }
}

void containers_forget(void) {
    for (struct container *c = containers; c != NULL; c = c->next) {
        c->forgotten = true;
        if (!c->reaped)
            end(c);
    }
}
