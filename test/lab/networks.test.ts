/*
 * Containers on a network of their own, as a user of Docker has them; one lab for all.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { buildAgent } from "../agent/native-agent.ts";

const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-net-"));
const env = { ...process.env, TSVMM_RUNTIME: `${directory}/run`, TSVMM_STATE: `${directory}/state` };
let image: string;

const tsvmm = (...args: string[]) =>
	execFileSync(process.execPath, [program, ...args], { env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

function failing(...args: string[]) {
	const { status, stderr } = spawnSync(process.execPath, [program, ...args], { env, encoding: "utf8" });
	return { status, stderr };
}

beforeAll(async () => {
	buildAgent();
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
	image = await ensureDemoImage("busybox");
});
afterAll(() => {
	execFileSync(process.execPath, [program, "lab", "down"], { env });
	rmSync(directory, { recursive: true, force: true });
});

test("containers on a network reach each other by name, and what one leaves is free for another", () => {
	const id = tsvmm("network", "create", "--subnet", "10.77.9.0/24", "blue").trim();
	expect(id).toMatch(/^[0-9a-f]{64}$/);
	expect(tsvmm("network", "ls")).toMatch(/^NETWORK ID +NAME +DRIVER +SCOPE\n[0-9a-f]{12} +blue +switch +local\n$/);
	const web = ["--name", "web", "--network", "blue", "--network-alias", "www", "-h", "server"];
	tsvmm("run", "-q", "-d", ...web, image, "httpd", "-f", "-h", "/etc");
	tsvmm("run", "-q", "-d", "--name", "client", "--network", "blue", image, "sleep", "10000");
	const script = `
		for name in web www server 10.77.9.2; do wget -q -O - http://$name/hostname; done
		ping -c 1 -W 20 web >/dev/null && echo echoed
		nslookup -type=a client | grep '10.77.9.3$'`;
	expect(tsvmm("exec", "client", "sh", "-c", script)).toBe(`${"server\n".repeat(4)}echoed\nAddress: 10.77.9.3\n`);
	expect(tsvmm("ps", "-q", "--filter", "network=blue").trim().split("\n")).toHaveLength(2);
	const format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}";
	expect(tsvmm("inspect", "-f", format, "web")).toBe("10.77.9.2 10.77.9.1\n");
	expect(failing("network", "rm", "blue")).toMatchObject({
		status: 125,
		stderr: expect.stringMatching(/ERR_NETWORK_BUSY/),
	});

	const pid = tsvmm("inspect", "-f", "{{.State.Pid}}", "web").trim();
	tsvmm("lab", "exec", "--", "kill", "-9", pid);
	expect(failing("exec", "client", "sh", "-c", "nslookup web | grep '10.77.9.2$'").status).toBe(1);
	tsvmm("run", "-q", "-d", "--name", "other", "--network", "blue", "--ip", "10.77.9.2", image, "sleep", "10000");
	const members = tsvmm("network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}};{{end}}", "blue");
	expect(members.trim().split(";").sort()).toEqual(["", "client 10.77.9.3/24", "other 10.77.9.2/24"]);
	const taken = failing("run", "-q", "--rm", "--network", "blue", "--ip", "10.77.9.3", image, "true");
	expect(taken).toMatchObject({ status: 125, stderr: expect.stringMatching(/10\.77\.9\.3.*it is taken/) });

	tsvmm("rm", "-f", "client", "other", "web");
	expect(tsvmm("network", "rm", "blue")).toBe("blue\n");
	expect(failing("run", "-q", "--rm", "--network", "blue", image, "true")).toMatchObject({ status: 125 });
});

test("a container is on several networks, and is put on them and taken off while it runs", () => {
	tsvmm("network", "create", "--subnet", "10.77.10.0/24", "red");
	tsvmm("network", "create", "--subnet", "10.77.11.0/24", "green");
	const run = (name: string, ...words: string[]) => tsvmm("run", "-q", "-d", "--name", name, ...words);
	run("shop", "--network", "green", "-h", "shop", image, "httpd", "-f", "-h", "/etc");
	run("both", "--network", "red", "--network", "name=green,ip=10.77.11.9,alias=bridge", image, "sleep", "10000");
	run("late", "--network", "red", image, "sleep", "10000");
	const addresses = "ip -o -4 addr show | awk '$2 != \"lo\" { print $2, $4 }'";
	const page = "wget -q -O - http://shop/hostname";
	const reaches = "ping -c 1 -W 20 $1 >/dev/null && echo reached $1";
	const inside = (name: string, script: string, ...words: string[]) =>
		tsvmm("exec", name, "sh", "-c", script, "sh", ...words);
	expect(inside("both", `${addresses}; ${page}`)).toBe("eth0 10.77.10.2/24\neth1 10.77.11.9/24\nshop\n");
	expect(inside("both", reaches, "late")).toBe("reached late\n");
	expect(inside("shop", reaches, "bridge")).toBe("reached bridge\n");
	expect(failing("exec", "late", "sh", "-c", page).status).toBe(1);

	tsvmm("network", "connect", "--alias", "newcomer", "green", "late");
	expect(inside("late", `${addresses}; ${page}`)).toBe("eth0 10.77.10.3/24\neth1 10.77.11.3/24\nshop\n");
	expect(inside("late", reaches, "both")).toBe("reached both\n");
	expect(inside("shop", reaches, "newcomer")).toBe("reached newcomer\n");
	expect(failing("network", "connect", "green", "late")).toMatchObject({
		status: 125,
		stderr: expect.stringMatching(/ERR_NETWORK_CONNECTED/),
	});

	tsvmm("network", "disconnect", "red", "late");
	const route = "ip route | sed -n 's/ dev.*//; s/default //p'";
	expect(inside("late", `${addresses}; ${route}; ${page}`)).toBe("eth1 10.77.11.3/24\nvia 10.77.11.1\nshop\n");
	expect(failing("exec", "both", "ping", "-c", "1", "-W", "20", "10.77.10.3").status).toBe(1);
	const networks = "{{range $name, $at := .NetworkSettings.Networks}}{{$name}} {{$at.IPAddress}};{{end}}";
	expect(tsvmm("inspect", "-f", networks, "late")).toBe("green 10.77.11.3;\n");
	const members = "{{range .Containers}}{{.Name}};{{end}}";
	expect(tsvmm("network", "inspect", "-f", members, "red")).toBe("both;\n");

	tsvmm("network", "connect", "--ip", "10.77.10.7", "red", "late");
	expect(inside("late", addresses)).toBe("eth1 10.77.11.3/24\neth0 10.77.10.7/24\n");
	tsvmm("restart", "-t", "0", "late");
	expect(inside("late", `${addresses}; ${page}`)).toBe("eth0 10.77.11.3/24\neth1 10.77.10.7/24\nshop\n");
	expect(tsvmm("inspect", "-f", networks, "late")).toBe("green 10.77.11.3;red 10.77.10.7;\n");
	tsvmm("rm", "-f", "shop", "both", "late");
	tsvmm("network", "rm", "red", "green");
});

/** A UDP socket of this machine. */
async function udpSocket(port = 0): Promise<Socket> {
	const socket = createSocket("udp4");
	socket.bind(port, "127.0.0.1");
	await once(socket, "listening");
	return socket;
}

/** The first of two free UDP ports in a row. */
async function twoPorts(): Promise<number> {
	for (;;) {
		const first = await udpSocket();
		const { port } = first.address();
		const second = await udpSocket(port + 1).catch(() => undefined);
		first.close();
		second?.close();
		if (second !== undefined) return port;
	}
}

test("UDP ports, a range among them, lead from this machine to a container", async () => {
	execFileSync("musl-gcc", [
		"-static",
		"-O2",
		"-o",
		`${directory}/udp-echo`,
		join(packageRoot(), "test/lab/udp-echo.c"),
	]);
	const port = await twoPorts();
	const range = `127.0.0.1:${port}-${port + 1}:7000-7001/udp`;
	const words = ["run", "-q", "--rm", "--name", "echo", "-p", range, "-v", `${directory}/udp-echo:/udp-echo:ro`, image];
	const child = spawn(process.execPath, [program, ...words, "/udp-echo", "7000", "7001"], { env, stdio: "inherit" });
	const ended = once(child, "close");
	const client = await udpSocket();
	const answers = new Set<string>();
	client.on("message", (message) => answers.add(`${message}`));
	/* Datagrams that come too early are lost: again until both have been answered. */
	const sending = setInterval(() => {
		client.send("a", port, "127.0.0.1");
		client.send("b", port + 1, "127.0.0.1");
	}, 500);
	await expect.poll(() => [...answers].sort(), { timeout: 300_000 }).toEqual(["7000 a", "7001 b"]);
	clearInterval(sending);
	client.close();
	expect(tsvmm("port", "echo")).toBe(`7000/udp -> 127.0.0.1:${port}\n7001/udp -> 127.0.0.1:${port + 1}\n`);
	tsvmm("kill", "echo");
	await ended;
});

test("a guest's own DHCP client gets the address that its network has for it", () => {
	tsvmm("network", "create", "--subnet", "10.77.12.0/24", "lease");
	const script = `
		ip addr flush dev eth0; ip route flush default 2>/dev/null; ip -o -4 addr show dev eth0
		printf '%s\\n' '#!/bin/sh' 'set | grep -E "^(ip|subnet|router|dns|mtu|lease|serverid)="' \
			'[ "$1" = bound ] && ifconfig eth0 $ip netmask $subnet && route add default gw $router' >/script
		chmod +x /script
		udhcpc -i eth0 -n -q -f -t 5 -T 20 -s /script 2>/dev/null | tr -d "'" | sort -u
		ip -o -4 addr show dev eth0 | awk '{ print $4 }'
		nslookup -type=a asker | grep '10.77.12.7$'`;
	const words = ["run", "-q", "--rm", "--name", "asker", "--network", "lease", "--ip", "10.77.12.7"];
	expect(tsvmm(...words, "--cap-add", "NET_ADMIN", image, "sh", "-c", script).split("\n")).toEqual([
		"dns=10.77.12.254",
		"ip=10.77.12.7",
		"lease=3600",
		"mtu=65520",
		"router=10.77.12.1",
		"serverid=10.77.12.254",
		"subnet=255.255.255.0",
		"10.77.12.7/24",
		"Address: 10.77.12.7",
		"",
	]);
	tsvmm("network", "rm", "lease");
});

test("containers on a bridge of the host reach each other and the host, and kill -9 of their machines leaves nothing", async () => {
	const inLab = (script: string) => tsvmm("lab", "exec", "-q", "--", "sh", "-c", script);
	inLab("ip link add br-t type bridge; ip addr add 10.77.13.1/24 dev br-t; ip link set br-t up");
	const run = (name: string, address: string) => {
		const network = ["--network", "bridge=br-t", "--ip", `${address}/24`, "--gateway", "10.77.13.1"];
		tsvmm("run", "-q", "-d", "--name", name, ...network, image, "sleep", "10000");
	};
	run("left", "10.77.13.5");
	run("right", "10.77.13.6");
	const onBridge = () => inLab("ip -br link show master br-t").trim().split("\n").filter(Boolean);
	expect(onBridge()).toHaveLength(2);
	const reaches =
		"for to in 10.77.13.6 10.77.13.1; do ping -c 1 -W 20 $to >/dev/null && echo $to; done; ip route | head -1";
	expect(tsvmm("exec", "left", "sh", "-c", reaches)).toBe("10.77.13.6\n10.77.13.1\ndefault via 10.77.13.1 dev eth0 \n");
	const pids = ["left", "right"].map((name) => tsvmm("inspect", "-f", "{{.State.Pid}}", name).trim());
	inLab(`kill -9 ${pids.join(" ")}`);
	await expect.poll(onBridge, { timeout: 60_000 }).toEqual([]);
	expect(tsvmm("start", "left")).toBe("left\n");
	expect(onBridge()).toHaveLength(1);
	tsvmm("rm", "-f", "left", "right");
	expect(onBridge()).toEqual([]);
	inLab("ip link del br-t");
});
