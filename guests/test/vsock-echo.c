/*
 * The guest's side of test/lab/vsock.test.ts. Each stream is a process of its own, so that all of them move
 * at once.
 *
 *     vsock-echo serve PORT STREAMS        sends back what STREAMS connections bring, until each ends its
 * half; then their number of bytes as a line of text, and ends vsock-echo send PORT STREAMS BYTES   opens
 * STREAMS connections to the host, sends BYTES in each, ends that half, and wants the same bytes and then
 * their number back vsock-echo probe PORT                tells how connecting to the host ends
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* From <linux/vm_sockets.h>, which musl does not bring. */
#define VMADDR_CID_ANY 0xffffffffu
#define VMADDR_CID_HOST 2u

struct sockaddr_vm {
    unsigned short svm_family, svm_reserved1;
    unsigned svm_port, svm_cid;
    unsigned char svm_zero[4];
};

#define PIECE (64 * 1024)

static _Noreturn void die(const char *what) {
    printf("vsock-echo: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_vm address(unsigned cid, unsigned port) {
    return (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
}

/* @return a connection to the host, or -1 with errno */
static int call_host(unsigned port) {
    struct sockaddr_vm host = address(VMADDR_CID_HOST, port);
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0)
        die("socket");
    return connect(fd, (struct sockaddr *)&host, sizeof host) < 0 ? -1 : fd;
}

static void write_all(int fd, const char *from, size_t length) {
    while (length > 0) {
        ssize_t written = write(fd, from, length);
        if (written < 0)
            die("write");
        from += written;
        length -= (size_t)written;
    }
}

static void echo(int fd) {
    static char piece[PIECE];
    char count[32];
    uint64_t total = 0;
    ssize_t got;
    while ((got = read(fd, piece, sizeof piece)) > 0) {
        write_all(fd, piece, (size_t)got);
        total += (uint64_t)got;
    }
    if (got < 0)
        die("read");
    write_all(fd, count, (size_t)sprintf(count, "%llu\n", (unsigned long long)total));
}

/* Bytes that are the same for the same stream, and never repeat within it. */
struct pattern {
    uint64_t state;
    size_t used;
    char bytes[PIECE];
};

static void pattern_refill(struct pattern *pattern) {
    uint64_t *word = (uint64_t *)(void *)pattern->bytes;
    for (size_t i = 0; i < PIECE / sizeof *word; i++) {
        pattern->state ^= pattern->state << 13;
        pattern->state ^= pattern->state >> 7;
        pattern->state ^= pattern->state << 17;
        word[i] = pattern->state;
    }
    pattern->used = 0;
}

static size_t smaller(uint64_t a, uint64_t b) {
    return (size_t)(a < b ? a : b);
}

/* Sends and receives at the same time: neither side may wait for the other to be done. */
static void exchange(int fd, uint64_t bytes, unsigned seed) {
    static struct pattern out, in;
    static char piece[PIECE];
    char want[32], trailer[32] = {0};
    size_t trailing = 0;
    uint64_t sent = 0, received = 0;
    ssize_t got;
    out.state = in.state = 0x9e3779b97f4a7c15u + seed;
    pattern_refill(&out);
    pattern_refill(&in);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = (short)(sent < bytes ? POLLIN | POLLOUT : POLLIN)};
        if (poll(&ready, 1, -1) < 0)
            die("poll");
        if (ready.revents & POLLOUT && sent < bytes) {
            if (out.used == PIECE)
                pattern_refill(&out);
            got = write(fd, out.bytes + out.used, smaller(PIECE - out.used, bytes - sent));
            if (got < 0 && errno != EAGAIN)
                die("write");
            if (got > 0)
                out.used += (size_t)got, sent += (uint64_t)got;
            if (sent == bytes && shutdown(fd, SHUT_WR) < 0)
                die("shutdown");
        }
        if (!(ready.revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        got = read(fd, piece, sizeof piece);
        if (got == 0)
            break;
        if (got < 0 && errno != EAGAIN)
            die("read");
        for (size_t at = 0; got > 0 && at < (size_t)got;) {
            if (received == bytes) {
                if (trailing == sizeof trailer - 1) {
                    errno = EMSGSIZE;
                    die("the end");
                }
                trailer[trailing++] = piece[at++];
                continue;
            }
            if (in.used == PIECE)
                pattern_refill(&in);
            size_t part = smaller(smaller(PIECE - in.used, bytes - received), (size_t)got - at);
            if (memcmp(piece + at, in.bytes + in.used, part) != 0) {
                errno = EILSEQ;
                die("what came back");
            }
            in.used += part, at += part, received += part;
        }
    }
    sprintf(want, "%llu\n", (unsigned long long)bytes);
    if (received != bytes || strcmp(trailer, want) != 0) {
        printf("vsock-echo: %llu bytes came back, then \"%s\"\n", (unsigned long long)received, trailer);
        exit(1);
    }
}

static void serve(unsigned port, unsigned streams) {
    struct sockaddr_vm any = address(VMADDR_CID_ANY, port);
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof any) < 0 || listen(listener, 64) < 0)
        die("listen");
    printf("listening\n");
    fflush(stdout);
    for (unsigned i = 0; i < streams; i++) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            die("accept");
        if (fork() == 0) {
            echo(fd);
            exit(0);
        }
        close(fd);
    }
}

static void send_all(unsigned port, unsigned streams, uint64_t bytes) {
    for (unsigned i = 0; i < streams; i++) {
        if (fork() != 0)
            continue;
        int fd = call_host(port);
        if (fd < 0)
            die("connect");
        exchange(fd, bytes, i);
        exit(0);
    }
}

int main(int argc, char **argv) {
    const char *mode = argc > 2 ? argv[1] : "";
    unsigned port = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    unsigned streams = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    if (strcmp(mode, "serve") == 0 && argc == 4) {
        serve(port, streams);
    } else if (strcmp(mode, "send") == 0 && argc == 5) {
        send_all(port, streams, strtoull(argv[4], NULL, 10));
    } else if (strcmp(mode, "probe") == 0 && argc == 3) {
        printf("%s\n", call_host(port) < 0 ? strerror(errno) : "connected");
        return 0;
    } else {
        printf("usage: vsock-echo serve PORT STREAMS | send PORT STREAMS BYTES | probe PORT\n");
        return 2;
    }
    int status, failed = 0;
    while (wait(&status) > 0)
        failed += status != 0;
    printf("%u of %u streams failed\n", failed, streams);
    return failed != 0;
}
