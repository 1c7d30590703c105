/*
 * What people run in containers, from Debian's packages: nginx, redis and a registry behind published ports, asked by
 * another container; Python and node; PostgreSQL on a volume, whose supervisor is killed in the middle of its work.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";

/* All of it runs on an emulated processor. */
vi.setConfig({ testTimeout: 900_000, hookTimeout: 600_000 });

const PORTS = { http: 8080, redis: 6380, registry: 5001 };
/** For scripts in the lab. */
const tsvmm = `${process.execPath} ${join(packageRoot(), "dist/tsvmm.js")}`;
const POSTGRES = "/usr/lib/postgresql/15/bin";
/** The lab, as a container sees it that may use its loopback: there are the published ports. */
const HOST = "10.0.2.2";

let lab: LabCommands;
let image: string;
beforeAll(async () => {
	image = await ensureDemoImage("debian-servers");
	lab = LabCommands.up();
	const servers = `
		head -c 300000 /dev/urandom >/var/www/html/large
		cd /tmp && printf 'version: 0.1\\nstorage: {filesystem: {rootdirectory: /srv}}\\nhttp: {addr: ":5000"}\\n' >registry.yml
		nginx && redis-server --daemonize yes --bind 0.0.0.0 --protected-mode no --appendonly yes --dir /srv >/dev/null
		exec docker-registry serve registry.yml`;
	const ports = [`${PORTS.http}:80`, `${PORTS.redis}:6379`, `${PORTS.registry}:5000`].flatMap((port) => ["-p", port]);
	lab.must("run", "-q", "-d", "--name", "servers", ...ports, image, "sh", "-c", servers);
	lab.must("run", "-q", "-d", "--name", "client", "--net", "user,host-loopback=on", image, "sleep", "infinity");
});
afterAll(() => lab?.down());

test("nginx answers a load generator in another container, byte for byte", () => {
	const url = `http://${HOST}:${PORTS.http}`;
	const report = lab.inContainer("client", `ab -q -k -c 8 -n 50 ${url}/ && ab -q -c 4 -n 8 ${url}/large`);
	expect(report.match(/^Complete requests: +(\d+)$/gm)).toEqual([
		expect.stringMatching(/ 50$/),
		expect.stringMatching(/ 8$/),
	]);
	expect(report.match(/^Failed requests: +0$/gm)).toHaveLength(2);
	expect(report).not.toContain("Non-2xx");
	const sum = lab.inContainer("client", `curl -s ${url}/large | sha256sum`);
	expect(lab.inContainer("servers", "sha256sum </var/www/html/large")).toBe(sum);
});

test("redis answers redis-benchmark, and has what it was given after a restart of its container", () => {
	const redis = `-h ${HOST} -p ${PORTS.redis}`;
	const script = `redis-benchmark ${redis} -n 200 -c 10 -r 100 -t set,get,lpush -q --csv && redis-cli ${redis} set kept 42`;
	const rows = lab.inContainer("client", script).trim().split("\n");
	expect(rows.map((row) => row.split(",")[0])).toEqual(['"test"', '"SET"', '"GET"', '"LPUSH"', "OK"]);
	const before = lab.inContainer("client", `redis-cli ${redis} dbsize`);
	lab.must("restart", "-t", "30", "servers");
	const after = `until redis-cli ${redis} ping | grep -q PONG; do sleep 1; done; redis-cli ${redis} get kept; redis-cli ${redis} dbsize`;
	expect(lab.inContainer("client", after)).toBe(`42\n${before}`);
});

test("Python and node programs use threads, processes, sockets and files", () => {
	const python = `
import socket, subprocess, sys, threading
server = socket.create_server(("127.0.0.1", 0))
def serve():
    connection, _ = server.accept()
    while data := connection.recv(65536): connection.sendall(data)
threading.Thread(target=serve, daemon=True).start()
client = socket.create_connection(server.getsockname())
client.sendall(b"x" * 100000)
got = 0
while got < 100000: got += len(client.recv(65536))
print(got, subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout.strip())`;
	expect(lab.must("exec", "client", "python3", "-c", python)).toBe("100000 42\n");
	const node = `
const { Worker } = require("node:worker_threads");
const { createHash } = require("node:crypto");
const http = require("node:http"), fs = require("node:fs/promises");
const server = http.createServer((request, response) => request.pipe(response)).listen(0, async () => {
	const answer = await fetch("http://127.0.0.1:" + server.address().port, { method: "POST", body: "echo" });
	await fs.writeFile("/tmp/node", await answer.text());
	const digest = createHash("md5").update(await fs.readFile("/tmp/node")).digest("hex");
	new Worker("require('node:worker_threads').parentPort.postMessage(7)", { eval: true }).on("message", (seven) => {
		console.log(digest, seven);
		server.close();
		server.closeAllConnections();
	});
});`;
	expect(lab.must("exec", "client", "node", "-e", node)).toBe("cbb11ed87dc8a95d81400c7f33c7c171 7\n");
});

test("a registry in a container takes an image and gives it back", () => {
	const name = `127.0.0.1:${PORTS.registry}/library/busybox:1`;
	const script = `
		set -e
		${tsvmm} save busybox >/run/busybox.tar
		export TSVMM_CACHE=/run/tsvmm-state/cache
		${tsvmm} load -q -i /run/busybox.tar
		${tsvmm} tag busybox ${name}
		${tsvmm} push -q --insecure ${name}
		${tsvmm} image ls -q --no-trunc
		${tsvmm} image rm -f ${name} busybox >/dev/null
		${tsvmm} pull -q --insecure ${name}
		${tsvmm} image ls -q --no-trunc`;
	const [before, , pulled, after] = lab.inLab(script).trim().split("\n").slice(-4);
	expect(pulled).toBe(name);
	expect(after).toBe(before);
});

test("cp takes a tar of five thousand files in and out, hash for hash", () => {
	const tree = join(lab.directory, "tree");
	for (let i = 0; i < 50; i++) {
		mkdirSync(join(tree, `${i}`), { recursive: true });
		for (let j = 0; j < 100; j++) writeFileSync(join(tree, `${i}/${j}`), `${i} ${j}\n`.repeat(j));
	}
	symlinkSync("0/1", join(tree, "link"));
	const hashes = "find . -type f -exec sha256sum {} + | sort -k2 | sha256sum";
	const here = (directory: string) => execFileSync("sh", ["-c", hashes], { cwd: directory, encoding: "utf8" });
	const tar = execFileSync("tar", ["-cC", lab.directory, "tree"], { maxBuffer: 256 << 20 });
	lab.bytes(["cp", "-q", "-", "client:/srv"], tar);
	expect(lab.inContainer("client", `cd /srv/tree && ${hashes}; find . -type f | wc -l; cat link`)).toBe(
		`${here(tree)}5000\n0 1\n`,
	);
	const back = join(lab.directory, "back");
	mkdirSync(back);
	execFileSync("tar", ["-xC", back], { input: lab.bytes(["cp", "-q", "client:/srv/tree", "-"]) });
	expect(here(join(back, "tree"))).toBe(here(tree));
});

test("PostgreSQL on a volume loses nothing that it has acknowledged when its supervisor is killed", async () => {
	lab.must("rm", "-f", "client");
	/* The database that the package has made, because initdb takes minutes here. */
	lab.must("volume", "create", "data");
	lab.inLab(`
		cd "$(${tsvmm} volume inspect -f '{{.Mountpoint}}' data)"
		${tsvmm} cp -q servers:/var/lib/postgresql/15/main - | tar -xp --numeric-owner --strip-components=1
		echo local all all trust >pg_hba.conf
		echo 'max_connections = 10' >postgresql.conf
		touch pg_ident.conf`);
	const serve = `
		mkdir -p /var/run/postgresql && chown postgres /var/run/postgresql /data && chmod 700 /data
		exec setpriv --reuid=postgres --regid=postgres --init-groups ${POSTGRES}/postgres -D /data`;
	lab.must("run", "-q", "-d", "--name", "db", "--net", "none", "-v", "data:/data", image, "sh", "-c", serve);
	const psql = `${POSTGRES}/psql -qAt -U postgres`;
	const ready = `until ${POSTGRES}/pg_isready -q; do sleep 1; done`;
	lab.inContainer("db", ready);
	/* pgbench's own tables and transaction, with fewer accounts: filling its own takes minutes, too. */
	const tables = `
		create table acknowledged (n int);
		create table accounts (id int primary key, balance int);
		create table tellers (id int primary key, balance int);
		create table history (teller int, account int, delta int);
		insert into accounts select n, 0 from generate_series(1, 500) n;
		insert into tellers select n, 0 from generate_series(1, 10) n;`;
	const transaction = `
		\\set account random(1, 500)
		\\set teller random(1, 10)
		\\set delta random(-5000, 5000)
		begin;
		update accounts set balance = balance + :delta where id = :account;
		update tellers set balance = balance + :delta where id = :teller;
		insert into history values (:teller, :account, :delta);
		end;`;
	lab.must("exec", "db", ...psql.split(" "), "-c", tables);
	lab.inContainer("db", `cat >/tmp/transaction.sql <<'END'${transaction.replaceAll("\t", "")}\nEND`);
	const bench = `${POSTGRES}/pgbench -U postgres -n -f /tmp/transaction.sql -c 2`;
	expect(lab.inContainer("db", `${bench} -t 10 postgres`)).toContain("transactions actually processed: 20/20");

	lab.must("exec", "-d", "db", "sh", "-c", `${bench} -T 600 postgres`);
	const client = lab.start("exec", "-i", "db", ...psql.split(" "));
	const rows = Array.from({ length: 20_000 }, (_, n) => `insert into acknowledged values (${n}) returning n;\n`);
	/* It is killed in the middle of them. */
	client.stdin.on("error", () => undefined).end(rows.join(""));
	let heard = "";
	await new Promise<void>((resolve, reject) => {
		client.stdout.setEncoding("utf8").on("data", (text: string) => {
			heard += text;
			if (heard.split("\n").length > 50) resolve();
		});
		client.once("close", () => reject(new Error(`psql has ended: ${heard}`)));
	});
	const closed = new Promise((resolve) => client.once("close", resolve));
	lab.inLab(`kill -9 ${lab.must("inspect", "-f", "{{.State.Pid}}", "db")}`);
	await closed;
	const acknowledged = heard.split("\n").slice(0, -1).map(Number);

	expect(lab.must("ps", "-a", "--filter", "name=db", "--format", "{{.Status}}")).toMatch(/^Exited \(137\)/);
	lab.must("start", "db");
	lab.inContainer("db", ready);
	expect(lab.run(["logs", "db"]).stderr).toContain("automatic recovery in progress");
	const kept = lab.inContainer("db", `${psql} -c 'select n from acknowledged'`).trim().split("\n");
	expect(kept.map(Number)).toEqual(expect.arrayContaining(acknowledged));
	/* A transaction that pgbench has made is there as a whole or not at all. */
	const sums = ["balance) from accounts", "balance) from tellers", "delta) from history"];
	const queries = sums.map((sum) => `-c 'select sum(${sum}'`).join(" ");
	const [accounts, tellers, history] = lab.inContainer("db", `${psql} ${queries}`).trim().split("\n");
	expect([tellers, history]).toEqual([accounts, accounts]);
	lab.must(
		"exec",
		"-u",
		"postgres",
		"db",
		`${POSTGRES}/pg_amcheck`,
		"--install-missing",
		"-t",
		"accounts",
		"-t",
		"history",
		"postgres",
	);
});
