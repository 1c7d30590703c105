/* Functions for every file of the agent. */
#ifndef TSVMM_AGENT_AGENT_H
#define TSVMM_AGENT_AGENT_H

#include <stdbool.h>

/* Prints "tsvmm-agent: message" on standard error (as init: the console). */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);
/* The same, then ends the agent. As init it ends the machine. */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);
/* True when this agent may power the machine off. */
extern bool in_charge;
/* Syncs, unmounts and powers the machine off or resets it. False when this agent may not. */
bool power_off(bool reset);

#endif
