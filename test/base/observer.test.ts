import { expect, test } from "vitest";
import { Bus } from "../../src/base/bus.ts";
import { Observers } from "../../src/base/observer.ts";

test("Observers tells every listener what it has a method for, in the order in which they came", () => {
	const observers = new Observers();
	const heard: string[] = [];
	expect(observers.observer).toBe(undefined);
	const first = observers.attach({ exit: (vcpu) => heard.push(`1 exit ${vcpu}`) });
	const second = observers.attach({
		exit: (vcpu, reason) => heard.push(`2 exit ${vcpu} ${reason}`),
		kick: (device, queue) => heard.push(`2 kick ${device} ${queue}`),
	});
	observers.observer?.exit?.(3, 2);
	observers.observer?.kick?.("blk", 0);
	expect(observers.observer?.push).toBe(undefined);
	expect(heard.splice(0)).toEqual(["1 exit 3", "2 exit 3 2", "2 kick blk 0"]);
	first();
	first();
	observers.observer?.exit?.(4, 6);
	expect(heard.splice(0)).toEqual(["2 exit 4 6"]);
	second();
	expect(observers.observer).toBe(undefined);
});

test("Observers keeps an observer that is a class instance whole", () => {
	class Counter {
		exits = 0;
		exit(): void {
			this.exits++;
		}
	}
	const counters = [new Counter(), new Counter()];
	const observers = new Observers();
	for (const counter of counters) observers.attach(counter);
	observers.observer?.exit?.(0, 0);
	expect(counters.map(({ exits }) => exits)).toEqual([1, 1]);
});

test("Observers lets the same observer listen twice and leave once", () => {
	const observers = new Observers();
	let heard = 0;
	const observer = { exit: () => heard++ };
	const leave = observers.attach(observer);
	observers.attach(observer);
	leave();
	observers.observer?.exit?.(0, 0);
	expect(heard).toBe(1);
});

test("Bus tells an observer of every access, those to nothing included", () => {
	const observers = new Observers();
	const bus = new Bus("pio", observers);
	bus.add(0x10, 4, { name: "ones", read: () => 0x11, write: () => undefined });
	const heard: unknown[][] = [];
	observers.attach({ access: (...access) => heard.push(access) });
	bus.read(0x10, new Uint8Array(1));
	bus.write(0x11, Uint8Array.of(1, 2));
	bus.writeValue(0x20, 1, 7);
	expect(heard).toEqual([
		["pio", "ones", false, 0x10, 1, 0x11],
		["pio", "ones", true, 0x11, 2, 0x201],
		["pio", "nothing", true, 0x20, 1, 7],
	]);
});
