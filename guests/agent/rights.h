/* Passes descriptors from one process of the agent to another, over a SOCK_SEQPACKET socket (SCM_RIGHTS). */
#ifndef TSVMM_AGENT_RIGHTS_H
#define TSVMM_AGENT_RIGHTS_H

#include <stddef.h>
#include <sys/types.h>

#define RIGHTS_MAX 5

/* Sends a message of one byte with `count` descriptors. Never blocks. @return 0; -1 with errno */
int rights_send(int socket, const int *descriptors, size_t count);
/*
 * Receives one message: its bytes into `data`, its descriptors, close-on-exec, into `descriptors`.
 *
 * @return what recvmsg returns; `count` is how many descriptors came
 */
ssize_t rights_receive(int socket, void *data, size_t size, int descriptors[RIGHTS_MAX], size_t *count);

#endif
