/*
 * The agent's steps that set the container up in a booted microVM, in order (docs/agent.md lists all steps). The root
 * is an overlay of a tmpfs over the read-only image. The agent enters it, so every later path, with its symbolic links,
 * means the same as for the payload.
 */

/** "name" or "name?" (may fail), and its fields separated by tabs. */
export type SetupStep = readonly [step: string, fields: string];

/** The container's only interface besides loopback. Without an address the payload configures it. */
export interface GuestNetwork {
	/** Address and prefix length, "10.0.2.15/24"; none when missing. */
	address?: string;
	/** Address of the default route's gateway, "10.0.2.2"; no such route when missing. */
	gateway?: string;
	/** Addresses of name servers, for /etc/resolv.conf. */
	dns: readonly string[];
	/** Largest IP packet in bytes; 1500 when missing. */
	mtu?: number;
}

export interface ContainerSystem {
	/** Serial number of the disk with the image, and its file system. */
	rootDisk: string;
	fstype: string;
	hostname: string;
	network?: GuestNetwork;
}

const NODES: [name: string, major: number, minor: number][] = [
	["null", 1, 3],
	["zero", 1, 5],
	["full", 1, 7],
	["random", 1, 8],
	["urandom", 1, 9],
	["tty", 5, 0],
];

/** The steps, complete and in order. */
export function setupSteps(system: ContainerSystem): SetupStep[] {
	return [
		...rootSteps(system),
		...kernelFileSystems(),
		...deviceSteps(),
		...identitySteps(system),
		...networkSteps(system),
	];
}

function mount(type: string, source: string, target: string, options: string): SetupStep {
	return ["mount", [type, source, target, options].join("\t")];
}

function rootSteps({ rootDisk, fstype }: ContainerSystem): SetupStep[] {
	return [
		mount(fstype, `id:${rootDisk}`, "/run/image", "ro"),
		mount("tmpfs", "tmpfs", "/run/writable", "mode=755"),
		["directory", "/run/writable/upper\t755"],
		["directory", "/run/writable/work\t755"],
		mount(
			"overlay",
			"overlay",
			"/run/root",
			"lowerdir=/run/image,upperdir=/run/writable/upper,workdir=/run/writable/work",
		),
		["switch", "/run/root"],
	];
}

function kernelFileSystems(): SetupStep[] {
	return [
		mount("proc", "proc", "/proc", "nosuid,nodev,noexec"),
		mount("sysfs", "sysfs", "/sys", "nosuid,nodev,noexec"),
		["mount?", "cgroup2\tcgroup\t/sys/fs/cgroup\tnosuid,nodev,noexec"],
	];
}

function deviceSteps(): SetupStep[] {
	return [
		mount("tmpfs", "dev", "/dev", "nosuid,noexec,mode=755,size=65536k"),
		...NODES.map(([name, major, minor]): SetupStep => ["node", `/dev/${name}\t666\t${major}\t${minor}`]),
		mount("devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
		mount("tmpfs", "shm", "/dev/shm", "nosuid,nodev,noexec,mode=1777,size=65536k"),
		["mount?", "mqueue\tmqueue\t/dev/mqueue\tnosuid,nodev,noexec"],
		["link", "pts/ptmx\t/dev/ptmx"],
		["link", "/proc/self/fd\t/dev/fd"],
		["link", "/proc/self/fd/0\t/dev/stdin"],
		["link", "/proc/self/fd/1\t/dev/stdout"],
		["link", "/proc/self/fd/2\t/dev/stderr"],
	];
}

function identitySteps({ hostname, network }: ContainerSystem): SetupStep[] {
	const address = network?.address?.split("/")[0];
	const hosts = [
		"127.0.0.1\tlocalhost",
		"::1\tlocalhost ip6-localhost ip6-loopback",
		...(address === undefined ? [] : [`${address}\t${hostname}`]),
	];
	return [
		["hostname", hostname],
		["file", `/etc/hostname\t644\t${hostname}\n`],
		["file", `/etc/hosts\t644\t${hosts.join("\n")}\n`],
	];
}

function networkSteps({ network }: ContainerSystem): SetupStep[] {
	const steps: SetupStep[] = [
		["sysctl?", "net/ipv4/ping_group_range\t0 2147483647"],
		["sysctl?", "net/ipv4/ip_unprivileged_port_start\t0"],
		["up", "lo"],
	];
	if (network === undefined) return steps;
	const { address, gateway, dns, mtu } = network;
	if (dns.length > 0)
		steps.push(["file", `/etc/resolv.conf\t644\t${dns.map((one) => `nameserver ${one}\n`).join("")}`]);
	steps.push(["wait", "/sys/class/net/eth0"]);
	/* May fail: the device may not take so large a frame, and the ordinary size works, too. */
	if (mtu !== undefined) steps.push(["mtu?", `eth0\t${mtu}`]);
	if (address !== undefined) steps.push(["address", `eth0\t${address}`]);
	steps.push(["up", "eth0"]);
	if (gateway !== undefined) steps.push(["gateway", gateway]);
	return steps;
}
