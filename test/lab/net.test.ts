/*
 * Networks of Linux guests in the lab. For each kernel a guest has a tap and passt side by side, and sends and receives
 * 10 MiB by HTTP over both. Also what happens to them when tsvmm fails, ends or is killed.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { GuestShell } from "./guest-shell.ts";
import { type KernelChoice, Linux } from "./linux.ts";

const MAC = "52:54:00:ab:cd:ef";
const TAP_HOST = "192.168.77.1";
const TAP_GUEST = "192.168.77.2";
/** Of passt: src/backends/passt.ts. */
const USER_GATEWAY = "10.0.2.2";
const FILE_MIB = 10;
const SIGKILL = 9;
const TSVMM = [process.execPath, `${packageRoot()}/dist/tsvmm.js`];

/** Bits of virtio 1.2 §5.1.3: CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, HOST_TSO4, HOST_TSO6, HOST_ECN. */
const OFFLOADS = [0, 1, 7, 8, 9, 11, 12, 13];

let linux: Linux;
/** SHA-256 of what the lab serves at port 8000. */
let hash: string;

beforeAll(async () => {
	linux = await Linux.up("net");
	await linux.sh(`
		mkdir -p /run/www
		head -c ${FILE_MIB}M /dev/urandom >/run/www/file
		busybox httpd -p 8000 -h /run/www
		ip tuntap add tap0 mode tap
		ip addr add ${TAP_HOST}/24 dev tap0
		ip link set tap0 up`);
	hash = hashIn(await linux.sh("sha256sum /run/www/file"));
});
afterAll(async () => {
	await linux?.down();
});

function hashIn(text: string): string {
	return /\b[0-9a-f]{64}\b/.exec(text)?.[0] ?? text;
}

/** Statistics of an interface of the lab, such as the bytes of a tap. */
async function counter(name: string, what: string): Promise<number> {
	return Number(await linux.sh(`cat /sys/class/net/${name}/statistics/${what}`));
}

/** A guest with tap0 as eth0 and passt as eth1. */
async function twoNetworks(kernel: KernelChoice): Promise<GuestShell> {
	const guest = await GuestShell.start(linux, {
		kernel,
		memoryMiB: 256,
		args: ["--net", `tap=tap0,mac=${MAC}`, "--net", "user,host-loopback=on,port=127.0.0.1:8081:80"],
	});
	await guest.sh(`ip addr add ${TAP_GUEST}/24 dev eth0; ip link set eth0 up`);
	await guest.sh("ip addr add 10.0.2.15/24 dev eth1; ip link set eth1 up; ip route add default via 10.0.2.2");
	await guest.sh("httpd -p 80 -h /tmp");
	return guest;
}

describe.each(["minimal", "6.12-cloud"] as const)("virtio-net under Linux %s", (kernel) => {
	let guest: GuestShell;
	beforeAll(async () => {
		guest = await twoNetworks(kernel);
	});
	afterAll(async () => {
		expect((await guest.stop()).status).toBe(0);
	});

	it("gives each interface its address, and a tap's guest the offloads", async () => {
		const addresses = await guest.sh("cat /sys/class/net/eth0/address /sys/class/net/eth1/address");
		expect(addresses).toBe(`${MAC}\n52:54:0a:00:02:0f\n`);
		const [tap, user] = (await guest.sh("cat /sys/class/net/eth?/device/features")).trim().split("\n");
		expect(OFFLOADS.map((bit) => tap![bit])).toEqual(OFFLOADS.map(() => "1"));
		expect(OFFLOADS.map((bit) => user![bit])).toEqual(OFFLOADS.map(() => "0"));
	});
	it("answers pings over tap, both ways, and over passt", async () => {
		expect(await guest.sh(`ping -c 3 -i 0.2 ${TAP_HOST}`)).toContain("3 packets received");
		expect(await linux.sh(`ping -c 3 -i 0.2 ${TAP_GUEST}`)).toContain("3 received");
		expect(await guest.sh(`ping -c 3 -i 0.2 ${USER_GATEWAY}`)).toContain("3 packets received");
	});
	it(`downloads ${FILE_MIB} MiB by HTTP over tap, in segments larger than a frame`, async () => {
		const before = [await counter("tap0", "tx_bytes"), await counter("tap0", "tx_packets")];
		await guest.sh(`wget -q -O /tmp/tap http://${TAP_HOST}:8000/file`);
		const bytes = (await counter("tap0", "tx_bytes")) - before[0]!;
		const frames = (await counter("tap0", "tx_packets")) - before[1]!;
		expect(bytes / frames).toBeGreaterThan(3000);
		expect(hashIn(await guest.sh("sha256sum /tmp/tap"))).toBe(hash);
	});
	it(`uploads ${FILE_MIB} MiB by HTTP over tap, in segments larger than a frame`, async () => {
		const before = [await counter("tap0", "rx_bytes"), await counter("tap0", "rx_packets")];
		const got = await linux.sh(`busybox wget -q -O - http://${TAP_GUEST}/tap | sha256sum`);
		const bytes = (await counter("tap0", "rx_bytes")) - before[0]!;
		const frames = (await counter("tap0", "rx_packets")) - before[1]!;
		expect(bytes / frames).toBeGreaterThan(3000);
		expect(hashIn(got)).toBe(hash);
	});
	it(`downloads and uploads ${FILE_MIB} MiB by HTTP over passt`, async () => {
		await guest.sh(`wget -q -O /tmp/user http://${USER_GATEWAY}:8000/file`);
		expect(hashIn(await guest.sh("sha256sum /tmp/user"))).toBe(hash);
		expect(hashIn(await linux.sh("busybox wget -q -O - http://127.0.0.1:8081/user | sha256sum"))).toBe(hash);
	});
});

describe("tsvmm boot --net", () => {
	it("says what is wrong with a tap that is missing, a tap that is busy and a port that is in use", async () => {
		const guest = await twoNetworks("minimal");
		const refused = async (net: string) => {
			const { status, stderr } = await linux.boot({ kernel: "minimal", script: "true", args: ["--net", net] });
			expect(status).not.toBe(0);
			return stderr;
		};
		expect(await refused("tap=tap9")).toContain("Cannot use tap tap9: there is no such interface");
		expect(await refused("tap=tap0")).toContain("Cannot use tap tap0: another process is attached to it");
		expect(await refused("user,port=8081:80")).toContain("Cannot forward tcp port 8081: the port is in use");
		expect((await guest.stop()).status).toBe(0);
	});
	it("leaves no passt, port or tap attached when the guest ends, or tsvmm is killed", async () => {
		const left = async () => await linux.sh("pgrep '^passt'; ss -Hltn sport = :8081; cat /sys/class/net/tap0/carrier");
		expect(await left()).toBe("0\n");
		const guest = await twoNetworks("minimal");
		expect(await left()).toMatch(/^\d+\nLISTEN .*127\.0\.0\.1:8081 .*\n1\n$/);
		guest.signal(SIGKILL);
		expect((await guest.ended()).status).toBe(128 + SIGKILL);
		await linux.sh("for i in $(seq 50); do pgrep '^passt' >/dev/null || exit 0; sleep 0.1; done; exit 1");
		expect(await left()).toBe("0\n");
	});
});

describe("tsvmm run", () => {
	it("gives a container a network with names, and publishes its ports", async () => {
		const image = await ensureDemoImage("busybox");
		const script = `cat /etc/resolv.conf; wget -q -O /file http://${USER_GATEWAY}:8000/file; httpd -p 80 -h /; echo up; cat`;
		const flags = ["-q", "-i", "--net", "user,host-loopback=on", "-p", "8082:80"];
		const container = await linux.lab.spawn([...TSVMM, "run", ...flags, image, "sh", "-c", script]);
		let output = "";
		for await (const chunk of container.stdout) {
			output += chunk;
			if (output.endsWith("up\n")) break;
		}
		expect(output).toBe("nameserver 10.0.2.3\nup\n");
		expect(hashIn(await linux.sh("busybox wget -q -O - http://127.0.0.1:8082/file | sha256sum"))).toBe(hash);
		container.stdin.end();
		expect(await container.exit).toEqual({ code: 0 });
	});
	it("keeps a container away from the loopback of its host", async () => {
		const image = await ensureDemoImage("busybox");
		/* The test above gets this file with host-loopback=on. */
		const script = `wget -q -T 5 -O - http://${USER_GATEWAY}:8000/file | sha256sum`;
		const { stdout } = await linux.lab.exec([...TSVMM, "run", "-q", image, "sh", "-c", script]);
		const nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
		expect(String(stdout)).toBe(`${nothing}  -\n`);
	});
	it("gives a container on a tap the address and gateway it is told", async () => {
		const image = await ensureDemoImage("busybox");
		const flags = ["--net", "tap=tap0", "--ip", `${TAP_GUEST}/24`, "--gateway", TAP_HOST, "--dns", TAP_HOST];
		const script = `ip route; cat /etc/resolv.conf; ping -c 1 -q ${TAP_HOST}`;
		const { status, stdout } = await linux.lab.exec([...TSVMM, "run", "-q", ...flags, image, "sh", "-c", script]);
		expect(status).toBe(0);
		expect(String(stdout)).toContain(`default via ${TAP_HOST} dev eth0`);
		expect(String(stdout)).toContain(`nameserver ${TAP_HOST}\n`);
		expect(String(stdout)).toContain("1 packets received");
	});
});
