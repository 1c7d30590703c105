/*
 * Sessions that the real agent holds while its machine is saved: the host that goes on loses nothing, nor does one that
 * comes later and adopts them.
 */
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { AgentBroker } from "../../src/agent/broker.ts";
import { AgentClient } from "../../src/agent/client.ts";
import { type HeldSession, readHeldSessions } from "../../src/agent/held-session.ts";
import type { Session } from "../../src/agent/session.ts";
import { duplexPair } from "../../src/backends/duplex-pair.ts";
import { StateReader } from "../../src/base/state.ts";
import { buildAgent, NativeAgent } from "./native-agent.ts";

const env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
const COUNT = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo $i; sleep 0.01; done; echo over >&2; exit 7";
const NUMBERS = Array.from({ length: 60 }, (_, i) => `${i + 1}\n`).join("");

let agent: NativeAgent;
const brokers: AgentBroker[] = [];

beforeAll(buildAgent);
beforeEach(() => {
	agent = new NativeAgent();
});
afterEach(async () => {
	for (const broker of brokers.splice(0)) broker.close();
	await agent.stop();
});

/** A host, whose first client is its own. */
async function host(adopted: readonly HeldSession[] = []) {
	const broker = new AgentBroker(await agent.connect(), undefined, adopted);
	brokers.push(broker);
	const own = await client(broker);
	return { broker, own };
}

async function client(broker: AgentBroker): Promise<AgentClient> {
	const [ours, theirs] = duplexPair();
	broker.attach(theirs);
	const made = new AgentClient(ours);
	await made.hello({ forget: false });
	return made;
}

/** What a session prints from now on. */
function reading(session: Session): { text: string; errors: string } {
	const seen = { text: "", errors: "" };
	session.stdout.on("data", (chunk) => {
		seen.text += chunk;
	});
	session.stderr.on("data", (chunk) => {
		seen.errors += chunk;
	});
	return seen;
}

/** As it is written down and read again. */
function kept(sessions: readonly HeldSession[]): HeldSession[] {
	const written = JSON.parse(JSON.stringify({ sessions })) as unknown;
	return readHeldSessions(new StateReader("agent", written).list("sessions", 0, 100));
}

test("a host that has held its sessions goes on with them, and what clients sent meanwhile is sent then", async () => {
	const { broker, own } = await host();
	const session = await own.exec({ args: ["sh", "-c", COUNT], env });
	const seen = reading(session);
	const echo = await own.exec({ args: ["cat"], env });
	const echoed = reading(echo);
	echo.stdin.write("before ");
	await expect.poll(() => echoed.text).toBe("before ");
	const held = await broker.hold(session.id);
	expect(held.map(({ role }) => role)).toEqual(["main", "kept"]);
	echo.stdin.write("meanwhile ");
	const late = client(broker).then((other) => other.ping());
	/* What was on its way from the broker to its client. */
	await sleep(20);
	const text = seen.text;
	await sleep(100);
	expect([seen.text, echoed.text]).toEqual([text, "before "]);
	broker.release();
	echo.stdin.end("after");
	await late;
	expect(await session.exit).toEqual({ code: 7 });
	expect(await echo.exit).toEqual({ code: 0 });
	await expect.poll(() => [seen.text, seen.errors, echoed.text]).toEqual([NUMBERS, "over\n", "before meanwhile after"]);
});

test("a later host adopts the main process, lets others go on, and ends those whose clients are gone", async () => {
	const { broker, own } = await host();
	const session = await own.exec({ args: ["sh", "-c", `read -r word; echo $word; ${COUNT}`], env });
	session.stdin.write("go\n");
	const seen = reading(session);
	const left = await own.exec({ args: ["sleep", "1000"], env });
	const visitor = await client(broker);
	const visiting = await visitor.exec({ args: ["sleep", "1000"], env });
	await expect.poll(() => seen.text.length).toBeGreaterThan(10);
	const held = kept(await broker.hold(session.id));
	expect(held.map(({ role }) => role)).toEqual(["main", "kept", "closed"]);
	await sleep(20);
	const before = seen.text;
	broker.close();
	const next = await host(held);
	const main = held.find(({ role }) => role === "main")!;
	const adopted = next.own.takeOver(main, session.pid);
	const after = reading(adopted);
	await sleep(50);
	expect(after.text).toBe("");
	next.broker.release();
	expect(await adopted.exit).toEqual({ code: 7 });
	await expect.poll(() => [before + after.text, after.errors]).toEqual([`go\n${NUMBERS}`, "over\n"]);
	await expect.poll(() => existsSync(`/proc/${visiting.pid}`)).toBe(false);
	expect(existsSync(`/proc/${left.pid}`)).toBe(true);
	/* Numbers of adopted sessions are not given to others. */
	const other = await next.own.exec({ args: ["true"], env });
	expect(await other.exit).toEqual({ code: 0 });
});

test("an adopted process that was stopped by its window goes on, and its streams that have ended stay so", async () => {
	const { broker, own } = await host();
	const script = "exec 2>&-; head -c 2000000 /dev/zero | tr '\\0' x; cat";
	const session = await own.exec({ args: ["sh", "-c", script], env });
	session.stdin.end("end");
	/* Nobody reads: the agent has sent a window and stops. */
	await sleep(300);
	const [main] = kept(await broker.hold(session.id));
	broker.close();
	const next = await host([main!]);
	const adopted = next.own.takeOver(main!, session.pid);
	const after = reading(adopted);
	next.broker.release();
	expect(await adopted.exit).toEqual({ code: 0 });
	/* What the first host had was read: 262,144 bytes. */
	await expect.poll(() => after.text.length).toBe(2_000_000 - 262_144 + 3);
	expect(after.text.endsWith("xend")).toBe(true);
});

test.each([
	["a role", { role: "all" }],
	["a window", { exchange: { stdout: 262_145 } }],
	["unread input", { exchange: { unread: -1 } }],
	["a main process that had not started", { exchange: { isStarted: false } }],
])("readHeldSessions refuses %s that cannot be", (_, change: { role?: string; exchange?: object }) => {
	const exchange = { kind: 3, isOpen: false, isStarted: true, isStdinGone: false, isStdinClosed: false, unread: 0 };
	const session = { id: 1, role: "main", ...change, exchange: { ...exchange, ...change.exchange } };
	expect(() => readHeldSessions([new StateReader("agent", session)])).toThrow(
		expect.objectContaining({ code: "ERR_STATE_FORMAT" }),
	);
});
