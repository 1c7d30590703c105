import { expect, test } from "vitest";
import { Subnet } from "../../../src/container/network/subnet.ts";

test("Subnet.parse refuses what is no subnet", () => {
	for (const text of ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/30", "10.0.0.0/8", "10.0.0.256/24", "::/64", "a/24"]) {
		expect(() => Subnet.parse(text), text).toThrow(expect.objectContaining({ code: "ERR_NETWORK_SUBNET" }));
	}
});

test("Subnet knows its hosts, its mask and its ends", () => {
	const subnet = Subnet.parse("10.1.2.8/29");
	expect([...subnet.hosts()]).toEqual(["10.1.2.9", "10.1.2.10", "10.1.2.11", "10.1.2.12", "10.1.2.13", "10.1.2.14"]);
	expect([subnet.firstHost, subnet.lastHost, subnet.mask]).toEqual(["10.1.2.9", "10.1.2.14", "255.255.255.248"]);
	expect(subnet.toString()).toBe("10.1.2.8/29");
	const asked = ["10.1.2.8", "10.1.2.9", "10.1.2.15", "10.1.3.9", "no"];
	expect(asked.map((address) => subnet.hasHost(address))).toEqual([false, true, false, false, false]);
});

test("Subnet.choose takes the first that overlaps no other", () => {
	const first = Subnet.choose([]);
	expect(first?.toString()).toMatch(/^10\.89\.\d+\.0\/24$/);
	const next = Subnet.choose([first!])!;
	expect(next.overlaps(first!)).toBe(false);
	expect(Subnet.parse("10.88.0.0/16").overlaps(first!)).toBe(false);
	expect(Subnet.parse("10.89.0.0/16").overlaps(first!)).toBe(true);
	expect(Subnet.choose([Subnet.parse("10.89.0.0/16")])).toBeUndefined();
});
