/*
 * Bytes between a guest and its host, over whatever stream they have: TCP through a tap, vsock, or a port of
 * virtio-serial. As /init of the guest it uses the streams that its kernel parameters name, says what they
 * came to by its own clock, and resets. As a program of the host it is the other end:
 *
 *     streams tcp PORT | listen PATH | connect PATH | pair MILLISECONDS
 *
 * The guest sends a command. OP_SINK: then it sends blocks, and the other end answers the last one.
 * OP_SOURCE: the other end sends blocks. OP_ECHO: each message comes back. The first byte of the last block
 * or message is LAST.
 */
#define _GNU_SOURCE
#include "guest.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BLOCK (64 * 1024)
#define MESSAGE 64
#define LAST 1
#define HOST_CID 2
#define VSOCK_PORT 52

enum op { OP_SINK = 1, OP_SOURCE, OP_ECHO };

struct command {
    uint32_t op, milliseconds;
};

struct sockaddr_vsock {
    sa_family_t family;
    uint16_t reserved;
    uint32_t port, cid;
    uint8_t zero[4];
};

static char block[BLOCK];

static void write_all(int fd, const void *bytes, size_t length) {
    for (size_t at = 0; at < length;) {
        ssize_t done = write(fd, (const char *)bytes + at, length - at);
        check(done > 0, "write");
        at += (size_t)done;
    }
}

/* False when the other end has gone. */
static int read_all(int fd, void *bytes, size_t length) {
    for (size_t at = 0; at < length;) {
        ssize_t got = read(fd, (char *)bytes + at, length - at);
        if (got == 0)
            return 0;
        check(got > 0, "read");
        at += (size_t)got;
    }
    return 1;
}

/* Sends blocks for a while. @returns bytes */
static double send_blocks(int fd, uint32_t milliseconds) {
    double until = now() + milliseconds * 1e3, bytes = 0;
    do {
        block[0] = now() < until ? 0 : LAST;
        write_all(fd, block, BLOCK);
        bytes += BLOCK;
    } while (block[0] != LAST);
    return bytes;
}

/* Takes blocks of `size` bytes until the last one, and gives each back if `echo`. @returns bytes */
static double take_blocks(int fd, size_t size, int echo) {
    double bytes = 0;
    do {
        if (!read_all(fd, block, size))
            return bytes;
        bytes += (double)size;
        if (echo)
            write_all(fd, block, size);
    } while (block[0] != LAST);
    return bytes;
}

/* The other end of one stream, until it ends. */
static void serve(int fd) {
    struct command command;
    while (read_all(fd, &command, sizeof command)) {
        if (command.op == OP_SOURCE) {
            send_blocks(fd, command.milliseconds);
        } else {
            take_blocks(fd, command.op == OP_SINK ? BLOCK : MESSAGE, command.op == OP_ECHO);
            if (command.op == OP_SINK)
                write_all(fd, block, 1);
        }
    }
}

/* Bytes a second for blocks, microseconds a message for OP_ECHO. */
static double measured(int fd, enum op op, uint32_t milliseconds) {
    struct command command = {op, milliseconds};
    double start = now(), until = start + milliseconds * 1e3, bytes, messages = 0;
    write_all(fd, &command, sizeof command);
    if (op == OP_SINK) {
        bytes = send_blocks(fd, milliseconds);
        check(read_all(fd, block, 1), "answer");
    } else if (op == OP_SOURCE) {
        bytes = take_blocks(fd, BLOCK, 0);
    } else {
        do {
            block[0] = now() < until ? 0 : LAST;
            write_all(fd, block, MESSAGE);
            messages++;
            char sent = block[0];
            check(read_all(fd, block, MESSAGE) && block[0] == sent, "echo");
        } while (block[0] != LAST);
        return (now() - start) / messages;
    }
    return bytes / ((now() - start) / 1e6);
}

/* All three ways. What is measured comes after half as long, in which compilers and windows warm up. */
static void measure(const char *over, int fd, uint32_t milliseconds) {
    static const char *const names[] = {[OP_SINK] = "up", [OP_SOURCE] = "down", [OP_ECHO] = "echo"};
    for (enum op op = OP_SINK; op <= OP_ECHO; op++) {
        measured(fd, op, milliseconds / 2);
        printf("@@%s-%s %.3f@@\n", over, names[op], measured(fd, op, milliseconds));
    }
    close(fd);
}

static int connected(int fd, const struct sockaddr *address, socklen_t length) {
    int one = 1;
    for (int tries = 0; connect(fd, address, length) != 0; tries++) {
        check(tries < 100, "connect");
        usleep(100000);
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* eth0 with an address of 10.0.99.0/24, and a TCP connection to 10.0.99.1. */
static int over_tcp(uint16_t port) {
    struct ifreq request = {.ifr_name = "eth0"};
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
    struct sockaddr_in host = {AF_INET, htons(port), {inet_addr("10.0.99.1")}, {0}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){AF_INET, 0, {inet_addr("10.0.99.2")}, {0}};
    check(ioctl(fd, SIOCSIFADDR, &request) == 0, "SIOCSIFADDR");
    address->sin_addr.s_addr = inet_addr("255.255.255.0");
    check(ioctl(fd, SIOCSIFNETMASK, &request) == 0, "SIOCSIFNETMASK");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    check(ioctl(fd, SIOCSIFFLAGS, &request) == 0, "SIOCSIFFLAGS");
    return connected(fd, (struct sockaddr *)&host, sizeof host);
}

static int over_vsock(void) {
    struct sockaddr_vsock host = {AF_VSOCK, 0, VSOCK_PORT, HOST_CID, {0}};
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connected(fd, (struct sockaddr *)&host, sizeof host);
}

/* The first port of whichever virtio device is virtio-serial. */
static int over_serial(void) {
    int fd = -1;
    for (int tries = 0; fd < 0 && tries < 100; tries++) {
        char path[32];
        snprintf(path, sizeof path, "/dev/vport%dp1", tries % 4);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            usleep(100000);
    }
    check(fd >= 0, "/dev/vport0p1");
    return fd;
}

static int guest(void) {
    char *over = getenv("BENCH_OVER");
    const char *port = getenv("BENCH_PORT"), *ms = getenv("BENCH_MS");
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    check(over != NULL && port != NULL && ms != NULL, "kernel parameters");
    for (over = strtok(over, ","); over != NULL; over = strtok(NULL, ",")) {
        int fd = strcmp(over, "tcp") == 0     ? over_tcp((uint16_t)atoi(port))
                 : strcmp(over, "vsock") == 0 ? over_vsock()
                                              : over_serial();
        measure(over, fd, (uint32_t)atoi(ms));
    }
    end();
    return 1;
}

/* Waits for one connection. */
static int accepted(int listener, const struct sockaddr *address, socklen_t length) {
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    check(bind(listener, address, length) == 0 && listen(listener, 1) == 0, "listen");
    int fd = accept(listener, NULL, NULL);
    check(fd >= 0, "accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* Stays on the nth of the processors that this process may use, if there are that many. */
static void stay_on(int nth) {
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    check(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "sched_getaffinity");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || nth-- > 0)
            continue;
        CPU_SET(cpu, &one);
        check(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
        return;
    }
}

/* Between two processes of the host: where Linux puts them, or each on a processor of its own. */
static void over_pair(const char *name, int apart, uint32_t milliseconds) {
    int fds[2];
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
    if (fork() == 0) {
        close(fds[0]);
        if (apart)
            stay_on(1);
        serve(fds[1]);
        exit(0);
    }
    close(fds[1]);
    if (apart)
        stay_on(0);
    measure(name, fds[0], milliseconds);
}

int main(int argc, char **argv) {
    if (getpid() == 1)
        return guest();
    if (argc != 3)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in tcp = {AF_INET, htons((uint16_t)atoi(argv[2])), {INADDR_ANY}, {0}};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    snprintf(local.sun_path, sizeof local.sun_path, "%s", argv[2]);
    if (strcmp(argv[1], "pair") == 0) {
        over_pair("pair", 0, (uint32_t)atoi(argv[2]));
        over_pair("apart", 1, (uint32_t)atoi(argv[2]));
    } else if (strcmp(argv[1], "tcp") == 0)
        serve(accepted(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&tcp, sizeof tcp));
    else if (strcmp(argv[1], "listen") == 0)
        serve(accepted(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&local, sizeof local));
    else
        serve(connected(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&local, sizeof local));
    return 0;
}
