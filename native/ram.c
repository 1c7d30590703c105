/*
 * Guest RAM: one mapping, which TypeScript sees through windows. Pages appear when they are touched, so
 * unused RAM costs nothing. It is not in core dumps or in children's address spaces. It starts at a multiple
 * of 2 MiB and asks for transparent huge pages, so that KVM can map it by 2 MiB, too.
 *
 * A machine that is restored has a private mapping of the file with its memory: pages are read when they are
 * touched, and writes stay here. Nobody may shorten the file meanwhile. Where later snapshots have other
 * pages, their files are laid over it.
 *
 * A mapping has a reference count: one of its owner, one of each I/O request in flight, and one of each
 * prefetch. So pages that the host's kernel may still write are never given back and never used by another
 * machine.
 */
#include "ram.h"
#include <pthread.h>
#include <sys/mman.h>

#define MAX_WINDOWS 1024
#define HUGE_PAGE ((size_t)2 << 20)
#define SMALL_PAGE ((size_t)4096)
#define PREFETCH_BYTES (256 * SMALL_PAGE) /* between two looks whether it is still wanted */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

struct ram {
    napi_env env;
    char *memory;
    size_t bytes;
    int fd;               /* of the memfd; -1 for private memory */
    atomic_bool unwanted; /* its owner has given it up */
    uint32_t references, count;
    struct ram *next;
    napi_ref windows[];
};

/* All mappings of this process: a worker's requests may be in flight when it has ended. Guards `references`.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ram *all;

void ram_lock(void) {
    pthread_mutex_lock(&lock);
}

void ram_unlock(void) {
    pthread_mutex_unlock(&lock);
}

static bool contains(const struct ram *ram, const struct iovec *part) {
    size_t at = (size_t)((uintptr_t)part->iov_base - (uintptr_t)ram->memory);
    return at < ram->bytes && part->iov_len <= ram->bytes - at;
}

bool ram_hold(const struct iovec *parts, size_t count, struct ram **held) {
    *held = NULL;
    if (count == 0)
        return true;
    struct ram *ram = all;
    while (ram != NULL && !contains(ram, &parts[0]))
        ram = ram->next;
    if (ram == NULL)
        return true;
    for (size_t i = 1; i < count; i++)
        if (!contains(ram, &parts[i]))
            return false;
    ram->references++;
    *held = ram;
    return true;
}

static void free_pages(void *data) {
    struct ram *ram = data;
    munmap(ram->memory, ram->bytes);
    free(ram);
}

void ram_release(struct ram *ram, napi_env env) {
    if (ram == NULL)
        return;
    ram_lock();
    bool last = --ram->references == 0;
    for (struct ram **link = &all; last && *link != NULL; link = &(*link)->next)
        if (*link == ram) {
            *link = ram->next;
            break;
        }
    ram_unlock();
    if (!last)
        return;
    /* Freeing used pages takes a millisecond per 16 MiB. */
    if (env != NULL)
        off_thread(env, free_pages, ram);
    else
        free_pages(ram);
}

/* Nobody reaches the memory by JavaScript any more when this returns. */
static void disown(struct ram *ram, napi_env env) {
    ram->unwanted = true;
    for (size_t i = 0; i < ram->count; i++)
        buffer_detach(ram->env, &ram->windows[i]);
    if (ram->fd >= 0)
        close(ram->fd);
    ram_release(ram, env);
}

/* The environment's cleanup hook. Its threads have ended, so the pages are freed here. */
static void on_exit_env(void *ram) {
    disown(ram, NULL);
}

/* A memfd whose size nobody can change. A removed page would be SIGBUS for all who have mapped it. */
static int create_memfd(size_t bytes) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("tsvmm-ram", flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create("tsvmm-ram", flags);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* Maps at a multiple of HUGE_PAGE: reserves a larger range, puts the mapping into it, and unmaps the rest.
 */
static char *map_aligned(size_t bytes, int fd, bool shared) {
    int flags = MAP_NORESERVE | (shared ? MAP_SHARED : fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_PRIVATE);
    size_t room = bytes + HUGE_PAGE;
    char *start = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    char *memory = (char *)(((uintptr_t)start + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    if (mmap(memory, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int error = errno;
        munmap(start, room);
        errno = error;
        return NULL;
    }
    if (memory > start)
        munmap(start, (size_t)(memory - start));
    munmap(memory + bytes, (size_t)(start + room - memory) - bytes);
    return memory;
}

static void advise(char *memory, size_t bytes) {
    madvise(memory, bytes, MADV_DONTDUMP);
    madvise(memory, bytes, MADV_DONTFORK);
    madvise(memory, bytes, MADV_HUGEPAGE); /* EINVAL: this kernel has none */
}

/* A mapping with no windows yet; NULL with errno. `image`: a file with its first content, or -1. */
static struct ram *create(napi_env env, size_t bytes, bool shared, int image, size_t windows) {
    struct ram *ram = calloc(1, sizeof *ram + windows * sizeof *ram->windows);
    if (ram == NULL)
        return NULL;
    ram->env = env;
    ram->bytes = bytes;
    ram->references = 1;
    ram->fd = shared ? create_memfd(bytes) : -1;
    if (!shared || ram->fd >= 0)
        ram->memory = map_aligned(bytes, shared ? ram->fd : image, shared);
    if (ram->memory == NULL) {
        int error = errno;
        if (ram->fd >= 0)
            close(ram->fd);
        free(ram);
        errno = error;
        return NULL;
    }
    advise(ram->memory, bytes);
    ram_lock();
    ram->next = all;
    all = ram;
    ram_unlock();
    return ram;
}

/* An array of the windows, from pairs of offset and length; NULL on failure. */
static napi_value make_windows(struct ram *ram, const double *pairs, size_t count) {
    napi_value windows;
    if (napi_create_array_with_length(ram->env, count, &windows) != napi_ok)
        return NULL;
    for (; ram->count < count; ram->count++, pairs += 2) {
        char *start = ram->memory + (size_t)pairs[0];
        napi_value view = buffer(ram->env, start, (size_t)pairs[1], &ram->windows[ram->count]);
        if (view == NULL || napi_set_element(ram->env, windows, ram->count, view) != napi_ok)
            return NULL;
    }
    return windows;
}

NATIVE(ramMap) {
    ARGUMENTS(4);
    size_t bytes = SIZE(0), entries = 0, page = (size_t)sysconf(_SC_PAGESIZE);
    double *pairs = NULL;
    napi_typedarray_type type = napi_uint8_array;
    napi_get_typedarray_info(env, argv[1], &type, &entries, (void **)&pairs, NULL, NULL);
    bool fits = type == napi_float64_array && entries % 2 == 0 && entries <= 2 * MAX_WINDOWS &&
                bytes >= page && bytes % page == 0;
    for (size_t i = 0; fits && i < entries; i += 2)
        fits = pairs[i] >= 0 && pairs[i + 1] > 0 && pairs[i] + pairs[i + 1] <= (double)bytes;
    if (!fits)
        return throw_errno(env, "map guest RAM", EINVAL);
    struct ram *ram = create(env, bytes, BOOL(2), INT(3), entries / 2);
    if (ram == NULL)
        return throw_errno(env, "map guest RAM", errno);
    napi_value values[] = {
        handle(env, KIND_ram, ram),
        number(env, (double)(uintptr_t)ram->memory),
        make_windows(ram, pairs, entries / 2),
        number(env, ram->fd),
    };
    napi_value result = object(env, (const char *[]){"ram", "hva", "windows", "fd"}, values, 4);
    if (result == NULL) {
        disown(ram, NULL);
        return throw_errno(env, "make a window on guest RAM", ENOMEM);
    }
    napi_add_env_cleanup_hook(env, on_exit_env, ram);
    return result;
}

/* Reads a part of a file into memory; 0 or an errno. A file that ends too early is EIO. */
static int read_part(int fd, char *to, size_t offset, size_t bytes) {
    while (bytes > 0) {
        ssize_t got = pread(fd, to, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0 ? EIO : errno;
        to += got;
        offset += (size_t)got;
        bytes -= (size_t)got;
    }
    return 0;
}

/* Lays parts of files, which are triples of descriptor, offset and length, over private memory: the first
 * `mapped` of them are mapped, the others are read. */
NATIVE(ramOverlay) {
    ARGUMENTS(3);
    HANDLE(ram);
    size_t entries = 0, mapped = SIZE(2), page = (size_t)sysconf(_SC_PAGESIZE);
    double *parts = NULL;
    napi_typedarray_type type = napi_uint8_array;
    napi_get_typedarray_info(env, argv[1], &type, &entries, (void **)&parts, NULL, NULL);
    if (type != napi_float64_array || entries % 3 != 0)
        return throw_errno(env, "lay files over guest RAM", EINVAL);
    for (size_t i = 0; i < entries / 3; i++, parts += 3) {
        int fd = (int)parts[0];
        size_t offset = (size_t)parts[1], bytes = (size_t)parts[2];
        int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, error = 0;
        if (offset % page != 0 || bytes % page != 0 || offset > ram->bytes || bytes > ram->bytes - offset)
            return throw_errno(env, "lay files over guest RAM", EINVAL);
        if (i >= mapped)
            error = read_part(fd, ram->memory + offset, offset, bytes);
        else if (mmap(ram->memory + offset, bytes, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset) ==
                 MAP_FAILED)
            error = errno;
        else
            advise(ram->memory + offset, bytes);
        if (error != 0)
            return throw_errno(env, "lay files over guest RAM", error);
    }
    return NULL;
}

/* Parts of a mapping to be read before they are touched, none larger than PREFETCH_BYTES. It holds the
 * mapping. */
struct prefetch {
    struct ram *ram;
    size_t count;
    struct iovec parts[];
};

/* Whether the page cache has a part. True, too, where that is not for us to know: in files of others. */
static bool is_cached(const struct iovec *part) {
    unsigned char pages[PREFETCH_BYTES / SMALL_PAGE];
    if (mincore(part->iov_base, part->iov_len, pages) < 0)
        return true;
    for (size_t i = 0; i < part->iov_len / SMALL_PAGE; i++)
        if (!(pages[i] & 1))
            return false;
    return true;
}

/* False when the rest need not be tried. */
static bool advise_all(const struct prefetch *prefetch, int advice) {
    for (size_t i = 0; i < prefetch->count; i++) {
        struct iovec part = prefetch->parts[i];
        do {
            if (prefetch->ram->unwanted)
                return false;
            errno = 0;
        } while (madvise(part.iov_base, part.iov_len, advice) < 0 && (errno == EINTR || errno == EAGAIN));
        if (errno != 0)
            return false;
    }
    return true;
}

/* On a thread of libuv: the disk gets all reads at once, then the pages are mapped as they come. What the
 * page cache has is quicker mapped when it is touched, since not all of it will be. An error ends it, such
 * as EINVAL before Linux 5.14: it is only advice. */
static void prefetch(void *data) {
    struct prefetch *prefetch = data;
    size_t kept = 0;
    for (size_t i = 0; i < prefetch->count; i++)
        if (!is_cached(&prefetch->parts[i]))
            prefetch->parts[kept++] = prefetch->parts[i];
    prefetch->count = kept;
    if (advise_all(prefetch, MADV_WILLNEED))
        advise_all(prefetch, MADV_POPULATE_READ);
    ram_release(prefetch->ram, NULL);
    free(prefetch);
}

/* Reads parts of private memory, which are pairs of offset and length. Does not wait. */
NATIVE(ramPrefetch) {
    ARGUMENTS(2);
    HANDLE(ram);
    size_t entries = 0, page = (size_t)sysconf(_SC_PAGESIZE);
    double *pairs = NULL;
    napi_typedarray_type type = napi_uint8_array;
    napi_get_typedarray_info(env, argv[1], &type, &entries, (void **)&pairs, NULL, NULL);
    bool fits = type == napi_float64_array && entries % 2 == 0;
    size_t count = 0;
    for (size_t i = 0; fits && i < entries; i += 2) {
        fits = pairs[i] >= 0 && pairs[i + 1] >= 0 && pairs[i] + pairs[i + 1] <= (double)ram->bytes &&
               (size_t)pairs[i] % page == 0 && (size_t)pairs[i + 1] % page == 0;
        if (fits)
            count += ((size_t)pairs[i + 1] + PREFETCH_BYTES - 1) / PREFETCH_BYTES;
    }
    if (!fits)
        return throw_errno(env, "prefetch guest RAM", EINVAL);
    struct prefetch *work = malloc(sizeof *work + count * sizeof *work->parts);
    if (work == NULL)
        return throw_errno(env, "prefetch guest RAM", ENOMEM);
    work->ram = ram;
    work->count = 0;
    for (size_t i = 0; i < entries; i += 2) {
        char *at = ram->memory + (size_t)pairs[i], *end = at + (size_t)pairs[i + 1];
        for (; at < end; at += PREFETCH_BYTES) {
            size_t bytes = (size_t)(end - at) < PREFETCH_BYTES ? (size_t)(end - at) : PREFETCH_BYTES;
            work->parts[work->count++] = (struct iovec){at, bytes};
        }
    }
    ram_lock();
    ram->references++;
    ram_unlock();
    off_thread(env, prefetch, work);
    return NULL;
}

NATIVE(ramUnmap) {
    ARGUMENTS(1);
    TAKE_HANDLE(ram);
    napi_remove_env_cleanup_hook(env, on_exit_env, ram);
    disown(ram, env);
    return NULL;
}
