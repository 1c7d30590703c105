/*
 * Guest RAM: one anonymous mapping, seen by TypeScript through windows. Pages appear when they are touched,
 * so unused RAM costs nothing; it stays out of core dumps and out of children's address spaces.
 */
#include "addon.h"
#include <sys/mman.h>

#define MAX_WINDOWS 1024

struct ram {
    struct ram *next;
    void *memory;
    size_t bytes;
    uint32_t windows;
    napi_ref references[MAX_WINDOWS];
};

/* One list for all environments of the process; only touched at start and end of a machine. */
static struct ram *all;
static uv_mutex_t lock;
static uv_once_t once = UV_ONCE_INIT;
static void create_lock(void) {
    uv_mutex_init(&lock);
}

napi_value ramMap(napi_env env, napi_callback_info info) {
    ARGUMENTS(2);
    size_t bytes = (size_t)arg_number(env, argv[0]), window = (size_t)arg_number(env, argv[1]);
    if (bytes == 0 || window == 0 || (bytes + window - 1) / window > MAX_WINDOWS)
        return throw_errno(env, "map guest RAM", EINVAL);
    struct ram *ram = calloc(1, sizeof *ram);
    if (ram == NULL)
        return throw_errno(env, "map guest RAM", ENOMEM);
    ram->bytes = bytes;
    ram->memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ram->memory == MAP_FAILED) {
        int error = errno;
        free(ram);
        return throw_errno(env, "map guest RAM", error);
    }
    madvise(ram->memory, bytes, MADV_DONTDUMP);
    madvise(ram->memory, bytes, MADV_DONTFORK);

    napi_value result, windows;
    napi_create_object(env, &result);
    napi_create_array(env, &windows);
    for (size_t at = 0; at < bytes; at += window) {
        size_t length = bytes - at < window ? bytes - at : window;
        napi_value one = buffer(env, (char *)ram->memory + at, length, &ram->references[ram->windows]);
        if (one == NULL) {
            for (uint32_t i = 0; i < ram->windows; i++)
                buffer_detach(env, &ram->references[i]);
            munmap(ram->memory, bytes);
            free(ram);
            return throw_errno(env, "make a window on guest RAM", ENOMEM);
        }
        napi_set_element(env, windows, ram->windows++, one);
    }
    uv_once(&once, create_lock);
    uv_mutex_lock(&lock);
    ram->next = all;
    all = ram;
    uv_mutex_unlock(&lock);
    set(env, result, "hva", number(env, (double)(uintptr_t)ram->memory));
    set(env, result, "windows", windows);
    return result;
}

napi_value ramUnmap(napi_env env, napi_callback_info info) {
    ARGUMENTS(1);
    void *memory = (void *)(uintptr_t)arg_number(env, argv[0]);
    uv_once(&once, create_lock);
    uv_mutex_lock(&lock);
    struct ram **at = &all;
    while (*at != NULL && (*at)->memory != memory)
        at = &(*at)->next;
    struct ram *ram = *at;
    if (ram != NULL)
        *at = ram->next;
    uv_mutex_unlock(&lock);
    if (ram == NULL)
        return throw_errno(env, "unmap guest RAM", EINVAL);
    for (uint32_t i = 0; i < ram->windows; i++)
        buffer_detach(env, &ram->references[i]);
    munmap(ram->memory, ram->bytes);
    free(ram);
    return NULL;
}
