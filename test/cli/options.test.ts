import { expect, test } from "vitest";
import { UsageError } from "../../src/base/errors.ts";
import {
	parseConsole,
	parseCpus,
	parseDisk,
	parseFs,
	parseMemory,
	parseNet,
	parsePort,
	parseVsock,
} from "../../src/cli/options.ts";
import { parseTrace, traceConfig } from "../../src/cli/trace-flags.ts";

/** Every refusal is a UsageError with the code of its option, and quotes what was written. */
function refuses(parse: (text: string) => unknown, code: string, texts: readonly string[]): void {
	for (const text of texts) {
		let error: unknown;
		try {
			parse(text);
		} catch (caught) {
			error = caught;
		}
		expect(error, text).toBeInstanceOf(UsageError);
		expect(error).toMatchObject({ code, message: expect.stringContaining(`"${text}"`) });
	}
}

test("parseMemory takes units as Docker does, and whole MiB only", () => {
	const good = { "512M": 512, "512m": 512, "512MiB": 512, "2G": 2048, "2gb": 2048, "1.5G": 1536, "1T": 2 ** 20 };
	for (const [text, mib] of Object.entries(good)) expect(parseMemory(text)).toBe(mib);
	expect(parseMemory("1073741824")).toBe(1024);
	expect(parseMemory("65536k")).toBe(64);
	expect(parseMemory(" 64M ")).toBe(64);
	expect(parseMemory("0M")).toBe(0);
	refuses(parseMemory, "ERR_OPTION_MEMORY", [
		...["", "M", "-1M", "+1M", "1e3M", "0x10M", "512", "1.5M", "64k", "1P", "1 G", "1,5G", "NaN", "Infinity"],
		"99999999999999999999T",
	]);
});

test("parseCpus takes digits", () => {
	expect(parseCpus("1")).toBe(1);
	expect(parseCpus("032")).toBe(32);
	refuses(parseCpus, "ERR_OPTION_CPUS", ["", "-1", "+1", "1.0", "1e1", "0x2", " 2", "two", "9".repeat(20)]);
});

test("parseDisk takes a path, ro, rw, id and queues", () => {
	expect(parseDisk("a.img")).toEqual({ path: "a.img", readOnly: false });
	expect(parseDisk("a.img,ro,id=data")).toEqual({ path: "a.img", readOnly: true, id: "data" });
	expect(parseDisk("a,format=qcow2")).toEqual({ path: "a", readOnly: false, format: "qcow2" });
	expect(parseDisk("a.img,direct=on")).toEqual({ path: "a.img", readOnly: false, direct: true });
	expect(parseDisk("a.img,queues=4")).toEqual({ path: "a.img", readOnly: false, queues: 4 });
	expect(parseDisk("a.img,ro,rw")).toEqual({ path: "a.img", readOnly: false });
	expect(parseDisk("a,,b=c.img,ro")).toEqual({ path: "a,b=c.img", readOnly: true });
	expect(parseDisk("a,id=x,,y=z")).toEqual({ path: "a", readOnly: false, id: "x,y=z" });
	refuses(parseDisk, "ERR_OPTION_DISK", [
		"",
		",ro",
		"a,",
		"a,RO",
		"a,ro=1",
		"a,id",
		"a,id=",
		"a,size=1",
		"a,queues=",
		"a,queues=x",
		"a,direct",
		"a,direct=yes",
		"a,format=vmdk",
	]);
});

test("parseFs takes a tag and a path, ro, cache and id", () => {
	expect(parseFs("tag=home,path=/home/me")).toEqual({ tag: "home", path: "/home/me" });
	expect(parseFs("path=a,,b,tag=x,ro,cache=none,id=y")).toEqual({
		...{ tag: "x", path: "a,b", readOnly: true },
		...{ cache: "none", id: "y" },
	});
	refuses(parseFs, "ERR_OPTION_FS", [
		...["", "tag=x", "path=/x", "/x", "tag=,path=/x", "tag=x,path=/x,cache=some", "tag=x,path=/x,ro=1"],
		"tag=x,path=/x,socket=y",
	]);
});

test("parseNet takes user, none or a tap, and what belongs to each", () => {
	expect(parseNet("none")).toBeUndefined();
	expect(parseNet("user")).toEqual({ kind: "user" });
	expect(parseNet("tap=tap0,mac=52:54:00:12:34:56")).toEqual({ kind: "tap", name: "tap0", mac: "52:54:00:12:34:56" });
	expect(parseNet("tap=tap0,offload=off")).toEqual({ kind: "tap", name: "tap0", offload: false });
	expect(parseNet("bridge=br0,offload=on")).toEqual({ kind: "bridge", name: "br0", offload: true });
	expect(parseNet("bridge=br0")).toEqual({ kind: "bridge", name: "br0" });
	expect(parseNet("user,port=8080:80,port=5353:53/udp")).toEqual({
		kind: "user",
		ports: [
			{ hostPort: 8080, guestPort: 80, protocol: "tcp" },
			{ hostPort: 5353, guestPort: 53, protocol: "udp" },
		],
	});
	expect(parseNet("user,host-loopback=on")).toEqual({ kind: "user", hostLoopback: true });
	expect(parseNet("user,host-loopback=on,host-loopback=off")).toEqual({ kind: "user", hostLoopback: false });
	refuses(parseNet, "ERR_OPTION_NET", [
		...["", "tap", "tap=", "user=x", "none=x", "none,mac=52:54:00:12:34:56", "bridge=", "user,", "user,mac"],
		...["user,mac=", "tap=x,port=1:1", "tap=x,vhost", "tap=x,offload", "user,offload=off"],
		...["user,host-loopback", "user,host-loopback=", "user,host-loopback=yes", "tap=x,host-loopback=on"],
	]);
});

test("parsePort takes Docker's -p", () => {
	expect(parsePort("8080:80")).toEqual({ hostPort: 8080, guestPort: 80, protocol: "tcp" });
	expect(parsePort("127.0.0.1:1:65535/udp")).toEqual({
		hostAddress: "127.0.0.1",
		hostPort: 1,
		guestPort: 65535,
		protocol: "udp",
	});
	refuses(parsePort, "ERR_OPTION_PORT", [
		...["", "80", ":80", "80:", "0:80", "80:0", "65536:80", "80:65536", "-1:80", "80:80/icmp", "a:b", "1:2:3:4"],
		"localhost:80:80",
	]);
});

test("parseVsock wants cid and uds, each once", () => {
	expect(parseVsock("cid=3,uds=/run/v.sock")).toEqual({ cid: 3, uds: "/run/v.sock" });
	expect(parseVsock("uds=a,,b,cid=4294967294")).toEqual({ cid: 4294967294, uds: "a,b" });
	refuses(parseVsock, "ERR_OPTION_VSOCK", [
		...["", "cid=3", "uds=x", "cid=3,uds=", "cid=,uds=x", "cid=-3,uds=x", "cid=0x3,uds=x", "cid=3,uds=x,y=z"],
		...["cid=3,cid=4,uds=x", "3,x"],
	]);
});

test("parseConsole takes stdio, none and a file", () => {
	expect(parseConsole("stdio")).toEqual({ kind: "stdio" });
	expect(parseConsole("none")).toEqual({ kind: "none" });
	expect(parseConsole("file=a=b,c")).toEqual({ kind: "file", path: "a=b,c" });
	refuses(parseConsole, "ERR_OPTION_CONSOLE", ["", "file", "file=", "STDIO", "/dev/pts/1", "none,"]);
});

test("parseTrace takes a list, or all", () => {
	expect(parseTrace("exits,pio")).toEqual(["exits", "pio"]);
	expect(parseTrace("all,blk0,device=my-device")).toEqual(["all", "blk0", "device=my-device"]);
	refuses(parseTrace, "ERR_OPTION_TRACE", ["", "PIO", "dma", "blkx", "disk0"]);
	expect(() => parseTrace("pio,")).toThrow('Cannot trace ""');
});

test("traceConfig prints events, or writes them to files whose names say the format", () => {
	expect(traceConfig({ traceFile: [] })).toEqual({});
	expect(traceConfig({ trace: "exits", traceFile: [] })).toEqual({ trace: ["exits"] });
	expect(traceConfig({ traceFile: ["a.jsonl", "b.json"] })).toEqual({
		traceFiles: [{ path: "a.jsonl" }, { path: "b.json" }],
	});
	expect(traceConfig({ trace: "net", traceFile: ["n.pcapng"] })).toEqual({
		traceFiles: [{ path: "n.pcapng", events: ["net"] }],
	});
	refuses((text) => traceConfig({ traceFile: [text] }), "ERR_TRACE_FORMAT", ["", "trace", "trace.txt", "trace.pcap"]);
});
