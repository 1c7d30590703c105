/*
 * The inspector's page in a real browser, on a machine whose guest uses a disk. Needs /dev/kvm and Debian's chromium.
 *
 * `npm run screenshots` sets TSVMM_SCREENSHOTS: then the pictures of docs/inspector.md are taken here.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import axe, { type AxeResults } from "axe-core";
import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { MachineDebugger } from "../../src/debug/debugger.ts";
import { packageRoot } from "../../src/host/native.ts";
import { complaintsOf, launchBrowser } from "../inspector/browser.ts";
import { buildBareGuests } from "./bare-guest.ts";
import { InspectedMachine } from "./inspected-machine.ts";
import { COUNTER, POLL, TinyKernels } from "./tiny-kernel.ts";

let browser: Browser;
beforeAll(async () => {
	buildBareGuests();
	browser = await launchBrowser();
});
const kernels = new TinyKernels();
afterAll(async () => {
	kernels.remove();
	await browser?.close();
});

let inspected: InspectedMachine;
let page: Page;
let complaints: string[];
beforeEach(async () => {
	inspected = await InspectedMachine.create();
	page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
	complaints = complaintsOf(page);
	await page.goto(inspected.inspector.url);
});
afterEach(async () => {
	await page.context().close();
	await inspected.close();
});

const text = (selector: string) => page.locator(selector).first().textContent();
/** What the ring of the first queue says. */
const ring = () => page.locator(".queue .facts").first().textContent();

async function running(): Promise<void> {
	inspected.machine.start();
	await expect.poll(() => text("#state")).toBe("running");
	await expect.poll(ring).toContain("avail.idx");
}

test("the page shows the devices, moves the rings, counts exits, and prints the console", async () => {
	await expect.poll(() => text("#state")).toBe("created");
	expect(await text("#machine")).toBe("verify.elf · 1 vCPU · 64 MiB");
	/* The token is not where someone may read it. */
	expect(page.url()).toBe(`http://127.0.0.1:${new URL(inspected.inspector.url).port}/`);
	await running();
	const tabs = page.getByRole("tab");
	expect(await tabs.allTextContents()).toEqual(expect.arrayContaining([expect.stringMatching(/^disk0virtio block/)]));
	const before = await ring();
	await expect.poll(ring).not.toBe(before);
	/* The disk is late, so that there is always something in flight at some moment. */
	await expect.poll(() => text(".ring .big")).toMatch(/^[1-8]$/);
	await expect.poll(() => page.locator(".buffer").count()).toBeGreaterThan(0);
	await expect.poll(() => page.locator("#requests tbody tr").count()).toBeGreaterThan(5);
	expect(await text("#requests tbody")).toMatch(/virtio-blk0 queue 0(IN|OUT) sector \d+ 4096 bytes → OK/);
	const phases = await page.locator(".timeline strong").allTextContents();
	expect(phases).toEqual(expect.arrayContaining(["started", "entry", "device found", "driver ready"]));
	await expect.poll(() => text("#console pre")).toMatch(/^\.+$/);
	await expect.poll(() => text(".legend .chains + dd")).toMatch(/[1-9]/);
	expect(complaints).toEqual([]);
});

test("the page pauses the guest and lets it go on, by buttons and by keys", async () => {
	await running();
	await page.getByRole("button", { name: /^Pause/ }).click();
	await expect.poll(() => text("#state")).toBe("paused");
	expect(inspected.machine.state).toBe("paused");
	await expect.poll(() => text(".ring .big")).toBe("0");
	const printed = inspected.console.text;
	const still = await ring();
	await page.waitForTimeout(600);
	expect([await ring(), inspected.console.text]).toEqual([still, printed]);
	expect(await page.getByRole("status").allTextContents()).toContain("The guest: paused");
	await page.keyboard.press("F9");
	await expect.poll(() => text("#state")).toBe("running");
	await expect.poll(ring).not.toBe(still);
	await page.keyboard.press("F8");
	await expect.poll(() => inspected.machine.state).toBe("paused");
	expect(complaints).toEqual([]);
});

test("the page shows guest memory, that of a buffer by a click", async () => {
	await running();
	const address = page.getByLabel("address", { exact: true });
	await address.fill("0x2f0000");
	await page.getByRole("button", { name: "Read", exact: true }).click();
	/* The parameters of the guest: interrupts, EVENT_IDX, 8 in flight, 256 in all. */
	await expect.poll(() => text("#memory pre")).toMatch(/^0000002f0000 {2}01 00 00 00 01 00 00 00 {2}08 00 00 00 00 01/);
	await address.fill("0xffffffff0000");
	await page.keyboard.press("Enter");
	await expect.poll(() => text("#memory .alarm")).toContain("it is not RAM");
	await page.locator(".buffer").first().click();
	await expect.poll(() => text("#memory pre")).not.toMatch(/^0000002f0000/);
	expect(await page.locator("#memory .alarm").isVisible()).toBe(false);
});

test("the page shows the instructions and registers of a stopped vCPU, and walks its page tables", async () => {
	await running();
	await expect.poll(() => text("#vcpu .note")).toContain("It runs");
	await page.keyboard.press("F8");
	await expect.poll(() => text("#state")).toBe("paused");
	const debug = MachineDebugger.of(inspected.machine);
	const rip = () => text(".registers dd");
	const shown = () => `0x${debug.regs(0).rip.toString(16).padStart(16, "0")}`;
	await expect.poll(rip).toBe(shown());
	expect(await text("#vcpu .note")).toMatch(/^64-bit code, ring [03], 4-level paging$/);
	expect(await text(".code [aria-current] .address")).toBe(debug.regs(0).rip.toString(16));
	expect(await text(".code [aria-current] code")).toMatch(/^[a-z]+/);
	/* The stack by its virtual address: 4 levels of tables, of which the last maps 2 MiB. */
	await page.locator(".registers .link").nth(1).click();
	await expect.poll(() => page.locator(".walk strong").allTextContents()).toHaveLength(4);
	const [root, , directory, last] = await page.locator(".walk strong").allTextContents();
	expect([root, directory, last]).toEqual([
		expect.stringMatching(/^PML4/),
		expect.stringMatching(/^PD\[/),
		"page of 2 MiB",
	]);
	await page.getByLabel("address", { exact: true }).fill("0xffff800000000000");
	await page.keyboard.press("Enter");
	await expect.poll(() => text(".walk .fault")).toContain("not present");
	await page.keyboard.press("F9");
	await expect.poll(() => text("#state")).toBe("running");
	expect(complaints).toEqual([]);
});

test("the page steps a vCPU, and lets it run on", async () => {
	/* In ring 0: this machine's KVM may give the trap of a step in ring 3 to the guest. */
	const polling = await InspectedMachine.create(kernels.write("", POLL));
	try {
		await page.goto(polling.inspector.url);
		polling.machine.start();
		await expect.poll(() => text("#state")).toBe("running");
		await page.keyboard.press("F8");
		const debug = MachineDebugger.of(polling.machine);
		await expect.poll(() => debug.isStopped).toBe(true);
		await expect.poll(() => text(".code [aria-current] .address")).toBe(debug.regs(0).rip.toString(16));
		expect(await text("#vcpu .note")).toBe("32-bit code, ring 0, no paging");
		const seen = new Set<string>();
		for (let step = 0; step < 6; step++) {
			const before = await text(".code [aria-current] .address");
			await page.getByRole("button", { name: /^Step/ }).click();
			await expect.poll(() => text(".code [aria-current] .address")).not.toBe(before);
			seen.add((await text(".code [aria-current] code"))!);
		}
		/* The loop of this guest. */
		expect([...seen].map((line) => line.split(" ")[0]).sort()).toEqual(["in", "inc", "jmp"]);
		expect(await text("#state")).toBe("paused: a step");
		expect(await page.locator(".registers [data-changed]").count()).toBeGreaterThan(0);
		const turns = polling.machine.memory.u32(COUNTER);
		await page.keyboard.press("F9");
		await expect.poll(() => text("#state")).toBe("running");
		await expect.poll(() => polling.machine.memory.u32(COUNTER)).toBeGreaterThan(turns + 10);
		expect(complaints).toEqual([]);
	} finally {
		await polling.close();
	}
});

test("the page tells how the machine has ended, and keeps what it shows", async () => {
	await running();
	inspected.finish();
	await inspected.machine.ended;
	await inspected.inspector.close(await inspected.machine.ended);
	await expect.poll(() => text("#state")).toBe("guest powered off");
	expect(await text("#console pre")).toMatch(/done$/);
	expect(await page.getByRole("tab").count()).toBeGreaterThan(3);
});

test("the keyboard reaches everything, and the arrow keys move between devices", async () => {
	await running();
	await page.keyboard.press("Tab");
	expect(await page.evaluate("document.activeElement.textContent")).toBe("Skip to the devices");
	await page.keyboard.press("Enter");
	await page.keyboard.press("Tab");
	expect(await page.evaluate("document.activeElement.id")).toBe("tab-virtio-disk0");
	await page.keyboard.press("ArrowDown");
	expect(await page.evaluate("document.activeElement.id")).toBe("tab-virtio-rng");
	await expect.poll(() => text("#device h3")).toContain("entropy");
	await page.keyboard.press("End");
	expect(await page.evaluate("document.activeElement.ariaSelected")).toBe("true");
	await page.keyboard.press("Home");
	await expect.poll(() => text("#device h3")).toContain("block");
	/* Frames come meanwhile, and the focus stays. */
	await page.waitForTimeout(600);
	expect(await page.evaluate("document.activeElement.id")).toBe("tab-virtio-disk0");
});

/** Looks at the page as axe does. @param only these rules; all when missing */
async function problems(only?: string[]): Promise<string[]> {
	await page.evaluate(axe.source);
	const options = only === undefined ? {} : { runOnly: only };
	const { violations } = await page.evaluate<AxeResults>(`axe.run(${JSON.stringify(options)})`);
	return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(" ")}`);
}

test("the page is readable for all, in light and dark colours, wide and narrow", async () => {
	const background = () => page.evaluate("getComputedStyle(document.documentElement).backgroundColor");
	await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
	await running();
	await expect.poll(() => page.locator("#requests tbody tr").count()).toBeGreaterThan(5);
	expect(await background()).toBe("rgb(244, 246, 248)");
	expect(await problems()).toEqual([]);
	await picture("light");
	await stopped();
	expect(await problems()).toEqual([]);
	await picture("stopped", "#vcpu", "#memory");
	await page.emulateMedia({ colorScheme: "dark" });
	expect(await background()).toBe("rgb(15, 20, 25)");
	expect(await problems(["color-contrast"])).toEqual([]);
	await page.keyboard.press("F9");
	await picture("dark");
	await page.setViewportSize({ width: 480, height: 900 });
	expect(await problems()).toEqual([]);
	expect(await page.evaluate("document.documentElement.scrollWidth - innerWidth")).toBeLessThanOrEqual(0);
});

/** Stops the guest, and looks at its stack. */
async function stopped(): Promise<void> {
	await page.keyboard.press("F8");
	await expect.poll(() => text("#state")).toBe("paused");
	await expect.poll(() => text("#vcpu .bar")).toContain("paging");
	await page.locator(".registers .link").nth(1).click();
	await expect.poll(() => page.locator(".walk strong").count()).toBe(4);
}

/** Takes a picture for the documentation, when it was asked for. */
async function picture(name: string, from = "header", to = "#console"): Promise<void> {
	if (!process.env.TSVMM_SCREENSHOTS) return;
	/* A list under the pointer would stand still. */
	await page.mouse.move(0, 0);
	await page.setViewportSize({ width: 1280, height: 860 });
	/* The charts have something to show, and the rings are drawn in the middle of requests. */
	await page.waitForTimeout(from === "header" ? 5000 : 0);
	if (inspected.machine.state === "running") {
		await expect.poll(() => page.locator(".buffer").count(), { interval: 50 }).toBeGreaterThan(8);
	}
	await page.evaluate("scrollTo(0, 0)");
	const [first, last] = await Promise.all([page.locator(from).boundingBox(), page.locator(to).boundingBox()]);
	const y = Math.max(0, first!.y - 60);
	const clip = { x: 0, y, width: 1280, height: last!.y + last!.height + 20 - y };
	await page.screenshot({ path: join(packageRoot(), `docs/inspector/${name}.png`), fullPage: true, clip });
}

test("a page of another origin reaches nothing, even with the token", async () => {
	await running();
	const script = readFileSync(join(packageRoot(), "test/inspector/foreign-page.js"));
	const foreign = createServer(({ url }, response) => {
		response.setHeader("Content-Type", url === "/script.js" ? "text/javascript" : "text/html");
		const page = '<!doctype html><title>tries</title><body><script type="module" src="/script.js"></script>';
		response.end(url === "/script.js" ? script : page);
	});
	await new Promise<void>((resolve) => foreign.listen(0, "127.0.0.1", resolve));
	const other = await browser.newPage();
	try {
		const { port } = foreign.address() as AddressInfo;
		await other.goto(`http://127.0.0.1:${port}/#${encodeURIComponent(inspected.inspector.url)}`);
		await expect.poll(() => other.title()).toBe("reached: nothing");
		/* The frame is there, and has the browser's own page: that it was refused. */
		const [, frame] = other.frames();
		expect(frame!.url()).toMatch(/^chrome-error:/);
		expect(inspected.machine.state).toBe("running");
	} finally {
		await other.context().close();
		foreign.close();
	}
});
