/* Network interfaces and routes, IPv4, by ioctl (netdevice(7)). All return 0, or -1 with errno. */
#ifndef TSVMM_AGENT_NETWORK_H
#define TSVMM_AGENT_NETWORK_H

/* Waits at most `wait_ms` for the interface with an Ethernet address, "52:54:00:12:34:56", and names it. */
int network_name(const char *mac, const char *name, int wait_ms);
int network_up(const char *interface);
/* `cidr` is "10.0.2.15/24". */
int network_address(const char *interface, const char *cidr);
int network_gateway(const char *address);
int network_mtu(const char *interface, int mtu);

#endif
