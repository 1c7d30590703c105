/*
 * The KVM classes on this machine's /dev/kvm: every ioctl answers, and a failed one says which and why.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { IoctlError } from "../../src/base/errors.ts";
import { EventFd } from "../../src/host/eventfd.ts";
import { packageRoot } from "../../src/host/native.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED } from "../../src/kvm/constants.ts";
import { structView } from "../../src/kvm/struct-view.ts";
import { kvm_cpuid2, kvm_regs } from "../../src/kvm/structs.ts";
import { Kvm } from "../../src/kvm/system.ts";
import type { Vm } from "../../src/kvm/vm.ts";

let kvm: Kvm;
let vm: Vm;
beforeAll(() => {
	kvm = Kvm.open();
});
afterAll(() => kvm.close());
beforeEach(() => {
	vm = kvm.createVm();
});
afterEach(() => vm.close());

describe("Kvm", () => {
	it("open says that KVM is missing", () => {
		expect(() => Kvm.open("/dev/no-kvm")).toThrow(
			expect.objectContaining({ code: "ERR_KVM_MISSING", message: "Cannot open /dev/no-kvm: this host has no KVM" }),
		);
	});

	it("require names what this host lacks, and how many vCPUs it allows", () => {
		kvm.require(1);
		expect(() => kvm.require(1_000_000)).toThrow(/^Cannot give the machine 1000000 vCPUs: this host allows \d+$/);
		const check = vi.spyOn(kvm, "checkExtension").mockImplementation((name) => (name.includes("FD") ? 0 : 1));
		expect(() => kvm.require(1)).toThrow(
			expect.objectContaining({
				code: "ERR_KVM_CAPABILITY",
				message: "Cannot use KVM of this host: it lacks KVM_CAP_IRQFD, KVM_CAP_IOEVENTFD",
			}),
		);
		check.mockRestore();
	});

	it("open says that the permission is missing", () => {
		const directory = mkdtempSync(join(tmpdir(), "tsvmm-kvm-"));
		const path = join(directory, "kvm");
		writeFileSync(path, "", { mode: 0 });
		const script = `
			import { Kvm } from "./src/kvm/system.ts";
			/* Loads what it needs while it still may: the checkout can be in a directory that only root can enter. */
			try { Kvm.open("/dev/no-kvm"); } catch { /* as it should */ }
			if (process.getuid() === 0) { process.setgid(65534); process.setuid(65534); }
			try { Kvm.open(${JSON.stringify(path)}); } catch (error) { console.log(error.code, error.message); }
		`;
		spawnSync("chmod", ["755", directory]);
		const run = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
			cwd: packageRoot(),
			encoding: "utf8",
		});
		rmSync(directory, { recursive: true });
		expect(run.stdout).toBe(`ERR_KVM_PERMISSION Cannot open ${path}: permission denied\n`);
	});

	it("open of another device says that it is no KVM and closes it", () => {
		const before = readdirSync("/proc/self/fd").length;
		expect(() => Kvm.open("/dev/null")).toThrow(
			expect.objectContaining({
				code: "ERR_KVM_OPEN",
				cause: expect.objectContaining({ ioctl: "KVM_GET_API_VERSION", errno: "ENOTTY" }),
			}),
		);
		expect(readdirSync("/proc/self/fd").length).toBe(before);
	});

	it("checkExtension tells what the host can do", () => {
		expect(kvm.checkExtension("KVM_CAP_IRQCHIP")).toBe(1);
		expect(kvm.checkExtension("KVM_CAP_IMMEDIATE_EXIT")).toBe(1);
		expect(kvm.checkExtension("KVM_CAP_MAX_VCPUS")).toBeGreaterThanOrEqual(32);
		expect(kvm.vcpuMmapSize).toBeGreaterThanOrEqual(4096);
	});

	it("getSupportedCpuid gives whole entries", () => {
		const cpuid = kvm.getSupportedCpuid();
		expect(cpuid.readUInt32LE(kvm_cpuid2.nent)).toBeGreaterThan(5);
		expect(cpuid.length).toBe(kvm_cpuid2.entries + 40 * cpuid.readUInt32LE(kvm_cpuid2.nent));
	});

	it("getMsrIndexList has the TSC", () => {
		expect(kvm.getMsrIndexList()).toContain(0x10);
	});
});

describe("Vm", () => {
	it("a failed ioctl is an IoctlError that names ioctl and errno", () => {
		let caught: unknown;
		try {
			vm.setUserMemoryRegion({ slot: 0, gpa: 1, hva: 0, sizeBytes: 4096 });
		} catch (error) {
			caught = error;
		}
		expect(caught).toBeInstanceOf(IoctlError);
		expect(caught).toMatchObject({
			code: "ERR_IOCTL",
			ioctl: "KVM_SET_USER_MEMORY_REGION",
			errno: "EINVAL",
			message: "Cannot KVM_SET_USER_MEMORY_REGION: EINVAL (invalid argument)",
		});
	});

	it("what is closed says so, also when its number is another VM's, and may be closed again", async () => {
		const [first, second] = [kvm.createVm(), kvm.createVm()];
		const vcpu = first.createVcpu(3);
		const { fd } = vcpu;
		vcpu.close();
		first.close();
		await second.release();
		const third = kvm.createVm();
		const heirs = [3, 4].map((id) => third.createVcpu(id));
		expect(heirs.map((heir) => heir.fd)).toContain(fd);
		const closed = (what: string) =>
			expect.objectContaining({ code: "ERR_KVM_CLOSED", message: `Cannot use ${what}: it is closed` });
		expect(() => vcpu.getRegs()).toThrow(closed("vCPU 3"));
		expect(() => first.irqLine(1, true)).toThrow(closed("this VM"));
		expect(() => second.createVcpu(0)).toThrow(closed("this VM"));
		vcpu.close();
		first.close();
		await second.release();
		for (const heir of heirs) {
			expect(heir.getMpState()).toBe(KVM_MP_STATE_RUNNABLE);
			heir.close();
		}
		third.close();
		const other = Kvm.open();
		other.close();
		other.close();
		expect(() => other.createVm()).toThrow(closed("/dev/kvm"));
	});

	it("setUserMemoryRegion takes memory above 4 GiB and gives it back", () => {
		const ram = GuestRam.map([{ gpa: 2 ** 32, sizeBytes: 1 << 20 }]);
		const { gpa, hva, sizeBytes } = ram.regions[0]!;
		vm.setUserMemoryRegion({ slot: 3, gpa, hva, sizeBytes });
		expect(() => vm.setUserMemoryRegion({ slot: 4, gpa, hva, sizeBytes })).toThrow(/EEXIST/);
		vm.setUserMemoryRegion({ slot: 3, gpa, hva, sizeBytes: 0 });
		ram.close();
	});

	it("has interrupt controllers, timer, routing, eventfds and clock", () => {
		vm.setTssAddr(0xfffb_d000);
		vm.setIdentityMapAddr(0xfffb_c000);
		vm.createIrqchip();
		expect(() => vm.createIrqchip()).toThrow(/KVM_CREATE_IRQCHIP: EEXIST/);
		vm.createPit2();
		vm.setPit2(vm.getPit2());
		vm.irqLine(5, true);
		vm.irqLine(5, false);
		for (const chip of [0, 1, 2]) vm.setIrqchip(vm.getIrqchip(chip));
		vm.setGsiRouting([
			{ gsi: 5, irqchip: 2, pin: 5 },
			{ gsi: 24, address: 0xfee0_0000, data: 0x41 },
		]);
		const kick = new EventFd();
		const irq = new EventFd();
		vm.ioeventfd({ fd: kick.fd, address: 0xd000_0050, size: 4, datamatch: 1 });
		vm.ioeventfd({ fd: kick.fd, address: 0xd000_0050, size: 4, datamatch: 2 });
		expect(() => vm.ioeventfd({ fd: kick.fd, address: 0xd000_0050, size: 4, datamatch: 2 })).toThrow(
			/KVM_IOEVENTFD: EEXIST/,
		);
		vm.ioeventfd({ fd: kick.fd, address: 0xd000_0050, size: 4, datamatch: 2 }, true);
		vm.ioeventfd({ fd: kick.fd, address: 0x510, size: 2, pio: true });
		vm.irqfd(irq.fd, 5);
		expect(() => vm.irqfd(irq.fd, 5)).toThrow(/KVM_IRQFD: EBUSY/);
		vm.irqfdDeassign(irq.fd, 5);
		vm.setClock(5_000_000_000n);
		const clock = vm.getClock().clock;
		expect(clock).toBeGreaterThanOrEqual(5_000_000_000n);
		expect(clock).toBeLessThan(60_000_000_000n);
		kick.close();
		irq.close();
	});
});

describe("Vcpu", () => {
	it("registers come back as they were set", () => {
		const vcpu = vm.createVcpu(0);
		const regs = structView(kvm_regs);
		regs.r11 = 0x1234_5678_9abc_def0n;
		regs.rip = 0x7c00n;
		regs.rflags = 2n;
		vcpu.setRegs(regs);
		expect(vcpu.getRegs()).toEqual(regs);
		const sregs = vcpu.getSregs();
		sregs.cr3 = 0x5000n;
		vcpu.setSregs(sregs);
		expect(vcpu.getSregs().cr3).toBe(0x5000n);
		const fpu = vcpu.getFpu();
		fpu.fcw = 0x37f;
		vcpu.setFpu(fpu);
		expect(vcpu.getFpu().fcw).toBe(0x37f);
		vcpu.close();
		vcpu.close();
	});

	it("with the irqchip it has a local APIC, and all vCPUs but the first wait for SIPI", () => {
		vm.createIrqchip();
		const first = vm.createVcpu(0);
		const second = vm.createVcpu(1);
		expect(first.getMpState()).toBe(KVM_MP_STATE_RUNNABLE);
		expect(second.getMpState()).toBe(KVM_MP_STATE_UNINITIALIZED);
		second.setMpState(KVM_MP_STATE_RUNNABLE);
		expect(second.getMpState()).toBe(KVM_MP_STATE_RUNNABLE);
		expect(second.getLapic().bytes.readUInt32LE(0x20) >>> 24).toBe(1);
		first.setLapic(first.getLapic());
		expect(() => vm.createVcpu(1)).toThrow(/KVM_CREATE_VCPU: EEXIST/);
		second.close();
		first.close();
	});

	it("CPUID, MSRs and the rest of the state come back as they were set", () => {
		const vcpu = vm.createVcpu(0);
		vcpu.setCpuid2(kvm.getSupportedCpuid());
		expect(vcpu.getCpuid2().readUInt32LE(kvm_cpuid2.nent)).toBeGreaterThan(5);
		const PAT = 0x277;
		vcpu.setMsrs([[PAT, 0x0007_0406_0007_0406n]]);
		expect(vcpu.getMsrs([PAT]).get(PAT)).toBe(0x0007_0406_0007_0406n);
		vcpu.setVcpuEvents(vcpu.getVcpuEvents());
		vcpu.setDebugregs(vcpu.getDebugregs());
		vcpu.setXsave(vcpu.getXsave());
		vcpu.setXcrs(vcpu.getXcrs());
		expect(vcpu.getTscKhz()).toBeGreaterThan(100_000);
		vcpu.close();
	});

	it("getMsrs and setMsrs take any number, and name the one that KVM refuses", () => {
		const vcpu = vm.createVcpu(0);
		const [TSC, PAT, UNKNOWN] = [0x10, 0x277, 0x4000_ffff];
		const many = Array.from({ length: 300 }, (_, i) => (i % 2 === 0 ? PAT : UNKNOWN));
		expect([...vcpu.getMsrs([UNKNOWN, ...many, TSC]).keys()]).toEqual([PAT, TSC]);
		expect(vcpu.getMsrs([]).size).toBe(0);
		const pat = (i: number) => [PAT, 0x0007_0406_0007_0400n + BigInt(i % 2)] as const;
		vcpu.setMsrs(Array.from({ length: 300 }, (_, i) => pat(i)));
		expect(vcpu.getMsrs([PAT]).get(PAT)).toBe(0x0007_0406_0007_0401n);
		expect(() => vcpu.setMsrs([...Array.from({ length: 299 }, (_, i) => pat(i)), [UNKNOWN, 1n], pat(1)])).toThrow(
			expect.objectContaining({
				code: "ERR_KVM_MSR",
				message: "Cannot set MSR 0x4000ffff of vCPU 0 to 0x1: KVM does not know it or refuses the value",
			}),
		);
		expect(vcpu.getMsrs([PAT]).get(PAT)).toBe(0x0007_0406_0007_0400n);
		vcpu.close();
	});

	it("getXsave2 gives the whole state, setXsave takes it, a shorter one, and none that is cut short", () => {
		const vcpu = vm.createVcpu(0);
		vcpu.setCpuid2(kvm.getSupportedCpuid());
		expect(vcpu.xsaveBytes).toBe(Math.max(4096, vm.checkExtension("KVM_CAP_XSAVE2")));
		const whole = vcpu.getXsave2();
		expect(whole.length).toBe(vcpu.xsaveBytes);
		const XMM0 = 160;
		const XSTATE_BV = 512;
		whole.fill(0xa5, XMM0, XMM0 + 16);
		whole.writeUInt32LE(whole.readUInt32LE(XSTATE_BV) | 2, XSTATE_BV); /* SSE */
		vcpu.setXsave(whole);
		expect(vcpu.getXsave2().subarray(XMM0, XMM0 + 16)).toEqual(Buffer.alloc(16, 0xa5));
		vcpu.setXsave(vcpu.getXsave());
		vcpu.setXsave(whole.subarray(0, 4096));
		expect(() => vcpu.setXsave(whole.subarray(0, 4095))).toThrow(
			expect.objectContaining({
				code: "ERR_KVM_ARGUMENT",
				message: "Cannot KVM_SET_XSAVE: 4095 bytes were given, it takes 4096",
			}),
		);
		vcpu.close();
	});

	it("a state that was cut short is refused before KVM reads beyond its end", () => {
		vm.createIrqchip();
		vm.createPit2();
		const vcpu = vm.createVcpu(0);
		const cpuid = kvm.getSupportedCpuid();
		const cut = (state: Buffer) => state.subarray(0, state.length - 1);
		/* No view: what a caller without types may give. */
		const short = <V extends { bytes: Buffer }>(state: V) => ({ bytes: cut(state.bytes) }) as V;
		for (const set of [
			() => vcpu.setRegs(short(vcpu.getRegs())),
			() => vcpu.setSregs(short(vcpu.getSregs())),
			() => vcpu.setFpu(short(vcpu.getFpu())),
			() => vcpu.setLapic(short(vcpu.getLapic())),
			() => vcpu.setVcpuEvents(short(vcpu.getVcpuEvents())),
			() => vcpu.setXcrs(short(vcpu.getXcrs())),
			() => vcpu.setDebugregs(short(vcpu.getDebugregs())),
			() => vcpu.setCpuid2(cut(cpuid)),
			() => vcpu.setCpuid2(Buffer.alloc(3)),
			() => vm.setPit2(short(vm.getPit2())),
			() => vm.setIrqchip(short(vm.getIrqchip(0))),
		]) {
			expect(set).toThrow(expect.objectContaining({ code: "ERR_KVM_ARGUMENT" }));
		}
		vcpu.close();
	});
});
