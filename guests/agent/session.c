/* Sessions, see session.h. */
#include "session.h"
#include "agent.h"
#include "container.h"
#include "loop.h"
#include "process.h"
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPEC_MAX (2u << 20)
/* Between SIGHUP and SIGKILL of a session that the host closed. */
#define HANGUP_MS 500
/*
 * How long a pty may bring output after its session's leader has ended, while other processes have it open.
 */
#define PTY_LINGER_MS 100

struct output {
    struct watch watch;
    uint32_t credit;
    bool end_due;
};

struct session {
    struct session *next;
    uint32_t id;
    char *spec; /* EXEC's list while it is still arriving */
    size_t spec_length;
    bool too_long; /* its list was refused: the rest of it is dropped, and its end is answered */
    pid_t pid;
    bool tty;
    struct watch status;
    struct watch in;
    struct output output[2];
    struct failure failure;
    uint8_t
        *pending; /* stdin that the child has not taken yet: STDIN_WINDOW bytes, there only while needed */
    uint32_t pending_start, pending_end;
    uint32_t stdin_allowed; /* bytes the host may still send */
    uint32_t credit_due;
    bool in_closing, in_gone_due;
    bool started_due, started, failed;
    bool exited, closing, forgotten, over;
    bool out_of_memory;
    int wait_status;
    int64_t deadline; /* ms, 0: none */
};

static struct session *sessions;
bool sessions_held;

static struct session *find(uint32_t id) {
    for (struct session *s = sessions; s != NULL; s = s->next)
        if (s->id == id && !s->forgotten && !s->over)
            return s;
    return NULL;
}

static void drop_pending(struct session *s) {
    free(s->pending);
    s->pending = NULL;
    s->pending_start = s->pending_end = 0;
}

/* Nobody reads stdin any more: pending bytes are dropped, and the host may forget its window. */
static void close_stdin(struct session *s, bool tell) {
    if (s->in.fd < 0)
        return;
    watch_close(&s->in);
    drop_pending(s);
    s->in_gone_due = tell;
}

static void stdin_taken(struct session *s, uint32_t length) {
    s->credit_due += length;
}

static void drain_stdin(struct session *s) {
    while (s->pending_start < s->pending_end) {
        ssize_t n = write(s->in.fd, s->pending + s->pending_start, s->pending_end - s->pending_start);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            close_stdin(s, true);
            return;
        }
        s->pending_start += (uint32_t)n;
        stdin_taken(s, (uint32_t)n);
    }
    drop_pending(s);
    if (s->in_closing)
        close_stdin(s, false);
}

static void in_ready(struct watch *watch, uint32_t events) {
    struct session *s = watch->owner;
    if ((events & EPOLLERR) && !s->tty)
        close_stdin(s, true);
    else
        drain_stdin(s);
}

static void take_stdin(struct session *s, const uint8_t *data, uint32_t length) {
    if (length > s->stdin_allowed)
        return; /* the host has exceeded its window: the bytes are lost */
    s->stdin_allowed -= length;
    if (s->in.fd < 0 || s->in_closing)
        return;
    while (s->pending == NULL && length > 0) {
        ssize_t n = write(s->in.fd, data, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            close_stdin(s, true);
            return;
        }
        if (n <= 0)
            break;
        data += n;
        length -= (uint32_t)n;
        stdin_taken(s, (uint32_t)n);
    }
    if (length == 0)
        return;
    if (s->pending == NULL && (s->pending = malloc(STDIN_WINDOW)) == NULL) {
        close_stdin(s, true);
        return;
    }
    if (s->pending_start > 0) {
        memmove(s->pending, s->pending + s->pending_start, s->pending_end - s->pending_start);
        s->pending_end -= s->pending_start;
        s->pending_start = 0;
    }
    memcpy(s->pending + s->pending_end, data, length); /* fits: the window is the size of the buffer */
    s->pending_end += length;
}

/* Moves one chunk of output into the stream. @return false when no more is there now */
static bool pass_output(struct session *s, int index) {
    struct output *o = &s->output[index];
    size_t room = stream_data_room();
    if (sessions_held || o->watch.fd < 0 || room == 0 || o->credit == 0)
        return false;
    if (room > o->credit)
        room = o->credit;
    ssize_t n = read(o->watch.fd, stream_payload(), room);
    if (n > 0) {
        stream_commit((uint8_t)(FRAME_STDOUT + index), 0, s->id, (size_t)n);
        o->credit -= (uint32_t)n;
        return true;
    }
    if (n < 0 && errno == EINTR)
        return true;
    /* A pipe has all output of the ended process. A pty is at its end when it says so, or after a time. */
    bool linger = s->tty && s->deadline != 0 && now_ms() < s->deadline;
    if (n < 0 && errno == EAGAIN && (!s->exited || linger))
        return false;
    watch_close(&o->watch);
    o->end_due = true;
    return false;
}

static void output_ready(struct watch *watch, uint32_t events) {
    struct session *s = watch->owner;
    (void)events;
    pass_output(s, watch == &s->output[1].watch);
}

static void adopt_terminal(struct session *s, int master) {
    int out = fcntl(master, F_DUPFD_CLOEXEC, 3);
    watch_close(&s->in);
    watch_close(&s->output[0].watch);
    watch_init(&s->in, master, in_ready, s);
    watch_init(&s->output[0].watch, out, output_ready, s);
}

static void status_ready(struct watch *watch, uint32_t events) {
    struct session *s = watch->owner;
    int master;
    (void)events;
    switch (process_status(watch->fd, &master, &s->failure)) {
    case SAID_NOTHING:
        return;
    case SAID_TERMINAL:
        if (s->tty && !s->closing)
            adopt_terminal(s, master);
        else
            close(master);
        return;
    case SAID_FAILURE:
        s->failed = true;
        break;
    case SAID_END:
        s->started_due = true;
        break;
    }
    watch_close(watch);
}

static void start(struct session *s) {
    struct process process;
    bool running = process_start(s->spec, s->spec_length, &process, &s->failure);
    free(s->spec);
    s->spec = NULL;
    if (!running) {
        s->failed = true;
        s->exited = true;
        return;
    }
    s->pid = process.pid;
    s->tty = process.tty;
    s->output[0].credit = s->output[1].credit = OUTPUT_WINDOW;
    watch_init(&s->status, process.status, status_ready, s);
    watch_init(&s->in, process.in, in_ready, s);
    watch_init(&s->output[0].watch, process.out, output_ready, s);
    watch_init(&s->output[1].watch, process.err, output_ready, s);
    watch_set(&s->status, EPOLLIN);
}

static struct session *create(uint32_t id) {
    struct session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    *s = (struct session){.next = sessions, .id = id, .stdin_allowed = STDIN_WINDOW};
    watch_init(&s->status, -1, NULL, s);
    watch_init(&s->in, -1, NULL, s);
    watch_init(&s->output[0].watch, -1, NULL, s);
    watch_init(&s->output[1].watch, -1, NULL, s);
    sessions = s;
    return s;
}

static void exec_frame(const struct frame_header *header, const uint8_t *payload) {
    struct session *s = find(header->session);
    if (s != NULL && s->spec == NULL && !s->too_long)
        return; /* runs already */
    if (s == NULL && (s = create(header->session)) == NULL)
        return;
    size_t length = s->spec_length + header->length;
    char *spec = s->too_long || length > SPEC_MAX ? NULL : realloc(s->spec, length + 1);
    if (spec == NULL) {
        free(s->spec);
        s->spec = NULL;
        s->too_long = true;
        if (header->flags & FLAG_MORE)
            return;
        s->failure = (struct failure){.exit_status = 126, .error = E2BIG, .text = "argument list too long"};
        s->failed = s->exited = true;
        return;
    }
    memcpy(spec + s->spec_length, payload, header->length);
    spec[length] = 0;
    s->spec = spec;
    s->spec_length = length;
    if (!(header->flags & FLAG_MORE))
        start(s);
}

static void send_signal(struct session *s, int number, bool group) {
    if (s->pid > 0 && !s->exited)
        kill(group ? -s->pid : s->pid, number);
}

static void close_session(struct session *s) {
    s->closing = true;
    close_stdin(s, false);
    for (int i = 0; i < 2; i++)
        watch_close(&s->output[i].watch);
    if (s->pid > 0 && s->exited) {
        s->deadline = 0; /* it was reaped: its number may be another's */
    } else if (s->pid > 0) {
        kill(-s->pid, SIGHUP);
        kill(-s->pid, SIGCONT);
        s->deadline = now_ms() + HANGUP_MS;
    } else {
        s->failure = (struct failure){.exit_status = 125, .text = "closed"};
        s->failed = s->exited = true;
    }
}

void session_frame(const struct frame_header *header, const uint8_t *payload) {
    if (header->type == FRAME_EXEC) {
        exec_frame(header, payload);
        return;
    }
    struct session *s = find(header->session);
    uint32_t value = 0;
    if (s == NULL)
        return;
    if (header->length >= 4)
        memcpy(&value, payload, 4);
    switch (header->type) {
    case FRAME_STDIN:
        take_stdin(s, payload, header->length);
        break;
    case FRAME_STDIN_CLOSE:
        s->in_closing = !s->tty; /* a terminal's input has no end: the host may send ^D */
        if (s->in_closing && s->pending == NULL)
            close_stdin(s, false);
        break;
    case FRAME_SIGNAL:
        send_signal(s, (int)(value & 127), header->flags & FLAG_GROUP);
        break;
    case FRAME_RESIZE:
        if (s->tty && s->output[0].watch.fd >= 0)
            process_resize(s->output[0].watch.fd, value & 0xffff, value >> 16);
        break;
    case FRAME_CREDIT:
        if (header->flags == 1 || header->flags == 2) {
            uint32_t *credit = &s->output[header->flags - 1].credit;
            *credit = value > UINT32_MAX - *credit ? UINT32_MAX : *credit + value;
        }
        break;
    case FRAME_CLOSE:
        close_session(s);
        break;
    }
}

void sessions_ending(pid_t pid) {
    for (struct session *s = sessions; s != NULL; s = s->next)
        if (s->pid == pid && !s->exited && s->closing)
            kill(-pid, SIGKILL); /* the rest of its group; the group has this number until it is reaped */
}

void sessions_reaped(pid_t pid, int wait_status) {
    for (struct session *s = sessions; s != NULL; s = s->next) {
        if (s->pid != pid || s->exited)
            continue;
        s->exited = true;
        s->wait_status = wait_status;
        s->out_of_memory = container_ran_out_of_memory(pid);
        s->deadline = s->tty && !s->closing ? now_ms() + PTY_LINGER_MS : 0;
    }
}

static void send_due(struct session *s) {
    if (s->failed && s->exited && !s->forgotten) {
        size_t length = 8 + strnlen(s->failure.text, sizeof s->failure.text);
        stream_send(FRAME_FAILED, 0, s->id, &s->failure, length);
        s->over = true;
        return;
    }
    if (s->started_due && !s->forgotten) {
        uint32_t pid = (uint32_t)s->pid;
        stream_send(FRAME_STARTED, 0, s->id, &pid, 4);
    }
    if (s->started_due) {
        s->started_due = false;
        s->started = true;
    }
    if (s->exited && s->started)
        for (int i = 0; i < 2; i++)
            while (pass_output(s, i))
                ;
    if (!stream_control_room() || !s->started)
        return;
    for (int i = 0; i < 2; i++) {
        if (s->output[i].end_due && !s->closing)
            stream_send((uint8_t)(FRAME_STDOUT + i), 0, s->id, NULL, 0);
        s->output[i].end_due = false;
    }
    if (s->in_gone_due)
        stream_send(FRAME_STDIN_CLOSE, 0, s->id, NULL, 0);
    s->in_gone_due = false;
    if (s->credit_due >= STDIN_WINDOW / 4) {
        stream_send(FRAME_CREDIT, 0, s->id, &s->credit_due, 4);
        s->stdin_allowed += s->credit_due;
        s->credit_due = 0;
    }
    if (s->exited && s->started && s->output[0].watch.fd < 0 && s->output[1].watch.fd < 0) {
        uint32_t wait_status = (uint32_t)s->wait_status;
        if (!s->forgotten)
            stream_send(FRAME_EXIT, s->out_of_memory ? FLAG_OUT_OF_MEMORY : 0, s->id, &wait_status, 4);
        s->over = true;
    }
}

static void destroy(struct session *s) {
    watch_close(&s->status);
    watch_close(&s->in);
    watch_close(&s->output[0].watch);
    watch_close(&s->output[1].watch);
    free(s->pending);
    free(s->spec);
    free(s);
}

void sessions_turn(void) {
    for (struct session **at = &sessions; *at != NULL;) {
        struct session *s = *at;
        if (s->deadline != 0 && now_ms() >= s->deadline) {
            if (!s->exited) {
                kill(-s->pid, SIGKILL);
                kill(s->pid, SIGKILL); /* it may not lead a group yet */
            }
            s->deadline = 0;
        }
        if (s->forgotten)
            s->over = s->exited;
        else if (!sessions_held && stream_connected() && stream_control_room())
            send_due(s);
        if (s->over) {
            *at = s->next;
            destroy(s);
            continue;
        }
        for (int i = 0; i < 2; i++) {
            struct output *o = &s->output[i];
            bool passes = !sessions_held && s->started && o->credit > 0 && stream_data_room() > 0;
            watch_set(&o->watch, passes ? EPOLLIN : 0);
        }
        watch_set(&s->in, s->pending != NULL ? EPOLLOUT : 0);
        at = &s->next;
    }
}

int sessions_timeout(void) {
    int64_t first = -1;
    for (struct session *s = sessions; s != NULL; s = s->next) {
        if (s->deadline == 0)
            continue;
        int64_t left = s->deadline - now_ms() + 1;
        if (left < 0)
            left = 0;
        if (first < 0 || left < first)
            first = left;
    }
    return (int)first;
}

void sessions_forget(void) {
    for (struct session *s = sessions; s != NULL; s = s->next) {
        close_session(s);
        s->forgotten = true;
    }
}
