/*
 * The check of lab 8: the program exports `createInterruptControllers` and `Doorbell`. A guest with an interrupt handler
 * rings the bell by a port, sleeps, and counts the interrupts that wake it.
 */
import { readdirSync } from "node:fs";
import type { Vcpu } from "../../kvm/vcpu.ts";
import type { IoEventFd, Vm } from "../../kvm/vm.ts";
import type { Attempt } from "../attempt.ts";
import { enterRealMode, runBareMachine } from "../bare-machine.ts";
import { CODE_ADDRESS, doorbellGuest } from "../guests.ts";
import type { Lab } from "../lab.ts";
import type { NotedName } from "../recording.ts";
import { count, hex } from "../report.ts";

interface Doorbell {
	interrupt(): void;
	close(): void;
}
type DoorbellClass = new (vm: Vm, ring: () => void) => Doorbell;
type CreateControllers = (vm: Vm) => void;

const PORT = 0x510;
const GSI = 5;
const RINGS = 3;
const RESULT = 0x3f8;

export const interruptsLab: Lab = {
	number: 8,
	name: "interrupts",
	title: "interrupts and ioeventfd",
	needsKvm: true,
	async check(attempt) {
		const createControllers = await attempt.exported<CreateControllers>("createInterruptControllers", "function");
		const type = await attempt.exported<DoorbellClass>("Doorbell", "class");
		await new Bench(attempt, createControllers, type).run();
	},
};

class Bench {
	readonly #attempt: Attempt;
	readonly #createControllers: CreateControllers;
	readonly #type: DoorbellClass;
	#doorbell: Doorbell | undefined;
	#rings = 0;
	/** Exits at the doorbell, which must not be. */
	#stops = 0;
	/** What the guest has counted. */
	#interrupts: number | undefined;

	constructor(attempt: Attempt, createControllers: CreateControllers, type: DoorbellClass) {
		this.#attempt = attempt;
		this.#createControllers = createControllers;
		this.#type = type;
	}

	async run(): Promise<void> {
		const { report, settle } = this.#attempt;
		const before = descriptors();
		const ending = await settle(() =>
			runBareMachine(
				{
					ramBytes: 0x8000,
					beforeVcpu: (vm) => this.#setUp(vm),
					prepare: (ram: Uint8Array, vcpu: Vcpu) => {
						ram.set(doorbellGuest(PORT, GSI, RINGS), CODE_ADDRESS);
						enterRealMode(vcpu);
					},
					finish: () => this.#doorbell?.close(),
					mostExits: 100,
				},
				{ out: (port, _size, value) => this.#out(port, value), in: () => 0xff },
			),
		);
		if (ending.kind === "threw") this.#attempt.unwrap(ending, "The program");
		report.must(
			this.#stops === 0,
			`the doorbell did not stop the vCPU: no exit at port ${hex(PORT)}`,
			`the doorbell stopped the vCPU ${count(this.#stops, "time")}: KVM_EXIT_IO at port ${hex(PORT)}`,
			"The ioeventfd must have the guest's port, and its size: the guest writes 2 bytes",
		);
		if (ending.kind === "waits") {
			report.fail(
				`the guest sleeps for ever: it rang, your bell was called ${count(this.#rings, "time")} of ${RINGS}, and no interrupt woke it`,
				this.#rings === 0
					? "Watch the eventfd: eventFd.watch(ring)"
					: "interrupt() signals an eventfd that is connected to GSI 5 by vm.irqfd",
			);
		}
		const end = this.#attempt.unwrap(ending, "The program");
		report.must(
			end === "ended" && this.#rings === RINGS,
			`the guest rang ${RINGS} times, and the bell was called each time`,
			`the bell was called ${count(this.#rings, "time")} of ${RINGS}; the guest ended by ${end}`,
		);
		report.expect(
			this.#interrupts === RINGS,
			`the guest took ${RINGS} interrupts at GSI ${GSI}`,
			`the guest took ${this.#interrupts} interrupts, ${RINGS} were expected`,
			"Signal once for each interrupt",
		);
		/* A watch ends a moment after its close. */
		await new Promise((resolve) => setTimeout(resolve, 50));
		const left = descriptors() - before;
		report.expect(
			left <= 0,
			"close has closed both eventfds",
			`after close, ${count(left, "file descriptor")} of it ${left === 1 ? "is" : "are"} still open`,
			"Call close of each EventFd",
		);
	}

	#setUp(vm: Vm): void {
		const { report, recording } = this.#attempt;
		this.#createControllers(vm);
		report.must(
			recording.called("KVM_CREATE_IRQCHIP"),
			"KVM_CREATE_IRQCHIP was called, before the first vCPU",
			"KVM_CREATE_IRQCHIP was not called: the machine has no interrupt controllers",
			"Call vm.createIrqchip(), after vm.setTssAddr(0xfffbd000), which Intel's processors need",
		);
		this.#doorbell = new this.#type(vm, () => {
			this.#rings++;
			this.#doorbell?.interrupt();
		});
		const event = this.#argument<IoEventFd>("KVM_IOEVENTFD", 0);
		report.must(
			event?.pio === true && event.address === PORT && event.size === 2,
			`KVM_IOEVENTFD connects writes of 2 bytes to port ${hex(PORT)} with an eventfd`,
			event === undefined
				? "KVM_IOEVENTFD was not called: each ring will stop the vCPU"
				: `KVM_IOEVENTFD was called for ${event.pio === true ? "port" : "memory"} ${hex(event.address)}, ${count(event.size, "byte")}; port ${hex(PORT)}, 2 bytes were expected`,
			"vm.ioeventfd({ fd: eventFd.fd, address: 0x510, size: 2, pio: true })",
		);
		const gsi = this.#argument<number>("KVM_IRQFD", 1);
		report.must(
			gsi === GSI,
			`KVM_IRQFD connects an eventfd with GSI ${GSI}`,
			gsi === undefined
				? "KVM_IRQFD was not called: nothing interrupts the guest"
				: `KVM_IRQFD was called for GSI ${gsi}; ${GSI} was expected`,
			"vm.irqfd(eventFd.fd, 5), with an eventfd of its own",
		);
	}

	#out(port: number, value: number): unknown {
		if (port === PORT) {
			this.#stops++;
			/* The guest would sleep for ever. */
			return "end";
		}
		if (port !== RESULT) return undefined;
		this.#interrupts = value;
		return "end";
	}

	#argument<T>(name: NotedName, index: number): T | undefined {
		return this.#attempt.recording.calls.find((call) => call.name === name)?.args[index] as T | undefined;
	}
}

const descriptors = (): number => readdirSync("/proc/self/fd").length;
