/* What every file of the agent may call. */
#ifndef TSVMM_AGENT_AGENT_H
#define TSVMM_AGENT_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Prints "tsvmm-agent: message" on standard error (as init: the console). */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);
/* The same, then ends the agent; as init that is the end of the machine. */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);
/* Syncs, unmounts and powers the machine off or resets it. False when this agent is not in charge of the
 * machine. */
bool power_off(bool reset);

/* A list of "key=value" strings, each ended by a NUL, as EXEC and SETUP carry it. Both return NULL at the
 * end. */
const char *list_next(const char *list, size_t length, const char *entry);
/* The value of `entry` when its key is `key`, else NULL. */
const char *list_value(const char *entry, const char *key);
/* mkdir -p. @return 0, or -1 with errno */
int make_folders(const char *path, unsigned mode);

#endif
