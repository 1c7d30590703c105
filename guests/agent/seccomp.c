/* Filters, see seccomp.h. */
#include "seccomp.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <linux/seccomp.h> and <linux/filter.h>, which musl's compiler does not see. */
#define SECCOMP_SET_MODE_FILTER 1
#define INSTRUCTION_BYTES 8
#define INSTRUCTIONS_MAX 4096
struct filter_program {
    unsigned short count;
    const void *instructions;
};

static int digit(char c) {
    static const char DIGITS[] = "0123456789abcdef";
    const char *at = c == 0 ? NULL : strchr(DIGITS, c);
    return at == NULL ? -1 : (int)(at - DIGITS);
}

/* @return the bytes that were read; -1 for what is no filter */
static int read_program(const char *text, uint8_t *bytes) {
    size_t length = strlen(text);
    if (length == 0 || length % (2 * INSTRUCTION_BYTES) != 0 ||
        length / 2 > INSTRUCTIONS_MAX * INSTRUCTION_BYTES)
        return -1;
    for (size_t i = 0; i < length; i += 2) {
        int high = digit(text[i]), low = digit(text[i + 1]);
        if (high < 0 || low < 0)
            return -1;
        bytes[i / 2] = (uint8_t)(high << 4 | low);
    }
    return (int)(length / 2);
}

static bool load(const char *text, struct refusal *why) {
    static uint64_t instructions[INSTRUCTIONS_MAX];
    char *hex;
    unsigned long flags = strtoul(text, &hex, 10);
    int bytes = *hex == ':' ? read_program(hex + 1, (uint8_t *)instructions) : -1;
    struct filter_program program = {.count = (unsigned short)(bytes / INSTRUCTION_BYTES),
                                     .instructions = instructions};
    errno = EINVAL;
    if (bytes > 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0)
        return true;
    why->error = errno;
    snprintf(why->text, sizeof why->text, "cannot load the filter for system calls: %s",
             strerror(why->error));
    return false;
}

bool seccomp_early(const struct spec *spec, struct refusal *why) {
    return spec->seccomp == NULL || spec->no_new_privs || load(spec->seccomp, why);
}

bool seccomp_late(const struct spec *spec, struct refusal *why) {
    return spec->seccomp == NULL || !spec->no_new_privs || load(spec->seccomp, why);
}
