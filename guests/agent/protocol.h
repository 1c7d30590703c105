/*
 * The wire between the host and the guest agent; src/agent/protocol.ts says the same in TypeScript and
 * docs/agent.md in prose. Frames over one byte stream, little endian: a 12-byte header, then at most 64 KiB
 * of payload.
 */
#ifndef TSVMM_AGENT_PROTOCOL_H
#define TSVMM_AGENT_PROTOCOL_H

#include <stdint.h>

/* The versions that this agent speaks. */
#define PROTOCOL_MIN 2
#define PROTOCOL_MAX 3
#define PAYLOAD_MAX 65536u
#define VSOCK_AGENT_PORT 1024u

/* What a session may send before it is granted more, in bytes: stdin, and each output. */
#define STDIN_WINDOW 131072u
#define OUTPUT_WINDOW 262144u

struct frame_header {
    uint32_t length; /* of the payload, in bytes */
    uint8_t type;
    uint8_t flags;
    uint16_t zero;
    uint32_t session; /* chosen by the host; 0 for HELLO */
};

enum frame_type {
    FRAME_HELLO = 1,       /* both ways: struct hello, struct hello_answer */
    FRAME_SETUP = 2,       /* host: steps; answered by DONE or FAILED */
    FRAME_EXEC = 3,        /* host: key=value list; answered by STARTED or FAILED */
    FRAME_DONE = 4,        /* agent */
    FRAME_STARTED = 5,     /* agent: u32 pid */
    FRAME_FAILED = 6,      /* agent: u32 exit status, u32 errno, text; the session is over */
    FRAME_STDIN = 7,       /* host */
    FRAME_STDIN_CLOSE = 8, /* host: end of input; agent: nobody reads it any more */
    FRAME_STDOUT = 9,      /* agent; empty: end of output */
    FRAME_STDERR = 10,     /* agent; empty: end of output */
    FRAME_SIGNAL = 11,     /* host: u32 signal; flags 1: to the process group */
    FRAME_RESIZE = 12,     /* host: u16 columns, u16 rows */
    FRAME_EXIT = 13,       /* agent: u32 wait status; flags 1: out of memory; the session is over */
    FRAME_CREDIT = 14,     /* both ways: u32 bytes; flags: 0 stdin, 1 stdout, 2 stderr */
    FRAME_PING = 15,       /* host: at most 64 bytes */
    FRAME_PONG = 16,       /* agent: the same bytes */
    FRAME_CLOCK = 17,      /* host: u64 nanoseconds since 1970; answered by DONE or FAILED */
    FRAME_POWEROFF = 18,   /* host: flags 1: reset instead; FAILED if the agent may not */
    FRAME_CLOSE = 19,      /* host: hang up the session, then kill it; EXIT or FAILED, no further output */
    FRAME_REMOVE = 20,     /* host: container=ID; its processes are killed; answered by DONE or FAILED */
    FRAME_HOLD = 21,       /* host: sessions send nothing until another one with flags 1; answered by DONE */
};

/* EXEC and SETUP: the list goes on in the next frame of this session. */
#define FLAG_MORE 1
#define FLAG_GROUP 1
#define FLAG_RESET 1
#define FLAG_RELEASE 1
/* EXIT of a container's init: the kernel has killed a process of its group for want of memory. */
#define FLAG_OUT_OF_MEMORY 1

#define HELLO_MAGIC "tsvmmAGT"
/* HELLO asks the agent to kill and forget the sessions and containers of earlier hosts. */
#define HELLO_FORGET 1u

struct hello {
    char magic[8];
    uint16_t min, max; /* versions that the host speaks */
    uint32_t flags;
    uint8_t nonce[8]; /* comes back in the answer, so that the host finds it behind stale bytes */
};

struct hello_answer {
    char magic[8];
    uint32_t version; /* the one to speak; PROTOCOL_MAX when there is none in common, which the host then
                         refuses */
    uint32_t pid;
    uint8_t nonce[8];
    uint64_t start_ns; /* CLOCK_BOOTTIME when the agent started */
    uint64_t now_ns;   /* and when it answered */
};

#endif
