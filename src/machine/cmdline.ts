/*
 * The machine's own kernel parameters. The user's follow and win.
 */
import { composeCmdline } from "../boot/cmdline.ts";
import type { CompleteConfig } from "./config.ts";

/* panic=-1: reset at once after a panic, which is how the machine notices it. No i8042 probing beyond the controller
 * that is there for reset; one serial port. pci=conf1 takes configuration mechanism #1 and looks for no host bridge.
 * noearly keeps an AMD kernel from looking for chipset quirks on a hundred missing devices, with two exits each. With
 * pci=off the kernel calls it fatal that it has no access to PCI. */
const OWN = "panic=-1 i8042.noaux i8042.nokbd 8250.nr_uarts=1 pci=conf1,noearly";

/** Serial console (unless there is none), what devices want, then the machine's parameters, then the user's. */
export function kernelCmdline(config: CompleteConfig, cmdline: string | undefined): string {
	const serial = config.console.kind === "none" ? undefined : "console=ttyS0";
	/* The last console= is /dev/console. */
	return composeCmdline(serial, ...config.devices.map(({ cmdline }) => cmdline), OWN, cmdline);
}
