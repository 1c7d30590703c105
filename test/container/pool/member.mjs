/*
 * Stands in for the process of a machine in a pool: node member.mjs SOCKET HOW
 *
 *     "waits"    says that it is ready, and is taken by the first connection; then it runs until its input ends
 *     "fails"    says why and ends
 *     "deaf"     is ready and does not end with its pool
 */
import { rmSync } from "node:fs";
import { createServer, Socket } from "node:net";

const [path, how] = process.argv.slice(2);
if (how === "fails") {
	console.error("tsvmm: error: Cannot make a machine of a pool: no luck [ERR_GUEST_ENDED]");
	process.exit(125);
}
const pool = new Socket({ fd: 3, readable: true, writable: true });
let isTaken = false;
pool.on("error", () => undefined).resume();
pool.on("end", () => {
	if (how !== "deaf" && !isTaken) process.exit(0);
});
const server = createServer((taker) => {
	isTaken = true;
	pool.write("taken\n");
	rmSync(path);
	taker.on("close", () => process.exit(0)).resume();
	taker.write(`${process.pid}\n`, () => pool.end());
});
server.listen(path, () => pool.write("ready\n"));
