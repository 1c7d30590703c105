/*
 * The order in which a reader meets the pages of the site.
 */
import type { DefaultTheme } from "vitepress";

const page = (text: string, link: string) => ({ text, link });

export const SIDEBAR: DefaultTheme.SidebarItem[] = [
	{
		text: "Begin",
		items: [
			page("What tsvmm is", "/README"),
			page("The tour", "/docs/tour"),
			page("Architecture", "/docs/architecture"),
			page("The hot path", "/docs/hot-path"),
			page("Glossary", "/docs/glossary"),
		],
	},
	{
		text: "Use",
		items: [
			page("Containers", "/docs/containers"),
			page("Registries", "/docs/registries"),
			page("Disks", "/docs/disks"),
			page("Shared directories", "/docs/virtio-fs"),
			page("Snapshots", "/docs/snapshots"),
			page("Tracing", "/docs/tracing"),
			page("Debugging", "/docs/debugging"),
			page("podman and containerd", "/docs/oci"),
			page("Kubernetes", "/docs/kubernetes"),
			page("The inspector", "/docs/inspector"),
			page("The lab", "/docs/lab"),
		],
	},
	{
		text: "Build",
		items: [
			page("Contributing", "/CONTRIBUTING"),
			page("Device experiments", "/docs/device-experiments"),
			page("A disk of one's own", "/docs/exercises/own-disk"),
			page("A device of one's own", "/docs/exercises/own-rng"),
			page("The API", "/docs/api"),
		],
	},
	{
		text: "Learn",
		items: [
			page("Ten labs", "/docs/labs/README"),
			page("1 Hello from /dev/kvm", "/docs/labs/01-hello/README"),
			page("2 Exits and port I/O", "/docs/labs/02-ports/README"),
			page("3 A serial port", "/docs/labs/03-serial/README"),
			page("4 Long mode and page tables", "/docs/labs/04-long-mode/README"),
			page("5 Load a Linux kernel", "/docs/labs/05-kernel/README"),
			page("6 A virtqueue", "/docs/labs/06-virtqueue/README"),
			page("7 A block device", "/docs/labs/07-disk/README"),
			page("8 Interrupts and ioeventfd", "/docs/labs/08-interrupts/README"),
			page("9 Vsock and an agent", "/docs/labs/09-agent/README"),
			page("10 A container in a VM", "/docs/labs/10-wall/README"),
		],
	},
	{
		text: "Look up",
		items: [
			page("Errors", "/docs/errors"),
			page("Limitations", "/docs/limitations"),
			page("Performance", "/docs/performance"),
			page("The agent's protocol", "/docs/agent"),
			page("Root file systems", "/docs/root-file-system"),
			page("Security", "/SECURITY"),
			page("Changes", "/CHANGELOG"),
		],
	},
];
