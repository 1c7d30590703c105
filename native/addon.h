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

double arg_number(napi_env env, napi_value value);
static inline int32_t arg_int(napi_env env, napi_value value) {
    return (int32_t)arg_number(env, value);
}
bool arg_bool(napi_env env, napi_value value);
void *arg_handle(napi_env env, napi_value value);

/* Throws "Cannot <attempt>: <what errno means>" with `code` set to the errno's name; returns NULL. */
napi_value throw_errno(napi_env env, const char *attempt, int error);

napi_value number(napi_env env, double value);
napi_value handle(napi_env env, void *pointer);
void set(napi_env env, napi_value object, const char *name, napi_value value);

/* An ArrayBuffer on memory of ours. `reference` lets `buffer_detach` empty it before the memory goes. */
napi_value buffer(napi_env env, void *memory, size_t bytes, napi_ref *reference);
void buffer_detach(napi_env env, napi_ref *reference);

/* A JavaScript function to call from the event loop, outside of any other call. */
struct callback {
    napi_env env;
    napi_ref function;
    napi_async_context context;
};
void callback_create(struct callback *callback, napi_env env, napi_value function);
void callback_call(struct callback *callback, size_t argc, const int32_t *arguments);
void callback_destroy(struct callback *callback);

napi_value ramMap(napi_env env, napi_callback_info info);
napi_value ramUnmap(napi_env env, napi_callback_info info);

napi_value loopCreate(napi_env env, napi_callback_info info);
napi_value loopRegister(napi_env env, napi_callback_info info);
napi_value vcpuStart(napi_env env, napi_callback_info info);
napi_value vcpuResume(napi_env env, napi_callback_info info);
napi_value vcpuKick(napi_env env, napi_callback_info info);
napi_value loopStop(napi_env env, napi_callback_info info);
napi_value loopDestroy(napi_env env, napi_callback_info info);

napi_value pollCreate(napi_env env, napi_callback_info info);
napi_value pollSet(napi_env env, napi_callback_info info);
napi_value pollRef(napi_env env, napi_callback_info info);
napi_value pollDestroy(napi_env env, napi_callback_info info);
napi_value eventfdCreate(napi_env env, napi_callback_info info);
napi_value eventfdSignal(napi_env env, napi_callback_info info);
napi_value fdClose(napi_env env, napi_callback_info info);
napi_value native_readv(napi_env env, napi_callback_info info);
napi_value native_writev(napi_env env, napi_callback_info info);

napi_value ioCreate(napi_env env, napi_callback_info info);
napi_value ioSubmit(napi_env env, napi_callback_info info);
napi_value ioDestroy(napi_env env, napi_callback_info info);

napi_value terminalRaw(napi_env env, napi_callback_info info);
napi_value terminalRestore(napi_env env, napi_callback_info info);
napi_value terminalSize(napi_env env, napi_callback_info info);

#endif
