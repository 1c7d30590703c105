import { expect, test } from "vitest";
import { MacAddress } from "../../src/base/mac.ts";

test("MacAddress.parse takes the address of an interface and says it again", () => {
	const mac = MacAddress.parse("52:54:00:Ab:02:03");
	expect([...mac.bytes]).toEqual([0x52, 0x54, 0, 0xab, 2, 3]);
	expect(String(mac)).toBe("52:54:00:ab:02:03");
});

test.each([
	["", "six hexadecimal bytes"],
	["52:54:00:01:02", "six hexadecimal bytes"],
	["52:54:00:01:02:0g", "six hexadecimal bytes"],
	["52-54-00-01-02-03", "six hexadecimal bytes"],
	["01:00:5e:00:00:01", "it is a multicast address"],
	["ff:ff:ff:ff:ff:ff", "it is a multicast address"],
	["00:00:00:00:00:00", "it is no address of an interface"],
])("MacAddress.parse refuses %j: %s", (text, why) => {
	expect(() => MacAddress.parse(text)).toThrow(
		expect.objectContaining({ code: "ERR_CONFIG_NET", message: expect.stringContaining(why) }),
	);
});

test("MacAddress.derive gives each seed a local unicast address of its own, always the same", () => {
	const [one, other] = [MacAddress.derive("tap0"), MacAddress.derive("tap1")];
	expect(one).toEqual(MacAddress.derive("tap0"));
	expect(one).not.toEqual(other);
	expect([one.bytes[0]! & 3, other.bytes[0]! & 3, one.bytes.length]).toEqual([2, 2, 6]);
	expect(MacAddress.parse(String(one))).toEqual(one);
});
