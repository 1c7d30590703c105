/* Broken guests, and what `explain` says of each. They are a few instructions each, or print what a kernel would. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { Faults } from "../../src/base/faults.ts";
import { explain } from "../../src/explain/explanation.ts";
import { explainLive } from "../../src/explain/live.ts";
import { report } from "../../src/explain/report.ts";
import { Story } from "../../src/explain/story.ts";
import type { MachineConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import type { VirtioView } from "../../src/machine/view.ts";
import { eventObserver } from "../../src/trace/recorder.ts";
import { VIRTIO_MMIO } from "../../src/virtio/spec.ts";
import { BASE, COUNT, KEYBOARD_RESET, outb, POLL, RESET, SPIN, TinyKernels, TRIPLE_FAULT } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());

const HLT = [0xf4, 0xeb, 0xfd];
const le32 = (value: number) => [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
/** mov dword [address], value */
const poke = (address: number, value: number) => [0xc7, 0x05, ...le32(address), ...le32(value)];
const register = (name: keyof typeof VIRTIO_MMIO, value: number) => poke(0xd0000000 + VIRTIO_MMIO[name], value);
const status = (...values: number[]) => values.flatMap((value) => register("Status", value));

/* A driver of the entropy device, in slot 0, and a queue of eight in RAM. */
const [DESC, AVAIL, USED, BUFFER] = [BASE + 0x400000, BASE + 0x401000, BASE + 0x402000, BASE + 0x403000];
const NEGOTIATE = [
	...status(0, 1, 3),
	...register("DriverFeaturesSel", 1),
	...register("DriverFeatures", 1),
	...status(0xb),
];
const queueAt = (desc: number) => [
	...register("QueueSel", 0),
	...register("QueueNum", 8),
	...register("QueueDescLow", desc),
	...register("QueueDriverLow", AVAIL),
	...register("QueueDeviceLow", USED),
	...register("QueueReady", 1),
];
const SET_UP = [...NEGOTIATE, ...queueAt(DESC), ...status(0xf)];
/** One chain for 16 random bytes to `gpa`. */
const chainTo = (gpa: number) => [
	...[...poke(DESC, gpa), ...poke(DESC + 4, 0), ...poke(DESC + 8, 16), ...poke(DESC + 12, 2)],
	...[...poke(AVAIL + 4, 0), ...poke(AVAIL, 1 << 16)],
];
const NOTIFY = register("QueueNotify", 0);
/** Pin 16 of the I/O APIC gives vector 0x50, and the local APIC takes it. */
const UNMASK = [...poke(0xfec00000, 0x30), ...poke(0xfec00010, 0x50), ...poke(0xfee000f0, 0x1ff)];

interface Broken {
	text?: string;
	config?: Partial<MachineConfig>;
	/** The guest goes on: it is looked at when this is true. */
	until?: (story: Story) => boolean;
}

/** Runs a guest to its end, or until it stands still. */
async function ran(code: number[], { text = "", config = {}, until }: Broken = {}): Promise<Story> {
	const story = new Story();
	const observer = eventObserver({ event: (event) => story.add(event) });
	const kernel = kernels.write(text, code);
	const machine = await Machine.create({
		kernel,
		memoryMiB: 64,
		rng: true,
		log: { write: () => undefined },
		...config,
		observer,
	});
	machine.start();
	if (until !== undefined) {
		await expect.poll(() => until(story), { timeout: 20_000 }).toBe(true);
		/* What the guest has caused comes in a few more turns. */
		await new Promise((resolve) => setTimeout(resolve, 50));
		await machine.stop();
	}
	await machine.ended;
	return story;
}

const likeliest = (story: Story) => explain(story).findings[0]?.cause;
const touched = (story: Story) => (story.devices.get("virtio-rng0")?.accesses ?? 0) > 0;
const violated = (story: Story) => (story.devices.get("virtio-rng0")?.violations.length ?? 0) > 0;
const served = (story: Story) => story.devices.get("virtio-rng0")?.queues.get(0)?.used === 1;
const ready = (story: Story) => story.devices.get("virtio-rng0")?.readyT !== undefined;

describe("a guest that uses a device wrongly", () => {
	test.each([
		["notifies before DRIVER_OK", "kick-before-driver-ok", [...NEGOTIATE, ...queueAt(DESC), ...NOTIFY]],
		["puts its ring into the hole of MMIO", "bad-ring", [...NEGOTIATE, ...queueAt(0xd0000000)]],
		["gives a descriptor outside RAM", "bad-descriptor", [...SET_UP, ...chainTo(0xd0000000), ...NOTIFY]],
		["does not accept VIRTIO_F_VERSION_1", "bad-features", status(0, 1, 3, 0xb)],
		["sets DRIVER_OK first", "bad-status", status(0, 4)],
	])("%s", async (_, cause, code) => {
		expect(likeliest(await ran([...code, ...HLT], { until: violated }))).toBe(cause);
	});

	test("puts a chain into its queue and never notifies", async () => {
		const story = await ran([...SET_UP, ...chainTo(BUFFER), ...HLT], { until: ready });
		expect(explain(story).findings[0]).toMatchObject({
			cause: "queue-without-kick",
			what: "The driver of rng has put 1 chain into queue 0, and has not notified the device.",
		});
	});

	test("gives up", async () => {
		expect(likeliest(await ran([...status(0, 1, 0x81), ...HLT], { until: touched }))).toBe("driver-failed");
	});
});

describe("a guest that waits for an interrupt", () => {
	const request = [...SET_UP, ...chainTo(BUFFER), ...NOTIFY, ...HLT];

	test("and has not unmasked it", async () => {
		expect(likeliest(await ran(request, { until: served }))).toBe("interrupt-masked");
	});

	test("with interrupts off", async () => {
		const story = await ran([...UNMASK, ...request], { until: served });
		expect(explain(story).findings.map(({ cause }) => cause)).toEqual(
			expect.arrayContaining(["interrupts-off", "halted-for-good"]),
		);
	});

	test("that was lost", async () => {
		const faults = new Faults([{ device: "rng", event: "interrupt", effect: "lost" }], { seed: 1 });
		expect(likeliest(await ran([...UNMASK, ...request], { until: served, config: { faults } }))).toBe("lost-interrupt");
	});
});

describe("a guest that stands still", () => {
	test("in hlt with interrupts off", async () => {
		const story = await ran([...outb(0x80, 1), ...HLT], { until: ({ exitCount }) => exitCount > 0 });
		expect(likeliest(story)).toBe("halted-for-good");
		expect(explain(story).state?.vcpus).toMatchObject([{ vcpu: 0, interruptsEnabled: false }]);
	});

	test("in a loop of its own", async () => {
		const story = await ran([...outb(0x80, 1), ...SPIN], { until: ({ exitCount }) => exitCount > 0 });
		expect(likeliest(story)).toBe("deadlocked-vcpu");
	});

	test("and reads a port for ever", async () => {
		const reads = (story: Story) => (story.places.get("pio 96")?.reads ?? 0) > 1500;
		const story = await ran(POLL, { until: reads });
		expect(likeliest(story)).toBe("spins-on-register");
		expect(explain(story).findings[0]!.what).toContain("data of i8042");
	});

	test("after it has written to a serial port that is not there", async () => {
		const code = [...Buffer.from("hello there")].flatMap((byte) => outb(0x2f8, byte));
		const written = (story: Story) => story.places.get("pio 760")?.writes === 11;
		expect(likeliest(await ran([...code, ...HLT], { until: written }))).toBe("console-elsewhere");
	});

	test("after it has used a device that is not there", async () => {
		const used = (story: Story) => story.places.has(`mmio ${0xe0000000}`);
		const story = await ran([...poke(0xe0000000, 1), ...HLT], { until: used });
		expect(explain(story).findings.map(({ cause }) => cause)).toContain("no-device-there");
	});
});

describe("a guest that ends", () => {
	test.each([
		["by a fault at its first instructions", "wrong-entry", "", TRIPLE_FAULT],
		["by a triple fault", "triple-fault", "hello\n", TRIPLE_FAULT],
		["by a reset", "guest-reset", "hello\n", RESET],
		["by the keyboard controller", "guest-reset", "hello\n", KEYBOARD_RESET],
	])("%s", async (_, cause, text, code) => {
		expect(likeliest(await ran(code, { text }))).toBe(cause);
	});

	test.each([
		["no-root-disk", "VFS: Unable to mount root fs on unknown-block(0,0)"],
		["no-init", "No working init found.  Try passing init= option to kernel."],
		["bad-initrd", "Initramfs unpacking failed: invalid magic at start of compressed archive"],
		["no-memory", "System is deadlocked on memory"],
		["init-ended", "Attempted to kill init! exitcode=0x00000100"],
		["panic", "Fatal exception in interrupt"],
	])("by a panic: %s", async (cause, why) => {
		const text = `[    0.000000] Linux version 6.1\n[    1.000000] Kernel panic - not syncing: ${why}\n`;
		const story = await ran(RESET, { text });
		expect(likeliest(story)).toBe(cause);
		const told = report(explain(story));
		expect(told).toContain(why.split(":")[0]);
		expect(told).toMatch(/^ +\d\.\d{3} s {2}kernel: Linux version 6\.1 \(kernel clock 0\)$/m);
	});

	test.each([
		["missing-driver", 'VFS: Cannot open root device "vda"'],
		["kernel-bug", "BUG: kernel NULL pointer dereference, address: 0000000000000000"],
	])("%s", async (cause, line) => {
		const config = { disks: [{ backend: new MemoryDisk(1 << 20) }] };
		const story = await ran(RESET, { text: `${line}\n`, config: cause === "kernel-bug" ? {} : config });
		expect(likeliest(story)).toBe(cause);
	});
});

describe("a machine that lives", () => {
	/** Looks at a guest that nobody has traced, as soon as `until` is true of its entropy device. */
	async function looked(code: number[], until: (rng: VirtioView) => boolean = () => true, more = {}) {
		const kernel = kernels.write("", code);
		await using machine = await Machine.create({ kernel, memoryMiB: 64, rng: true, ...more });
		machine.start();
		const rng = () => machine.inspect().virtio.find(({ id }) => id === "rng")!;
		await expect.poll(() => until(rng()), { timeout: 20_000 }).toBe(true);
		const explanation = await explainLive(machine, { seconds: 0.3, output: "its last words" });
		expect(machine.state).toBe("running");
		return explanation;
	}
	const waiting = ({ queues }: VirtioView) => queues[0]?.live?.availIdx === 1;

	test("that waits in hlt with interrupts off stands still for good", async () => {
		const { findings, state, look, machine, output } = await looked(HLT);
		expect(findings.map(({ cause }) => cause)).toEqual(["halted-for-good"]);
		expect(state?.vcpus).toMatchObject([{ vcpu: 0, interruptsEnabled: false }]);
		expect([look, machine?.cpus, output]).toEqual([{ seconds: 0.3, state: "running" }, 1, ["its last words"]]);
	});
	test("whose driver has not notified its queue is told so, and what no trace shows is not invented", async () => {
		const explanation = await looked([...SET_UP, ...chainTo(BUFFER), ...HLT], waiting);
		expect(explanation.findings[0]).toMatchObject({ cause: "queue-without-kick" });
		const told = report(explanation);
		expect(told).toContain("64 MiB; running, looked at for 0.3 s: ");
		expect(told).toContain("what was before is not known: --trace-file FILE.jsonl");
		expect(told).toContain("Where it stands\n  vCPU 0 ");
		expect(told).toContain("rng (virtio-rng0): Status ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK");
		expect(told).not.toMatch(/What happened|Slowest phases|never touched/);
	});
	test("whose interrupt was lost is told so", async () => {
		const faults = new Faults([{ device: "rng", event: "interrupt", effect: "lost" }], { seed: 1 });
		const request = [...UNMASK, ...SET_UP, ...chainTo(BUFFER), ...NOTIFY, ...HLT];
		const { findings } = await looked(request, ({ interruptStatus }) => interruptStatus !== 0, { faults });
		expect(findings.map(({ cause }) => cause)).toContain("lost-interrupt");
	});
	test("that jumps to itself is in a loop, and one that computes may be right", async () => {
		expect((await looked(SPIN)).findings.map(({ cause }) => cause)).toEqual(["deadlocked-vcpu"]);
		expect((await looked(COUNT)).findings).toEqual([]);
	});
	test("that is paused stays so, and one that has ended is told of", async () => {
		const kernel = kernels.write("", COUNT);
		const machine = await Machine.create({ kernel, memoryMiB: 64 });
		machine.start();
		await machine.pause();
		const { look, exits } = await explainLive(machine, { seconds: 0.1 });
		expect([machine.state, look?.state, exits]).toEqual(["paused", "paused", []]);
		const ends = explainLive(machine, { seconds: 0.3 });
		setTimeout(() => void machine.stop(), 50);
		expect((await ends).end).toEqual({ reason: "stopped" });
		await expect(explainLive(machine, { seconds: 0 })).rejects.toMatchObject({ code: "ERR_MACHINE_STATE" });
	});
	test("that is being saved is not let go by a look", async () => {
		await using machine = await Machine.create({ kernel: kernels.write("", COUNT), memoryMiB: 64 });
		machine.start();
		const directory = mkdtempSync(join(tmpdir(), "tsvmm-explain-"));
		try {
			const looks = Array.from({ length: 20 }, () => machine.tellState());
			await machine.snapshot(join(directory, "snapshot"), {
				onProgress: () => void looks.push(machine.tellState().then(() => expect(machine.state).toBe("paused"))),
			});
			await Promise.all(looks);
			expect(machine.state).toBe("running");
		} finally {
			rmSync(directory, { recursive: true });
		}
	});
});
