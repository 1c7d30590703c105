/*
 * The guest agent. Two roles of one binary:
 *   /init as pid 1 of a microVM     prepares the system, connects to the host by vsock
 *   agent --stream SPEC             serves an existing system: a virtio-serial port, unix:PATH or fd:N
 * Either way it answers frames (protocol.h) from one event loop until the host powers the machine off.
 */
#include "agent.h"
#include "container.h"
#include "init.h"
#include "loop.h"
#include "process.h"
#include "session.h"
#include "setup.h"
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_FILES 524288

struct rlimit payload_nofile;
const char *tools_directory = "/tools";

static uint64_t start_ns;
static bool end_with_stream;
static bool ended;
static struct watch children;
/* A HELLO of this stream has agreed on a version. */
static bool greeted;

/* Sessions and containers of earlier hosts. */
static void forget(void) {
    sessions_forget();
    setups_forget();
    containers_forget();
}

static void answer_hello(const uint8_t *payload, uint32_t length) {
    struct hello hello;
    if (length != sizeof hello)
        return;
    memcpy(&hello, payload, sizeof hello);
    if (memcmp(hello.magic, HELLO_MAGIC, sizeof hello.magic) != 0)
        return;
    greeted = hello.min <= PROTOCOL_MAX && hello.max >= PROTOCOL_MIN;
    if (greeted && (hello.flags & HELLO_FORGET))
        forget();
    uint32_t version = greeted && hello.max < PROTOCOL_MAX ? hello.max : PROTOCOL_MAX;
    struct hello_answer answer = {
        .version = version, .pid = (uint32_t)getpid(), .start_ns = start_ns, .now_ns = now_ns()};
    memcpy(answer.magic, HELLO_MAGIC, sizeof answer.magic);
    memcpy(answer.nonce, hello.nonce, sizeof answer.nonce);
    stream_send(FRAME_HELLO, 0, 0, &answer, sizeof answer);
}

static void reply(uint32_t session, int error, const char *what) {
    struct failure failure = {.exit_status = 125, .error = (uint32_t)error};
    if (error == 0) {
        stream_send(FRAME_DONE, 0, session, NULL, 0);
        return;
    }
    snprintf(failure.text, sizeof failure.text, "cannot %s: %s", what, strerror(error));
    stream_send(FRAME_FAILED, 0, session, &failure, 8 + strlen(failure.text));
}

static int set_clock(const uint8_t *payload, uint32_t length) {
    uint64_t ns;
    if (length != sizeof ns)
        return EINVAL;
    memcpy(&ns, payload, sizeof ns);
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    return clock_settime(CLOCK_REALTIME, &time) < 0 ? errno : 0;
}

void stream_frame(const struct frame_header *header, const uint8_t *payload) {
    if (!greeted && header->type != FRAME_HELLO && header->type != FRAME_PING)
        return; /* from an earlier host, or from one that speaks another version */
    switch (header->type) {
    case FRAME_HELLO:
        answer_hello(payload, header->length);
        break;
    case FRAME_REMOVE:
        container_remove_frame(header, payload);
        break;
    case FRAME_CLOSE:
        setup_close(header->session);
        session_frame(header, payload);
        break;
    case FRAME_SETUP:
        setup_frame(header, payload);
        break;
    case FRAME_PING:
        stream_send(FRAME_PONG, 0, header->session, payload, header->length < 64 ? header->length : 64);
        break;
    case FRAME_CLOCK:
        reply(header->session, set_clock(payload, header->length), "set the clock");
        break;
    case FRAME_HOLD:
        sessions_held = !(header->flags & FLAG_RELEASE);
        reply(header->session, 0, NULL);
        break;
    case FRAME_POWEROFF:
        power_off(header->flags & FLAG_RESET);
        reply(header->session, EPERM, "power the machine off");
        break;
    default:
        session_frame(header, payload);
    }
}

void stream_lost(void) {
    greeted = false;
    /* A copy of a machine that was saved has another host, which comes for its sessions. */
    if (!end_with_stream || sessions_held)
        return;
    forget();
    ended = true;
}

static void children_ready(struct watch *watch, uint32_t events) {
    struct signalfd_siginfo signals[8];
    (void)events;
    if (read(watch->fd, signals, sizeof signals) <= 0)
        return;
    for (siginfo_t child = {0};
         waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0 && child.si_pid > 0; child.si_pid = 0) {
        int wait_status;
        sessions_ending(child.si_pid);
        waitpid(child.si_pid, &wait_status, 0);
        sessions_reaped(child.si_pid, wait_status);
        setups_reaped(child.si_pid);
        containers_reaped(child.si_pid);
    }
}

static void turn(void) {
    sessions_turn();
    setups_turn();
    containers_turn();
    stream_turn();
}

static void watch_children(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    watch_init(&children, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), children_ready, NULL);
    watch_set(&children, EPOLLIN);
}

/*
 * The kernel gives its init low limits for open files (4096) and processes (by RAM). Payloads get those of
 * systemd and Docker.
 */
static void set_limits(bool first) {
    getrlimit(RLIMIT_NOFILE, &payload_nofile);
    if (first) {
        struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
        setrlimit(RLIMIT_NPROC, &none);
        payload_nofile.rlim_max = MOST_FILES;
    }
    struct rlimit most = {payload_nofile.rlim_max, payload_nofile.rlim_max};
    setrlimit(RLIMIT_NOFILE, &most);
}

static int sooner(int a, int b) {
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

int main(int argc, char **argv) {
    start_ns = now_ns();
    const char *spec = NULL;
    const char *name = strrchr(argv[0], '/');
    bool init = getpid() == 1 && strcmp(name == NULL ? argv[0] : name + 1, "init") == 0;
    /* The kernel passes unknown words of its command line to init. */
    for (int i = 1; i < argc && !init; i++) {
        if (strcmp(argv[i], "--stream") == 0 && i + 1 < argc)
            spec = argv[++i];
        else if (strcmp(argv[i], "--tools") == 0 && i + 1 < argc)
            tools_directory = argv[++i];
        else if (strcmp(argv[i], "--power-off") == 0)
            in_charge = true;
        else
            break;
    }
    if (!init && spec == NULL) {
        dprintf(2, "usage: %s --stream DEVICE|unix:PATH|fd:N [--tools DIRECTORY] [--power-off]\n", argv[0]);
        return 125;
    }
    in_charge = in_charge || init;
    set_limits(getpid() == 1);
    if (init)
        init_prepare();
    /* Keeps descriptors 0 to 2 open, so that no pipe gets these numbers. */
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd < 3)
        fd = dup(fd);
    if (fd >= 3)
        close(fd);
    loop_open();
    containers_open();
    watch_children();
    end_with_stream = init || strncmp(spec, "fd:", 3) == 0;
    stream_open(init ? "vsock" : spec);
    while (!ended) {
        turn();
        turn(); /* room that the write made */
        /* If the host has gone in one of these writes, nothing would ever wake the loop. */
        if (!ended)
            loop_turn(sooner(sessions_timeout(), stream_timeout()));
    }
    sessions_turn();
    if (init)
        die("the host has gone");
    return 0;
}
