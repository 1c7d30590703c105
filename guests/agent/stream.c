/* The byte stream to the host, see stream.h. */
#include "stream.h"
#include "agent.h"
#include "loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER sizeof(struct frame_header)
#define IN_SIZE (PAYLOAD_MAX + HEADER + 4096)
#define OUT_SIZE (3 * PAYLOAD_MAX)
/* Reserved for control frames when session data fills the buffer: more than the answers to one full input
 * buffer.
 */
#define CONTROL_RESERVE 2048
/* A machine that is made of a template waits so long for its host. */
#define RETRY_MS 5

/* <linux/vm_sockets.h>, which musl does not bring. */
#define ADDRESS_FAMILY_VSOCK 40
struct vsock_address {
    uint16_t family;
    uint16_t reserved;
    uint32_t port;
    uint32_t cid;
    uint8_t zero[4];
};

static enum { KIND_FD, KIND_VSOCK, KIND_DEVICE, KIND_LISTEN } kind;
static const char *device_path;
static struct watch stream = {.fd = -1};
static struct watch listener = {.fd = -1};
static bool connected;
static int64_t retry_at;

static uint8_t in[IN_SIZE];
static size_t in_length;
/* The parser has lost its place, and skips all bytes up to the next HELLO. */
static bool astray;
static uint8_t out[OUT_SIZE];
static size_t out_start, out_end;

static void disconnect(void) {
    in_length = out_start = out_end = 0;
    astray = false;
    if (kind == KIND_DEVICE && stream.fd >= 0)
        watch_set(&stream, 0); /* a port stays open: its host side comes back */
    else
        watch_close(&stream);
    if (connected) {
        connected = false;
        stream_lost();
    }
    retry_at = now_ms() + RETRY_MS;
}

/* Finds the next HELLO in what has arrived and drops everything before it. */
static void find_hello(void) {
    static const uint8_t start[HEADER] = {sizeof(struct hello), 0, 0, 0, FRAME_HELLO};
    size_t at = 0;
    for (; at + HEADER + 8 <= in_length; at++) {
        if (memcmp(in + at, start, HEADER) == 0 && memcmp(in + at + HEADER, HELLO_MAGIC, 8) == 0) {
            astray = false;
            break;
        }
    }
    in_length -= at;
    memmove(in, in + at, in_length);
}

/* Takes whole frames out of the input buffer while their answers have room. */
static void parse(void) {
    size_t at = 0;
    if (astray)
        find_hello();
    while (!astray && in_length - at >= HEADER && stream_control_room()) {
        struct frame_header header;
        memcpy(&header, in + at, HEADER);
        if (header.length > PAYLOAD_MAX || header.zero != 0 || header.type < FRAME_HELLO ||
            header.type > FRAME_HOLD) {
            if (kind != KIND_DEVICE) {
                disconnect();
                return;
            }
            astray = true; /* a port cannot be closed: wait for a host's HELLO */
            in_length -= at;
            memmove(in, in + at, in_length);
            find_hello();
            at = 0;
            continue;
        }
        if (in_length - at < HEADER + header.length)
            break;
        stream_frame(&header, in + at + HEADER);
        at += HEADER + header.length;
    }
    in_length -= at;
    memmove(in, in + at, in_length);
}

static void flush(void) {
    while (connected && out_start < out_end) {
        ssize_t n = write(stream.fd, out + out_start, out_end - out_start);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            disconnect();
            return;
        }
        out_start += (size_t)n;
    }
    if (out_start == out_end)
        out_start = out_end = 0;
    else if (out_start >= PAYLOAD_MAX) {
        memmove(out, out + out_start, out_end - out_start);
        out_end -= out_start;
        out_start = 0;
    }
}

static void stream_ready(struct watch *watch, uint32_t events) {
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        if (in_length == IN_SIZE)
            return; /* only while answers find no room */
        ssize_t n = read(watch->fd, in + in_length, IN_SIZE - in_length);
        if (n > 0) {
            in_length += (size_t)n;
            parse();
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            disconnect();
        }
    }
}

static void adopt(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    watch_init(&stream, fd, stream_ready, NULL);
    connected = true;
}

static void listener_ready(struct watch *watch, uint32_t events) {
    (void)events;
    if (connected)
        return;
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        adopt(fd);
}

static void connect_vsock(void) {
    struct vsock_address host = {.family = ADDRESS_FAMILY_VSOCK, .port = VSOCK_AGENT_PORT, .cid = 2};
    int fd = socket(ADDRESS_FAMILY_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&host, sizeof host) == 0)
        adopt(fd);
    else if (fd >= 0)
        close(fd);
}

static void open_device(void) {
    if (stream.fd < 0) {
        int fd = open(device_path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
            return;
        watch_init(&stream, fd, stream_ready, NULL);
    }
    /* A virtio-serial port with a closed host side polls as hung up and reads as at its end. */
    struct pollfd state = {.fd = stream.fd, .events = POLLIN};
    connected = poll(&state, 1, 0) >= 0 && !(state.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void retry(void) {
    if (kind == KIND_VSOCK)
        connect_vsock();
    else if (kind == KIND_DEVICE)
        open_device();
    retry_at = now_ms() + RETRY_MS;
}

static void listen_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0)
        die("cannot listen on %s: %s", path, strerror(errno));
    watch_init(&listener, fd, listener_ready, NULL);
}

void stream_open(const char *spec) {
    if (strncmp(spec, "fd:", 3) == 0) {
        kind = KIND_FD;
        adopt(atoi(spec + 3));
    } else if (strncmp(spec, "unix:", 5) == 0) {
        kind = KIND_LISTEN;
        listen_unix(spec + 5);
    } else if (strcmp(spec, "vsock") == 0) {
        kind = KIND_VSOCK;
        retry();
    } else {
        kind = KIND_DEVICE;
        device_path = spec;
        retry();
    }
}

bool stream_connected(void) {
    return connected;
}

static size_t out_free(void) {
    return OUT_SIZE - out_end;
}

size_t stream_data_room(void) {
    if (!connected || out_free() < HEADER + CONTROL_RESERVE + 4096)
        return 0;
    size_t room = out_free() - HEADER - CONTROL_RESERVE;
    return room < PAYLOAD_MAX ? room : PAYLOAD_MAX;
}

bool stream_control_room(void) {
    return out_free() >= CONTROL_RESERVE;
}

uint8_t *stream_payload(void) {
    return out + out_end + HEADER;
}

void stream_commit(uint8_t type, uint8_t flags, uint32_t session, size_t length) {
    struct frame_header header = {
        .length = (uint32_t)length, .type = type, .flags = flags, .session = session};
    memcpy(out + out_end, &header, HEADER);
    out_end += HEADER + length;
}

void stream_send(uint8_t type, uint8_t flags, uint32_t session, const void *payload, size_t length) {
    if (!connected || out_free() < HEADER + length)
        return;
    if (length > 0)
        memcpy(stream_payload(), payload, length);
    stream_commit(type, flags, session, length);
}

void stream_turn(void) {
    if (!connected && (kind == KIND_VSOCK || kind == KIND_DEVICE) && now_ms() >= retry_at)
        retry();
    flush();
    if (connected && in_length > 0)
        parse(); /* frames that waited for room */
    flush();
    watch_set(&listener, connected ? 0 : EPOLLIN);
    if (connected)
        watch_set(&stream, (stream_control_room() && in_length < IN_SIZE ? EPOLLIN : 0) |
                               (out_start < out_end ? EPOLLOUT : 0));
}

int stream_timeout(void) {
    if (connected || kind == KIND_FD || kind == KIND_LISTEN)
        return -1;
    int64_t left = retry_at - now_ms();
    return left < 0 ? 0 : (int)left;
}
