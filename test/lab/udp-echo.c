/* Answers each datagram to the UDP ports of the command line with the port's number and the datagram. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 8

int main(int argc, char **argv) {
    struct pollfd ports[MOST];
    char text[2048];
    int count = argc - 1 < MOST ? argc - 1 : MOST;
    for (int i = 0; i < count; i++) {
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[i + 1]))};
        ports[i] = (struct pollfd){.fd = socket(AF_INET, SOCK_DGRAM, 0), .events = POLLIN};
        if (bind(ports[i].fd, (struct sockaddr *)&own, sizeof own) < 0)
            return 1;
    }
    for (;;) {
        poll(ports, (nfds_t)count, -1);
        for (int i = 0; i < count; i++) {
            struct sockaddr_in from;
            socklen_t size = sizeof from;
            if ((ports[i].revents & POLLIN) == 0)
                continue;
            int head = snprintf(text, sizeof text, "%s ", argv[i + 1]);
            ssize_t n = recvfrom(ports[i].fd, text + head, sizeof text - (size_t)head, 0,
                                 (struct sockaddr *)&from, &size);
            if (n >= 0)
                sendto(ports[i].fd, text, (size_t)(head + n), 0, (struct sockaddr *)&from, size);
        }
    }
}
