/* Random numbers of a machine that was restored from a snapshot: its clones have the same ones so far. */
#ifndef TSVMM_AGENT_ENTROPY_H
#define TSVMM_AGENT_ENTROPY_H

/* Gives the kernel random bytes of the host, in hexadecimal, and makes it forget what it had. @return 0; -1
 * with errno */
int entropy_renew(const char *hex);

#endif
