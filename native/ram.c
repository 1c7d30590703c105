/*
 * Guest RAM: one anonymous mapping, seen by TypeScript through windows. Pages appear when they are touched,
 * so unused RAM costs nothing; it stays out of core dumps and out of children's address spaces.
 */
#include "addon.h"
#include <sys/mman.h>

#define MAX_WINDOWS 1024

struct ram {
    void *memory;
    size_t bytes;
    napi_ref windows[MAX_WINDOWS];
};

static void free_pages(void *data) {
    struct ram *ram = data;
    munmap(ram->memory, ram->bytes);
    free(ram);
}

/* Nobody reaches the memory any more when this returns. Giving its pages back takes a millisecond for each
 * 16 MiB that were in use: not on the JavaScript thread, which has other machines to run. */
static void unmap(napi_env env, struct ram *ram) {
    for (size_t i = 0; i < MAX_WINDOWS; i++)
        buffer_detach(env, &ram->windows[i]);
    off_thread(env, free_pages, ram);
}

NATIVE(ramMap) {
    ARGUMENTS(2);
    size_t bytes = SIZE(0), window = SIZE(1);
    if (bytes == 0 || window == 0 || (bytes - 1) / window >= MAX_WINDOWS)
        return throw_errno(env, "map guest RAM", EINVAL);
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return throw_errno(env, "map guest RAM", errno);
    madvise(memory, bytes, MADV_DONTDUMP);
    madvise(memory, bytes, MADV_DONTFORK);
    struct ram *ram = calloc(1, sizeof *ram);
    if (ram == NULL) {
        munmap(memory, bytes);
        return throw_errno(env, "map guest RAM", ENOMEM);
    }
    ram->memory = memory;
    ram->bytes = bytes;

    napi_value windows;
    napi_create_array(env, &windows);
    for (size_t at = 0, i = 0; at < bytes; at += window, i++) {
        size_t length = bytes - at < window ? bytes - at : window;
        napi_value view = buffer(env, (char *)memory + at, length, &ram->windows[i]);
        if (view == NULL) {
            unmap(env, ram);
            return throw_errno(env, "make a window on guest RAM", ENOMEM);
        }
        napi_set_element(env, windows, (uint32_t)i, view);
    }
    napi_value values[] = {handle(env, KIND_ram, ram), number(env, (double)(uintptr_t)memory), windows};
    napi_value result = object(env, (const char *[]){"ram", "hva", "windows"}, values, 3);
    if (result == NULL) {
        unmap(env, ram);
        return throw_errno(env, "map guest RAM", ENOMEM);
    }
    return result;
}

NATIVE(ramUnmap) {
    ARGUMENTS(1);
    TAKE_HANDLE(ram);
    unmap(env, ram);
    return NULL;
}
