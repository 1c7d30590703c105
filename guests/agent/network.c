/* Network interfaces and routes, see network.h. */
#include "network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <net/route.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INTERFACES "/sys/class/net"
#define PAUSE_MS 5

static int call(unsigned long request, void *argument) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int result = ioctl(fd, request, argument);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static struct ifreq request(const char *interface) {
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
    return request;
}

static int set_in(struct sockaddr *address, const char *text, uint32_t value) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {value}};
    if (text != NULL && inet_pton(AF_INET, text, &in.sin_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    memcpy(address, &in, sizeof in);
    return 0;
}

/* The interface with an Ethernet address, in `name` of IFNAMSIZ bytes. */
static bool find_interface(const char *mac, char *name) {
    char path[PATH_MAX], address[32];
    bool found = false;
    DIR *interfaces = opendir(INTERFACES);
    for (struct dirent *entry; interfaces != NULL && !found && (entry = readdir(interfaces)) != NULL;) {
        snprintf(path, sizeof path, INTERFACES "/%s/address", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
        if (file == NULL)
            continue;
        found = fscanf(file, "%31s", address) == 1 && strcasecmp(address, mac) == 0;
        fclose(file);
        if (found)
            snprintf(name, IFNAMSIZ, "%.15s", entry->d_name);
    }
    if (interfaces != NULL)
        closedir(interfaces);
    return found;
}

int network_name(const char *mac, const char *name, int wait_ms) {
    char found[IFNAMSIZ];
    for (int waited = 0; !find_interface(mac, found); waited += PAUSE_MS) {
        if (waited >= wait_ms) {
            errno = ENODEV;
            return -1;
        }
        usleep(PAUSE_MS * 1000);
    }
    if (strcmp(found, name) == 0)
        return 0;
    struct ifreq change = request(found);
    snprintf(change.ifr_newname, sizeof change.ifr_newname, "%s", name);
    return call(SIOCSIFNAME, &change);
}

int network_up(const char *interface) {
    struct ifreq flags = request(interface);
    if (call(SIOCGIFFLAGS, &flags) < 0)
        return -1;
    flags.ifr_flags |= IFF_UP;
    return call(SIOCSIFFLAGS, &flags);
}

int network_address(const char *interface, const char *cidr) {
    char text[64];
    struct ifreq address = request(interface), mask = request(interface);
    snprintf(text, sizeof text, "%s", cidr);
    char *slash = strchr(text, '/');
    int bits = slash == NULL ? 32 : atoi(slash + 1);
    if (slash != NULL)
        *slash = 0;
    if (bits < 0 || bits > 32) {
        errno = EINVAL;
        return -1;
    }
    uint32_t value = bits == 0 ? 0 : htonl(0xffffffffu << (32 - bits));
    if (set_in(&address.ifr_addr, text, 0) < 0 || set_in(&mask.ifr_netmask, NULL, value) < 0)
        return -1;
    return call(SIOCSIFADDR, &address) < 0 ? -1 : call(SIOCSIFNETMASK, &mask);
}

int network_gateway(const char *address) {
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    set_in(&route.rt_dst, NULL, 0);
    set_in(&route.rt_genmask, NULL, 0);
    return set_in(&route.rt_gateway, address, 0) < 0 ? -1 : call(SIOCADDRT, &route);
}

int network_mtu(const char *interface, int mtu) {
    struct ifreq size = request(interface);
    size.ifr_mtu = mtu;
    return call(SIOCSIFMTU, &size);
}
