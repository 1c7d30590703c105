/* Entropy, see entropy.h; random(4). */
#include "entropy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* <linux/random.h>, which musl's compiler does not see. */
#define RNDADDENTROPY _IOW('R', 0x03, int[2])
#define RNDRESEEDCRNG _IO('R', 0x07)
#define BYTES_MAX 64
struct pool_info {
    int bits, bytes;
    unsigned char buffer[BYTES_MAX];
};

int entropy_renew(const char *hex) {
    struct pool_info info = {0};
    unsigned value;
    for (; info.bytes < BYTES_MAX && sscanf(hex, "%2x", &value) == 1; hex += 2) {
        info.buffer[info.bytes++] = (unsigned char)value;
        if (hex[1] == 0)
            break;
    }
    if (info.bytes == 0) {
        errno = EINVAL;
        return -1;
    }
    info.bits = 8 * info.bytes;
    int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = ioctl(fd, RNDADDENTROPY, &info) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? -1 : 0;
    int error = errno;
    close(fd);
    errno = error;
    return result;
}
