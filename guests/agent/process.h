/* A payload process, which EXEC starts by fork and exec. */
#ifndef TSVMM_AGENT_PROCESS_H
#define TSVMM_AGENT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Why a process could not be started. It comes through the status pipe and is sent as FAILED. */
struct failure {
    uint32_t exit_status; /* 125 the agent's, 126 not executable, 127 not found, as docker run has it */
    uint32_t error;       /* errno, 0 if none */
    char text[248];
};

struct process {
    pid_t pid;
    bool tty;   /* the pty is opened by the child, in its root; the master arrives through `status` */
    int in;     /* write end of stdin; -1: /dev/null, or a pty */
    int out;    /* read end of stdout; -1 with a pty */
    int err;    /* read end of stderr; -1 with a pty */
    int status; /* for process_status */
};

/* What a child has reported between fork and exec. */
enum process_said { SAID_NOTHING, SAID_TERMINAL, SAID_FAILURE, SAID_END };

/* The payloads' limit of open files. The agent's own is as high as possible. */
extern struct rlimit payload_nofile;
/* Where the programs are that EXEC runs by tool=NAME; in the agent's own root. */
extern const char *tools_directory;

/* Starts the program of a list of EXEC keys. Every descriptor is close-on-exec and non-blocking.
 * @return false with `failure` filled in */
bool process_start(const char *list, size_t length, struct process *process, struct failure *failure);
/* Reads from `status`. SAID_TERMINAL: `master` is the pty's. SAID_END: there is nothing more, so exec has
 * succeeded unless there was a failure before. */
enum process_said process_status(int status, int *master, struct failure *failure);
/*
 * For a container's init: executes the program of an EXEC with init=1. `descriptors` are those of
 * container_execute.
 */
__attribute__((noreturn)) void process_execute(const int *descriptors, size_t count);
/*
 * For a forked child that goes on as the agent: resets signals, and closes all descriptors but 0 to 2 and
 * `kept`, which gets a new number.
 */
void process_apart(int *kept, size_t count);
/* Sets the window size of a pty. */
void process_resize(int master, unsigned columns, unsigned rows);

#endif
