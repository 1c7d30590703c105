/*
 * What the helper's files share: argument access, errors by errno, and calls into JavaScript. All functions
 * named after those of the interface Native are N-API callbacks and run on the JavaScript thread.
 */
#ifndef TSVMM_ADDON_H
#define TSVMM_ADDON_H

#define NAPI_VERSION 8
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <node_api.h>
#include <uv.h>
#include "tsvmm.h"

#define ARGUMENTS(count)                                                                                     \
    napi_value argv[count];                                                                                  \
    size_t argc = count;                                                                                     \
    napi_get_cb_info(env, info, &argc, argv, NULL, NULL)

/* Argument `i` of the call; 0 or false when it is of another type. */
#define NUMBER(i) arg_number(env, argv[i])
#define INT(i) ((int32_t)NUMBER(i))
#define BOOL(i) arg_bool(env, argv[i])
double arg_number(napi_env env, napi_value value);
bool arg_bool(napi_env env, napi_value value);
void *arg_handle(napi_env env, napi_value value);
/* Declares `name`, a `struct name *`, which is argument 0; throws when that is no handle. */
#define HANDLE(name)                                                                                         \
    struct name *name = arg_handle(env, argv[0]);                                                            \
    if (name == NULL)                                                                                        \
    return NULL

/* Throws "Cannot <attempt>: <what errno means>" with `code` set to the errno's name; returns NULL. */
napi_value throw_errno(napi_env env, const char *attempt, int error);

napi_value number(napi_env env, double value);
napi_value handle(napi_env env, void *pointer);
void set(napi_env env, napi_value object, const char *name, napi_value value);

/* An ArrayBuffer on memory of ours. `reference` lets `buffer_detach` empty it before the memory goes. */
napi_value buffer(napi_env env, void *memory, size_t bytes, napi_ref *reference);
void buffer_detach(napi_env env, napi_ref *reference);

/* Runs `run(data)` on a thread of libuv, or at once where that cannot be. For what takes the kernel long;
 * `run` may touch nothing of JavaScript's. The environment waits for it at its end. */
void off_thread(napi_env env, void (*run)(void *data), void *data);

/* A JavaScript function to call from the event loop, outside of any other call. */
struct callback {
    napi_env env;
    napi_ref function;
    napi_async_context context;
};
void callback_create(struct callback *callback, napi_env env, napi_value function);
void callback_call(struct callback *callback, size_t argc, const int32_t *arguments);
void callback_destroy(struct callback *callback);

/* clang-format off */
/* The functions of the interface Native in src/host/native.ts. */
#define FUNCTIONS(F) \
    F(ramMap) F(ramUnmap) \
    F(loopCreate) F(loopRegister) F(vcpuStart) F(vcpuResume) F(vcpuKick) F(loopStop) F(loopDestroy) \
    F(pollCreate) F(pollSet) F(pollDestroy) \
    F(eventfdCreate) F(eventfdSignal) F(readv) F(writev) \
    F(ioCreate) F(ioSubmit) F(ioReap) F(ioDestroy) \
    F(terminalRaw) F(terminalRestore)
/* clang-format on */
#define NATIVE(name) napi_value native_##name(napi_env env, napi_callback_info info)
#define DECLARE(name) NATIVE(name);
FUNCTIONS(DECLARE)

#endif
