/*
 * struct ifreq of <linux/if.h>: an interface by name, and a union of what a request is about (netdevice(7)).
 */
import { array, struct } from "../base/struct.ts";

export const IFNAMSIZ = 16;
/** With the union's member that TUNSETIFF and SIOCSIFFLAGS use; numbers of other requests lie there, too. */
export const ifreq = struct("ifreq", {
	ifr_name: array("u8", IFNAMSIZ),
	ifr_flags: "u16",
	pad: array("u8", 6),
	rest: array("u64", 2),
});
