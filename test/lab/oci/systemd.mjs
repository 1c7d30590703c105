/*
 * In the lab: a systemd with a bus, and a program as a service of it. It is the first process of a namespace of its own,
 * where the program's processes are, too: systemd knows them by their numbers there.
 *
 *     node systemd.mjs PROGRAM [ARGUMENT...]       prints what the program prints
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";

const home = "/run/systemd-test";
const units = `${home}/units`;
const words = process.argv.slice(2);

/** Of systemd's own units it has none. */
function writeUnits() {
	mkdirSync(units, { recursive: true });
	const write = (name, lines) =>
		writeFileSync(`${units}/${name}`, `[Unit]\nDefaultDependencies=no\n${lines.join("\n")}\n`);
	const quoted = (word) => JSON.stringify(word.replaceAll("%", "%%").replaceAll("$", "$$$$"));
	const environment = ["PATH", "HOME", "TSVMM_CACHE"].filter((name) => process.env[name] !== undefined);
	write("dbus.socket", ["[Socket]", "ListenStream=/run/dbus/system_bus_socket"]);
	write("dbus.service", [
		...["Requires=dbus.socket", "[Service]", "Type=notify"],
		"ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation",
	]);
	write("play.service", [
		...["Requires=dbus.service", "After=dbus.service", "FailureAction=exit-force", "SuccessAction=exit-force"],
		...[
			"[Service]",
			"Type=oneshot",
			...environment.map((name) => `Environment=${quoted(`${name}=${process.env[name]}`)}`),
		],
		`WorkingDirectory=${process.cwd()}`,
		`ExecStart=${words.map(quoted).join(" ")}`,
		...[`StandardOutput=file:${home}/stdout`, `StandardError=file:${home}/stderr`],
	]);
	write("play.target", ["Requires=play.service"]);
}

writeUnits();
execFileSync("/bin/sh", ["-ec", "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup"]);
const own = ["--fork", "--pid", "--mount", "--cgroup", "--mount-proc"];
const systemd = ["/lib/systemd/systemd", "--system", "--unit=play.target", "--log-target=console", "--show-status=0"];
try {
	execFileSync("unshare", [...own, ...systemd], {
		env: { container: "lab", SYSTEMD_UNIT_PATH: units, PATH: process.env.PATH },
		stdio: ["ignore", 2, 2],
	});
} finally {
	for (const name of ["stderr", "stdout"])
		if (existsSync(`${home}/${name}`)) process[name].write(readFileSync(`${home}/${name}`));
}
