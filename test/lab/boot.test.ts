/*
 * Stock and minimal kernels under tsvmm, each with one and with four vCPUs, and with little and with much memory. Also
 * the other ways to boot, consoles and entropy.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type KernelChoice, Linux, testKernel } from "./linux.ts";

let linux: Linux;

beforeAll(async () => {
	linux = await Linux.up();
});
afterAll(async () => {
	await linux?.down();
});

/**
 * A guest reports facts, one in a line. It searches dmesg itself, because a serial console in the lab is slow. On each
 * CPU a busy loop runs that is bound to it, and at its end prints the number of its CPU.
 */
const SELF = `
dmesg -n 1
echo nproc $(nproc)
read -r name kib unit </proc/meminfo; echo memory $kib
echo clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
echo time $(date +%s)
echo release $(uname -r)
for device in /sys/bus/virtio/devices/*; do
	driver=$(readlink $device/driver) && echo driver \${driver##*/}
done
busy() { i=0; while [ $i -lt 300 ]; do i=$((i + 1)); done; set -- $(cat /proc/self/stat); echo ran $1 on \${39}; }
n=$(nproc); c=0
while [ $c -lt $n ]; do (read -r pid rest </proc/self/stat; taskset -p -c $c $pid >/dev/null; busy $c); c=$((c + 1)); done
echo online $(cat /sys/devices/system/cpu/online)
echo timers $(grep LOC: /proc/interrupts)
dmesg | grep -E 'WARNING|BUG|Firmware Bug|Oops|Call Trace|Unable to|rror|Fatal' | sed 's/^/dmesg /'
`;

/** Warnings in dmesg that are not the machine's fault. */
const KNOWN = [
	/* Advice on the CPU's speculation, by its model. */
	/: WARNING: (?:See https|.*(?:SMT|microcode|eIBRS))/,
	/RAS: Correctable Errors collector initialized/,
];

function lines(output: string, name: string): string[] {
	return output
		.split("\n")
		.filter((line) => line.startsWith(`${name} `))
		.map((line) => line.slice(name.length + 1));
}

/** MemTotal is less than the RAM: the kernel takes its image, and 1/64 of the RAM for struct page. */
function expectMemory(output: string, memoryMiB: number): void {
	const mib = Number(lines(output, "memory")[0]) / 1024;
	expect(mib).toBeLessThanOrEqual(memoryMiB);
	expect(mib).toBeGreaterThan(memoryMiB * 0.955 - 48);
}

const KERNELS: KernelChoice[] = ["6.1-cloud", "6.12-cloud", "minimal"];
const matrix = KERNELS.flatMap((kernel) =>
	[1, 4].flatMap((cpus) => [128, 6144].map((memoryMiB) => ({ kernel, cpus, memoryMiB }))),
);

describe("tsvmm boot", () => {
	test.each(matrix)("boots $kernel with $cpus vCPUs and $memoryMiB MiB", async ({ kernel, cpus, memoryMiB }) => {
		const args = ["--rng", "--vsock", "cid=3,uds=/run/boot-test.sock"];
		const { output, stderr, stdout } = await linux.check({ kernel, cpus, memoryMiB, script: SELF, args });
		expect(stderr).toBe("tsvmm: guest powered off\n");
		expect(lines(output, "nproc")).toEqual([`${cpus}`]);
		expectMemory(output, memoryMiB);
		expect(lines(output, "clocksource")[0]).toMatch(/^(?:kvm-clock|tsc)$/);
		expect(Math.abs(Number(lines(output, "time")[0]) - Date.now() / 1000)).toBeLessThan(60);
		expect(lines(output, "release")).toEqual([(await testKernel(kernel)).release]);
		expect(lines(output, "driver").sort()).toEqual(["virtio_blk", "virtio_rng", "vmw_vsock_virtio_transport"]);
		const ran = lines(output, "ran").map((line) => line.split(" on ")[1]);
		expect(ran).toEqual(Array.from({ length: cpus }, (_, cpu) => `${cpu}`));
		expect(lines(output, "online")).toEqual([cpus === 1 ? "0" : `0-${cpus - 1}`]);
		const timers = lines(output, "timers")[0]!
			.split(" ")
			.slice(1, 1 + cpus);
		expect(
			timers.map(Number).every((count) => count > 0),
			`each CPU's timer: ${timers}`,
		).toBe(true);
		const complaints = lines(output, "dmesg").filter((line) => !KNOWN.some((known) => known.test(line)));
		expect(complaints).toEqual([]);
		expect(stdout.split("@@script@@")[0]).not.toContain("cannot load");
	});

	test("boots a bzImage", async () => {
		const { stderr } = await linux.check({ kernel: "6.1-cloud", bzImage: true, script: "true" });
		expect(stderr).toBe("tsvmm: guest powered off\n");
	});

	test("boots with acpi=off, with disk and processors found by command line and MP table", async () => {
		const script = "nproc; grep -c virtio_mmio.device= /proc/cmdline; ls /sys/firmware";
		const { output, stderr } = await linux.check({ kernel: "minimal", cpus: 2, cmdline: "acpi=off", script });
		const [nproc, devices, firmware] = output.split("\n");
		expect([nproc, devices]).toEqual(["2", "1"]);
		expect(firmware).not.toContain("acpi");
		expect(stderr).toBe("tsvmm: guest asked for a reset\n");
	});

	test("brings 32 vCPUs up", async () => {
		const script = "nproc; cat /sys/devices/system/cpu/online; grep -c ^processor /proc/cpuinfo";
		const { output } = await linux.check({ kernel: "minimal", cpus: 32, memoryMiB: 256, script });
		expect(output.split("\n").slice(0, 3)).toEqual(["32", "0-31", "32"]);
	});
});

describe("the serial console", () => {
	test("none: the guest runs without one", async () => {
		const disk = join(linux.directory, "none.img");
		await linux.sh(`truncate -s 4096 ${disk}`);
		const script = "cat /proc/cmdline >/dev/vda; sync";
		const result = await linux.boot({ kernel: "minimal", disks: [disk], script, args: ["--console", "none"] });
		expect(result).toMatchObject({ status: 0, stdout: "", stderr: "tsvmm: guest powered off\n" });
		const cmdline = readFileSync(disk, "latin1");
		expect(cmdline).toContain("panic=-1");
		expect(cmdline).not.toContain("console=");
	});

	test("file: what the guest prints goes into the file", async () => {
		const path = join(linux.directory, "console.log");
		const args = ["--console", `file=${path}`];
		const { status, stdout } = await linux.boot({ kernel: "minimal", script: "echo in the file", args });
		expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
		expect(existsSync(path)).toBe(true);
		expect(readFileSync(path, "latin1")).toContain("@@script@@\r\nin the file\r\n\r\n@@status 0@@\r\n");
	});

	test("stdio: what is typed reaches a shell in the guest", async () => {
		const script = "echo ready; setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1";
		const guest = await linux.spawn({ kernel: "minimal", script });
		await guest.shows("ready\n");
		guest.type("echo $((6 * 7)) of $(tty)\n");
		await guest.shows("\n42 of /dev/ttyS0\n");
		guest.type("exit 3\n");
		expect(await guest.ended()).toMatchObject({ status: 0, scriptStatus: 3 });
	});
});

describe("virtio devices under Linux", () => {
	test("virtio-console: hvc0 is the console, and takes input", async () => {
		const script = "cat /sys/class/tty/console/active; echo ready; read -r line; echo heard $line";
		const guest = await linux.spawn({ kernel: "minimal", script, args: ["--virtio-console"] });
		await guest.shows("ready\n");
		guest.type("hello there\n");
		const { output, status, scriptStatus } = await guest.ended();
		expect({ status, scriptStatus }).toEqual({ status: 0, scriptStatus: 0 });
		expect(output).toContain("hvc0\nready\n");
		expect(output).toContain("heard hello there\n");
	});

	test("virtio-rng: /dev/hwrng gives bytes that differ", async () => {
		const script = `
cat /sys/class/misc/hw_random/rng_current
for i in 1 2; do dd if=/dev/hwrng bs=4096 count=16 iflag=fullblock 2>/dev/null | tee /tmp/$i | wc -c; done
cmp -s /tmp/1 /tmp/2 && echo equal
gzip -c /tmp/1 | wc -c
`;
		const { output } = await linux.check({ kernel: "minimal", script, args: ["--rng"] });
		const [current, first, second, packed] = output.split("\n");
		expect([current, first, second]).toEqual(["virtio_rng.0", "65536", "65536"]);
		expect(Number(packed)).toBeGreaterThan(65536);
	});
});
