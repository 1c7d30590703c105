/* SETUP, see setup.h. */
#include "setup.h"
#include "agent.h"
#include "container.h"
#include "list.h"
#include "loop.h"
#include "process.h"
#include "steps.h"
#include "stream.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LIST_MAX (1u << 20)

struct setup {
    struct setup *next;
    uint32_t session;
    char *list; /* while it is still arriving, and until the child has it */
    size_t length;
    bool too_long; /* its list was refused: the rest of it is dropped, and its end is answered */
    pid_t pid;     /* the child; 0: none yet, or reaped */
    bool started;
    bool creates; /* the child is a new container's init and stays */
    struct watch status;
    struct failure failure;
    bool done, failed, forgotten;
};

static struct setup *setups;

static struct setup *find(uint32_t session) {
    for (struct setup *s = setups; s != NULL; s = s->next)
        if (s->session == session && !s->done && !s->failed && !s->forgotten)
            return s;
    return NULL;
}

static void fail(struct setup *s, int error, const char *why) {
    s->failure = (struct failure){.exit_status = 125, .error = (uint32_t)error};
    snprintf(s->failure.text, sizeof s->failure.text, "cannot set up the guest: %s", why);
    s->failed = true;
}

/* The child has reported its result, or has ended without one. */
static void status_ready(struct watch *watch, uint32_t events) {
    struct setup *s = watch->owner;
    struct failure failure;
    (void)events;
    ssize_t n = recv(watch->fd, &failure, sizeof failure, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    watch_close(watch);
    if (s->done || s->failed)
        return;
    if (n != sizeof failure) {
        fail(s, 0, "its process was ended");
    } else if (failure.exit_status == 0) {
        s->done = true;
    } else {
        failure.text[sizeof failure.text - 1] = 0;
        s->failure = failure;
        s->failed = true;
    }
    if (s->failed && s->creates && s->pid > 0)
        container_drop(s->pid);
}

/* `channel`: of a new container's init, otherwise -1. */
__attribute__((noreturn)) static void child(struct setup *s, const struct container *container, int status,
                                            int channel) {
    struct failure failure;
    int kept[2] = {status, channel};
    in_charge = false; /* the end of this process must not end the machine */
    int error = container_enter(container) == 0 ? 0 : errno;
    process_apart(kept, s->creates ? 2 : 1);
    status = kept[0];
    bool good = error == 0;
    if (good) {
        good = steps_run(s->list, s->length, s->creates, &failure);
    } else {
        failure = (struct failure){.exit_status = 125, .error = (uint32_t)error};
        snprintf(failure.text, sizeof failure.text, "cannot set up the guest: cannot enter its container: %s",
                 strerror(error));
    }
    if (good)
        failure = (struct failure){.exit_status = 0};
    if (send(status, &failure, sizeof failure, MSG_NOSIGNAL) < 0)
        _exit(1);
    close(status);
    if (good && s->creates)
        container_stay(kept[1]);
    _exit(0);
}

/* What the list says about a container besides its steps. */
static void read_plan(const struct setup *s, struct container_plan *plan) {
    *plan = (struct container_plan){.namespaces = "uts,ipc"};
    for (const char *e = NULL; (e = list_next(s->list, s->length, e)) != NULL;) {
        const char *cgroup = list_value(e, "cgroup");
        if (cgroup == NULL)
            cgroup = list_value(e, "cgroup?");
        if (list_value(e, "container") != NULL)
            plan->id = list_value(e, "container");
        else if (list_value(e, "namespaces") != NULL)
            plan->namespaces = list_value(e, "namespaces");
        else if (list_value(e, "join") != NULL && plan->join_count < JOINS_MAX)
            plan->joins[plan->join_count++] = list_value(e, "join");
        else if (cgroup != NULL)
            snprintf(plan->cgroup, sizeof plan->cgroup, "%.*s", (int)strcspn(cgroup, "\t"), cgroup);
    }
}

static void start(struct setup *s) {
    struct container_plan plan;
    s->started = true;
    int status[2], channel = -1;
    read_plan(s, &plan);
    if (plan.id != NULL && !container_name(plan.id)) {
        fail(s, EINVAL, "that is no name of a container");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, status) < 0) {
        fail(s, errno, strerror(errno));
        return;
    }
    const struct container *container = plan.id == NULL ? NULL : container_find(plan.id);
    s->creates = plan.id != NULL && container == NULL;
    pid_t pid = s->creates ? container_create(&plan, &channel) : container_fork(container);
    if (pid == 0)
        child(s, container, status[1], channel);
    int error = errno;
    close(status[1]);
    free(s->list);
    s->list = NULL;
    if (pid < 0) {
        close(status[0]);
        fail(s, error, strerror(error));
        return;
    }
    s->pid = pid;
    watch_init(&s->status, status[0], status_ready, s);
    watch_set(&s->status, EPOLLIN);
}

static struct setup *create(uint32_t session) {
    struct setup *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    *s = (struct setup){.next = setups, .session = session};
    watch_init(&s->status, -1, NULL, s);
    setups = s;
    return s;
}

void setup_frame(const struct frame_header *header, const uint8_t *payload) {
    struct setup *s = find(header->session);
    if (s != NULL && s->started)
        return; /* runs already, or has ended and is about to be answered */
    if (s == NULL && (s = create(header->session)) == NULL)
        return;
    size_t length = s->length + header->length;
    char *list = s->too_long || length > LIST_MAX ? NULL : realloc(s->list, length + 1);
    if (list == NULL) {
        free(s->list);
        s->list = NULL;
        s->too_long = true;
        if (!(header->flags & FLAG_MORE))
            fail(s, E2BIG, "too many steps");
        return;
    }
    memcpy(list + s->length, payload, header->length);
    list[length] = 0;
    s->list = list;
    s->length = length;
    if (!(header->flags & FLAG_MORE))
        start(s);
}

static void stop(struct setup *s) {
    if (s->pid > 0 && s->creates)
        container_drop(s->pid);
    else if (s->pid > 0)
        kill(s->pid, SIGKILL);
}

void setup_close(uint32_t session) {
    struct setup *s = find(session);
    if (s == NULL)
        return;
    stop(s);
    fail(s, 0, "closed");
}

void setups_reaped(pid_t pid) {
    for (struct setup *s = setups; s != NULL; s = s->next)
        if (s->pid == pid)
            s->pid = 0;
}

void setups_turn(void) {
    for (struct setup **at = &setups; *at != NULL;) {
        struct setup *s = *at;
        bool due = (s->done || s->failed) && !s->forgotten;
        bool answerable = stream_connected() && stream_control_room();
        if (!s->forgotten && (!due || !answerable)) {
            at = &s->next;
            continue;
        }
        if (due && s->done)
            stream_send(FRAME_DONE, 0, s->session, NULL, 0);
        else if (due)
            stream_send(FRAME_FAILED, 0, s->session, &s->failure, 8 + strlen(s->failure.text));
        *at = s->next;
        watch_close(&s->status);
        free(s->list);
        free(s);
    }
}

void setups_forget(void) {
    for (struct setup *s = setups; s != NULL; s = s->next) {
        stop(s);
        s->forgotten = true;
    }
}
