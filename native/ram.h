/*
 * What I/O asks of guest RAM: that it stays mapped while a request may touch it.
 */
#ifndef TSVMM_RAM_H
#define TSVMM_RAM_H

#include "addon.h"
#include <fcntl.h>
#include <sys/uio.h>

struct ram;

/* Around ram_hold: once for a batch. */
void ram_lock(void);
void ram_unlock(void);

/* Keeps the mapping that all `parts` are in, until ram_release; none where the first is in none. False when
 * they are not all in the same: then nothing is held. */
bool ram_hold(const struct iovec *parts, size_t count, struct ram **held);

/* Gives a hold back. The last one unmaps: on a thread of libuv, or here when `env` is NULL. */
void ram_release(struct ram *ram, napi_env env);

#endif
