/* A payload process: what EXEC asks for, started by fork and exec. */
#ifndef TSVMM_AGENT_PROCESS_H
#define TSVMM_AGENT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Why a process could not be started; comes through the status pipe and goes out as FAILED. */
struct failure {
    uint32_t exit_status; /* 125 the agent's, 126 not executable, 127 not found, as docker run has it */
    uint32_t error;       /* errno, 0 if none */
    char text[248];
};

struct process {
    pid_t pid;
    bool tty;
    int in;     /* write end of stdin, or the pty's master; -1: /dev/null */
    int out;    /* read end of stdout, or a second descriptor of the master */
    int err;    /* read end of stderr; -1 with a pty */
    int status; /* at its end: exec has succeeded; else a struct failure arrives */
};

/* The limit on open files that payloads get; the agent's own is as high as may be. */
extern struct rlimit payload_nofile;

/* Starts what the list of EXEC keys says. Every descriptor is close-on-exec and non-blocking.
 * @return false with `failure` filled in */
bool process_start(const char *list, size_t length, struct process *process, struct failure *failure);
/* Sets the window size of a pty. */
void process_resize(int master, unsigned columns, unsigned rows);

#endif
