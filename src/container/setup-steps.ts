/*
 * The agent's steps that set the container up in a booted microVM, in order (docs/agent.md lists all steps). The root
 * is an overlay of a tmpfs over the read-only image. The agent enters it, so every later path, with its symbolic links,
 * means the same as for the payload.
 */

/** "name" or "name?" (may fail), and its fields separated by tabs. */
export type SetupStep = readonly [step: string, fields: string];

/** One interface of the container's. Without an address the payload configures it. */
export interface GuestNetwork {
	/** Address and prefix length, "10.0.2.15/24"; none when missing. */
	address?: string;
	/** Address of the default route's gateway, "10.0.2.2"; no such route when missing. The first interface's counts. */
	gateway?: string;
	/** Addresses of name servers, for /etc/resolv.conf. */
	dns: readonly string[];
	/** Domains in which the resolver looks for a name, for /etc/resolv.conf. */
	dnsSearch?: readonly string[];
	/** The resolver's options, for the same file: "ndots:2". */
	dnsOptions?: readonly string[];
	/** Largest IP packet in bytes; 1500 when missing. */
	mtu?: number;
}

/** What the user may say about the system that a container's processes find. */
export interface SystemOptions {
	/** Nothing of /proc and /sys is masked or read-only. */
	privileged?: boolean;
	/** The root file system cannot be written, only what is mounted in it. */
	readOnlyRoot?: boolean;
	/** Empty file systems in RAM. */
	tmpfs?: readonly TmpfsMount[];
	/** Bytes of /dev/shm; 64 MiB when missing. */
	shmSizeBytes?: number;
	/** Kernel parameters by name, "net.ipv4.ip_forward" or with slashes, and their values. */
	sysctls?: Readonly<Record<string, string>>;
	/** More lines of /etc/hosts. */
	extraHosts?: readonly ExtraHost[];
	/** Limits of the container's control group by file name: { "pids.max": "100" }. */
	cgroupLimits?: Readonly<Record<string, string>>;
}

/** An empty file system in RAM. */
export interface TmpfsMount {
	/** Absolute path in the container. */
	target: string;
	/** "size=64m,mode=1770,exec", added to noexec,nosuid,nodev. */
	options?: string;
}

/** A line of /etc/hosts. */
export interface ExtraHost {
	/** Host name. */
	name: string;
	/** IPv4 or IPv6. */
	address: string;
}

export interface ContainerSystem extends SystemOptions {
	/** Serial number of the disk with the image, and its file system. */
	rootDisk: string;
	fstype: string;
	/** Serial number of the disk that keeps what the container writes, an ext4; a tmpfs keeps it when missing. */
	writableDisk?: string;
	hostname: string;
	/** Its interfaces besides loopback: eth0, eth1 and so on. */
	networks?: readonly GuestNetwork[];
	/** Made if it is not there. */
	workdir?: string;
	/** Steps that mount more and make devices, before the root becomes read-only. */
	mounts?: readonly SetupStep[];
	/** Its control group; CGROUP when missing. */
	cgroup?: string;
	/**
	 * It joins a machine that others run in: the network is set up, and its disk is mounted in its own namespace alone, so
	 * that the disk can go when the container has ended. False when missing.
	 */
	joins?: boolean;
}

/** The container's control group, below /sys/fs/cgroup of the agent's own root. */
export const CGROUP = "container";
/** What the overlay needs: the container's files, and a scratch directory. */
const WRITABLE_DIRECTORIES: readonly SetupStep[] = [
	["directory", "/run/writable/upper\t755"],
	["directory", "/run/writable/work\t755"],
];
const SHM_BYTES = 64 << 20;

/** What Docker hides from a container. */
const MASKED = [
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/devices/virtual/powercap",
	"/sys/firmware",
];

/** What Docker lets it only read. */
const READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

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
		...cgroupSteps(system),
		...rootSteps(system),
		...kernelFileSystems(system),
		...deviceSteps(system),
		...identitySteps(system),
		...networkSteps(system),
		...sysctlSteps(system),
		...mountSteps(system),
		...protectionSteps(system),
	];
}

function mount(type: string, source: string, target: string, options: string): SetupStep {
	return ["mount", [type, source, target, options].join("\t")];
}

/** A kernel without control groups will do, unless it is to limit something. */
function cgroupSteps({ cgroupLimits = {}, cgroup = CGROUP }: ContainerSystem): SetupStep[] {
	const limits = Object.entries(cgroupLimits).map(([file, value]) => `${file}=${value}`);
	return [
		["namespaces", "uts,ipc,cgroup"],
		[limits.length > 0 ? "cgroup" : "cgroup?", [cgroup, ...limits].join("\t")],
	];
}

/**
 * The steps in the agent's own root, before those of the container. A disk for what it writes stays mounted there when
 * the container has ended: the host can read it, and the agent unmounts it at power-off.
 */
export function machineSteps({ writableDisk }: { writableDisk?: string | undefined }): SetupStep[] {
	if (writableDisk === undefined) return [];
	/* discard: what the container deletes gives room back on the host. */
	return [mount("ext4", `id:${writableDisk}`, "/run/writable", "discard"), ...WRITABLE_DIRECTORIES];
}

function rootSteps({ rootDisk, fstype, writableDisk, joins = false }: ContainerSystem): SetupStep[] {
	return [
		mount(fstype, `id:${rootDisk}`, "/run/image", "ro"),
		...(writableDisk === undefined
			? [mount("tmpfs", "tmpfs", "/run/writable", "mode=755"), ...WRITABLE_DIRECTORIES]
			: []),
		...(joins ? machineSteps({ writableDisk }) : []),
		mount(
			"overlay",
			"overlay",
			"/run/root",
			"lowerdir=/run/image,upperdir=/run/writable/upper,workdir=/run/writable/work",
		),
		["switch", "/run/root"],
	];
}

function kernelFileSystems({ privileged = false }: ContainerSystem): SetupStep[] {
	const readable = privileged ? "nosuid,nodev,noexec" : "nosuid,nodev,noexec,ro";
	return [
		mount("proc", "proc", "/proc", "nosuid,nodev,noexec"),
		mount("sysfs", "sysfs", "/sys", readable),
		["mount?", `cgroup2\tcgroup\t/sys/fs/cgroup\t${readable}`],
	];
}

function deviceSteps({ shmSizeBytes = SHM_BYTES }: ContainerSystem): SetupStep[] {
	return [
		mount("tmpfs", "dev", "/dev", "nosuid,noexec,mode=755,size=65536k"),
		...NODES.map(([name, major, minor]): SetupStep => ["node", `/dev/${name}\t666\t${major}\t${minor}`]),
		mount("devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
		mount("tmpfs", "shm", "/dev/shm", `nosuid,nodev,noexec,mode=1777,size=${shmSizeBytes}`),
		["mount?", "mqueue\tmqueue\t/dev/mqueue\tnosuid,nodev,noexec"],
		["link", "pts/ptmx\t/dev/ptmx"],
		["link", "/proc/self/fd\t/dev/fd"],
		["link", "/proc/self/fd/0\t/dev/stdin"],
		["link", "/proc/self/fd/1\t/dev/stdout"],
		["link", "/proc/self/fd/2\t/dev/stderr"],
	];
}

function identitySteps({ hostname, networks = [], extraHosts = [] }: ContainerSystem): SetupStep[] {
	const addresses = networks.flatMap(({ address }) => address?.split("/")[0] ?? []);
	const hosts = [
		"127.0.0.1\tlocalhost",
		"::1\tlocalhost ip6-localhost ip6-loopback",
		...extraHosts.map((host) => `${host.address}\t${host.name}`),
		...addresses.map((address) => `${address}\t${hostname}`),
	];
	return [
		["hostname", hostname],
		["file", `/etc/hostname\t644\t${hostname}\n`],
		["file", `/etc/hosts\t644\t${hosts.join("\n")}\n`],
	];
}

function networkSteps({ networks = [], joins = false }: ContainerSystem): SetupStep[] {
	return [...resolverSteps(networks), ...(joins ? [] : interfaceSteps(networks))];
}

/** The machine's network, which all its containers share. */
export function interfaceSteps(networks: readonly GuestNetwork[] = []): SetupStep[] {
	const gateway = networks.find((network) => network.gateway !== undefined)?.gateway;
	return [
		["sysctl?", "net/ipv4/ping_group_range\t0 2147483647"],
		["sysctl?", "net/ipv4/ip_unprivileged_port_start\t0"],
		["up", "lo"],
		...networks.flatMap((network, index): SetupStep[] => [
			["wait", `/sys/class/net/eth${index}`],
			...addressSteps(`eth${index}`, network),
		]),
		...gatewaySteps(gateway),
	];
}

/** Configures an interface that is there. */
export function addressSteps(name: string, { address, mtu }: GuestNetwork): SetupStep[] {
	const steps: SetupStep[] = [];
	/* May fail: the device may not take so large a frame, and the ordinary size works, too. */
	if (mtu !== undefined) steps.push(["mtu?", `${name}\t${mtu}`]);
	if (address !== undefined) steps.push(["address", `${name}\t${address}`]);
	return [...steps, ["up", name]];
}

/** The default route; none without a gateway. */
export function gatewaySteps(gateway: string | undefined): SetupStep[] {
	return gateway === undefined ? [] : [["gateway", gateway]];
}

/** A resolver asks three servers at most (resolv.conf(5)). */
const MOST_NAME_SERVERS = 3;

/** /etc/resolv.conf; the image's own when the networks have nothing to say. */
export function resolverSteps(networks: readonly GuestNetwork[]): SetupStep[] {
	const all = (list: (network: GuestNetwork) => readonly string[] | undefined) => [
		...new Set(networks.flatMap((network) => list(network) ?? [])),
	];
	const search = all(({ dnsSearch }) => dnsSearch);
	const options = all(({ dnsOptions }) => dnsOptions);
	const lines = [
		...all(({ dns }) => dns)
			.slice(0, MOST_NAME_SERVERS)
			.map((address) => `nameserver ${address}\n`),
		...(search.length > 0 ? [`search ${search.join(" ")}\n`] : []),
		...(options.length > 0 ? [`options ${options.join(" ")}\n`] : []),
	];
	return lines.length === 0 ? [] : [["file", `/etc/resolv.conf\t644\t${lines.join("")}`]];
}

function sysctlSteps({ sysctls = {} }: ContainerSystem): SetupStep[] {
	const path = (name: string) => (name.includes("/") ? name : name.replaceAll(".", "/"));
	return Object.entries(sysctls).map(([name, value]): SetupStep => ["sysctl", `${path(name)}\t${value}`]);
}

function mountSteps({ tmpfs = [], mounts = [], workdir }: ContainerSystem): SetupStep[] {
	return [
		...tmpfs.map(({ target, options }) =>
			mount(
				"tmpfs",
				"tmpfs",
				target,
				["noexec", "nosuid", "nodev", ...(options === undefined ? [] : [options])].join(),
			),
		),
		...mounts,
		...(workdir === undefined ? [] : [["directory", `${workdir}\t`] as const]),
	];
}

/** Last, because it takes from the steps as well what it takes from the container. */
function protectionSteps({ privileged = false, readOnlyRoot = false }: ContainerSystem): SetupStep[] {
	const steps: SetupStep[] = [];
	if (!privileged) {
		steps.push(
			...MASKED.map((path): SetupStep => ["mask", path]),
			...READ_ONLY.map((path): SetupStep => ["readonly", path]),
		);
	}
	if (readOnlyRoot) steps.push(mount("", "", "/", "remount,bind,ro"));
	return steps;
}
